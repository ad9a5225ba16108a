"""From records to a table: means with intervals for each quantity and method, and curves with bands."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from captum_clrp.evaluation.metrics import Curve, Measured, PerImageMetric
from captum_clrp.evaluation.results.records import Record, without_nan
from captum_clrp.evaluation.statistics import DRAWS, Array, Average, Means, bootstrap
from captum_clrp.tables import text_table

BASELINE = "lrp"
"""The method that others are compared with, where it takes part."""


@dataclass(frozen=True)
class Row:
    """A quantity of a method.

    Attributes:
        quantity: What was measured.
        method: Whose maps were measured.
        mean: Mean; NaN where nothing was measured.
        low: Lower end of the mean's 95 % interval; NaN where nothing was measured, and of one image.
        high: Upper end, likewise.
        n: Explained classes that it was measured on.
        images: Images that they belong to.
        difference: To another method on the same images; NaN without it.
        difference_low: Lower end of the difference's 95 % interval.
        difference_high: Upper end.
        difference_to: That method, ``BASELINE``; empty without it.
    """

    quantity: str
    method: str
    mean: float
    low: float
    high: float
    n: int
    images: int
    difference: float
    difference_low: float
    difference_high: float
    difference_to: str = ""


@dataclass(frozen=True)
class CurveRow:
    """A curve of a method: means and 95 % band at each position."""

    curve: str
    method: str
    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass
class Summary:
    """What a run gives.

    Attributes:
        metric: Name of the metric.
        rows: Numbers.
        curves: Curves.
        images: Images that were measured, and how many the source has.
        skipped: Classes that were left out, with how often and why.
        extra: Tests and matrices of the metric.
        made_with: Data, network, methods, seeds, versions, commit and cost.
    """

    metric: str
    title: str
    conventions: str
    rows: list[Row]
    curves: list[CurveRow]
    images: dict[str, int]
    skipped: dict[str, int]
    extra: dict[str, Any] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        """All of it; NaN becomes null."""
        return json.dumps(without_nan(asdict(self)), indent=1, allow_nan=False) + "\n"

    def csv(self) -> str:
        """The numbers."""
        return _csv([asdict(row) for row in self.rows], list(Row.__dataclass_fields__))

    def curves_csv(self) -> str:
        """The curves, a line for each position."""
        lines = [
            {"curve": c.curve, "method": c.method, "x": x, "mean": m, "low": low, "high": high}
            for c in self.curves
            for x, m, low, high in zip(c.x, c.mean, c.low, c.high, strict=True)
        ]
        return _csv(lines, ["curve", "method", "x", "mean", "low", "high"])

    def table(self, metric: PerImageMetric) -> str:
        """The numbers as text, methods down and the quantities of the ``metric`` across."""
        methods = list(dict.fromkeys(row.method for row in self.rows))
        cell = {(row.method, row.quantity): row for row in self.rows}
        header = ["", *(q.name + q.note for q in metric.quantities), "images"]
        lines = []
        for method in methods:
            found = [cell[method, q.name] for q in metric.quantities]
            lines.append([method, *(_cell(row) for row in found), str(max(row.images for row in found))])
        return text_table(header, lines, ruled=False)


def _cell(row: Row) -> str:
    """Mean, interval, and the difference to the baseline."""
    interval = "-" if math.isnan(row.low) else f"[{row.low:.4f}, {row.high:.4f}]"
    difference = "" if math.isnan(row.difference) else f" ({BASELINE} {row.difference:+.4f})"
    return f"{row.mean:.4f} {interval}{difference}"


def summarise(
    metric: PerImageMetric,
    records: Sequence[Record],
    *,
    total: int,
    over: Average = "images",
    seed: int = 0,
    draws: int = DRAWS,
) -> Summary:
    """Average records to means with intervals.

    Args:
        metric: What was measured.
        records: One for each image, in the order of the source.
        total: Images in the source.
        over: ``"images"`` or ``"classes"``, which have equal weight.
        seed: Seed of the bootstrap.
        draws: Bootstrap samples.
    """
    found = _Columns(metric, [r.measured for r in records if r.measured])
    averaged = found.average(over, seed, draws)
    return Summary(
        metric=metric.name,
        title=metric.title,
        conventions=metric.conventions,
        rows=[found.row(averaged, method, q.name) for q in metric.quantities for method in found.methods],
        curves=[found.curve(averaged, method, curve) for method in found.methods for curve in metric.curves],
        images={"measured": len(records), "total": total},
        skipped=dict(Counter(reason for record in records for reason in record.skipped)),
        extra=metric.extra([m for record in records for m in record.measured]) | found.area(over),
    )


class _Columns:
    """All numbers of a run: a row for each explained class, a column for each quantity and each point of a curve.

    Args:
        metric: What was measured.
        measured: What was measured on each image, nothing left out.
    """

    def __init__(self, metric: PerImageMetric, measured: Sequence[Sequence[Measured]]) -> None:
        entries = [m for of_image in measured for m in of_image]
        self.images = np.array([i for i, of_image in enumerate(measured) for _ in of_image], dtype=np.int64)
        self.labels = np.array([m.label for m in entries], dtype=np.int64)
        self.methods = list(dict.fromkeys(name for m in entries for name in m.values))
        columns: list[list[float]] = []
        self._areas = [m.area for m in entries]
        self._quantity: dict[tuple[str, str], int] = {}
        self._curve: dict[tuple[str, str], slice] = {}
        for method in self.methods:
            values = [m.values.get(method) for m in entries]
            for q in metric.quantities:
                self._quantity[method, q.name] = len(columns)
                columns.append([math.nan if v is None else v[q.name] for v in values])
            for curve in metric.curves:
                self._curve[method, curve.name] = slice(len(columns), len(columns) + len(curve.x))
                heights = [[math.nan] * len(curve.x) if v is None else curve.of(v) for v in values]
                columns += [[h[k] for h in heights] for k in range(len(curve.x))]
        self.values = np.array(columns, dtype=np.float64).T.reshape(len(entries), len(columns))

    def average(self, over: Average, seed: int, draws: int) -> _Averaged:
        """Means of all columns, with the ends of their intervals."""
        means = bootstrap(self.values, self.images, self.labels, over=over, seed=seed, draws=draws)
        return _Averaged(means, *means.interval())

    def area(self, over: Average) -> dict[str, float]:
        """The mean share of a picture that its object covers, which is what chance finds; nothing where any is not known."""
        known = [area for area in self._areas if area is not None]
        if not known or len(known) < len(self._areas):
            return {}
        column = np.array(known, dtype=np.float64)[:, None]
        return {"area": float(bootstrap(column, self.images, self.labels, over=over, draws=1).mean[0])}

    def row(self, averaged: _Averaged, method: str, quantity: str) -> Row:
        """A quantity of a method; one image has no interval."""
        at = self._quantity[method, quantity]
        measured = ~np.isnan(self.values[:, at])
        images = len(np.unique(self.images[measured]))
        low, high = (float(averaged.low[at]), float(averaged.high[at])) if images > 1 else (math.nan, math.nan)
        difference = (math.nan, math.nan, math.nan)
        other = BASELINE if BASELINE in self.methods and method != BASELINE else ""
        if other:
            difference = averaged.means.difference(at, self._quantity[other, quantity])
            difference = difference if images > 1 else (difference[0], math.nan, math.nan)
        mean = float(averaged.means.mean[at])
        return Row(quantity, method, mean, low, high, int(measured.sum()), images, *difference, other)

    def curve(self, averaged: _Averaged, method: str, curve: Curve) -> CurveRow:
        """A curve of a method."""
        part = self._curve[method, curve.name]
        of_curve = (v[part].tolist() for v in (averaged.means.mean, averaged.low, averaged.high))
        return CurveRow(curve.name, method, list(curve.x), *of_curve)


class _Averaged(NamedTuple):
    means: Means
    low: Array
    high: Array


def _csv(lines: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()} for line in lines
    )
    return text.getvalue()
