"""From records to a table: means with intervals for each quantity and method, and curves with bands."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from captum_clrp.evaluation.experiments import Experiment
from captum_clrp.evaluation.results.records import Record
from captum_clrp.evaluation.statistics import DRAWS, bootstrap

__all__ = ["BASELINE", "Row", "Summary", "summarise"]

BASELINE = "lrp"
"""The method that others are compared with, where it takes part."""


@dataclass(frozen=True)
class Row:
    """A quantity of a method.

    Attributes:
        quantity, method: What was measured with what.
        mean, low, high: Mean and ends of its 95 % interval; NaN where nothing was measured, and of one image.
        n: Explained classes that it was measured on.
        images: Images that they belong to.
        difference, difference_low, difference_high: To ``BASELINE`` on the same images; NaN without it.
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
        metric: Name of the experiment.
        rows: Numbers.
        curves: Curves.
        images: Images that were measured, and how many the source has.
        skipped: Classes that were left out, with how often and why.
        extra: Tests and matrices of the experiment.
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
        return json.dumps(_no_nan(asdict(self)), indent=1, allow_nan=False) + "\n"

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

    def table(self, experiment: Experiment) -> str:
        """The numbers as text, methods down and the quantities of ``experiment`` across."""
        methods = list(dict.fromkeys(row.method for row in self.rows))
        cell = {(row.method, row.quantity): row for row in self.rows}
        lines = [["", *(f"{q.name}{_ARROWS[q.better]}" for q in experiment.quantities), "images"]]
        for method in methods:
            found = [cell[method, q.name] for q in experiment.quantities]
            lines.append([method, *(_cell(row) for row in found), str(max(row.images for row in found))])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _cell(row: Row) -> str:
    """Mean, interval, and the difference to the baseline."""
    interval = "-" if math.isnan(row.low) else f"[{row.low:.4f}, {row.high:.4f}]"
    difference = "" if math.isnan(row.difference) else f" ({BASELINE} {row.difference:+.4f})"
    return f"{row.mean:.4f} {interval}{difference}"


_ARROWS = {"high": " (higher is better)", "low": " (lower is better)", "": ""}


def summarise(
    experiment: Experiment,
    records: Sequence[Record],
    *,
    total: int,
    over: str = "images",
    seed: int = 0,
    draws: int = DRAWS,
) -> Summary:
    """Average records to means with intervals.

    Args:
        experiment: What was measured.
        records: One for each image, in the order of the source.
        total: Images in the source.
        over: ``"images"`` or ``"classes"``, which have equal weight.
        seed: Of the bootstrap.
        draws: Bootstrap samples.
    """
    entries = [(i, m) for i, record in enumerate(r for r in records if r.measured) for m in record.measured]
    methods = list(dict.fromkeys(name for _, m in entries for name in m.values))
    columns: list[list[float]] = []
    for method in methods:
        for q in experiment.quantities:
            columns.append([m.values[method][q.name] if method in m.values else math.nan for _, m in entries])
        for curve in experiment.curves:
            heights = [
                curve.of(m.values[method]) if method in m.values else [math.nan] * len(curve.x) for _, m in entries
            ]
            columns += [[h[k] for h in heights] for k in range(len(curve.x))]
    images = np.array([i for i, _ in entries], dtype=np.int64)
    labels = np.array([m.label for _, m in entries], dtype=np.int64)
    values = np.array(columns, dtype=np.float64).T.reshape(len(entries), len(columns))
    means = bootstrap(values, images, labels, over=over, seed=seed, draws=draws)
    low, high = means.interval()
    width = len(experiment.quantities) + sum(len(c.x) for c in experiment.curves)
    rows, curves = [], []
    for k, method in enumerate(methods):
        for j, q in enumerate(experiment.quantities):
            at = k * width + j
            measured = ~np.isnan(values[:, at])
            several = len(np.unique(images[measured])) > 1  # one image has no interval
            difference = (math.nan,) * 3
            if BASELINE in methods and method != BASELINE:
                difference = means.difference(at, methods.index(BASELINE) * width + j)
            rows.append(
                Row(
                    q.name,
                    method,
                    float(means.mean[at]),
                    *((float(low[at]), float(high[at])) if several else (math.nan, math.nan)),
                    int(measured.sum()),
                    len(np.unique(images[measured])),
                    *(difference if several else (difference[0], math.nan, math.nan)),
                )
            )
        start = k * width + len(experiment.quantities)
        for curve in experiment.curves:
            part = slice(start, start + len(curve.x))
            curves.append(
                CurveRow(
                    curve.name,
                    method,
                    list(curve.x),
                    means.mean[part].tolist(),
                    low[part].tolist(),
                    high[part].tolist(),
                )
            )
            start += len(curve.x)
    order = {q.name: j for j, q in enumerate(experiment.quantities)}
    skipped: dict[str, int] = {}
    for record in records:
        for reason in record.skipped:
            skipped[reason] = skipped.get(reason, 0) + 1
    return Summary(
        metric=experiment.name,
        title=experiment.title,
        conventions=experiment.conventions,
        rows=sorted(rows, key=lambda row: order[row.quantity]),
        curves=curves,
        images={"measured": len(records), "total": total},
        skipped=skipped,
        extra=experiment.extra([r for r in records if r.measured]),
    )


def _csv(lines: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()} for line in lines
    )
    return text.getvalue()


def _no_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
