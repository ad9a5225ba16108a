"""Pictures of a summary: bars with intervals, curves with bands, best and worst examples, and what metrics add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from captum_clrp.evaluation.drawing import colour_of, draw_heat, plain, png, wrapped
from captum_clrp.evaluation.metrics import Bench, PerImageMetric
from captum_clrp.evaluation.results.records import Record
from captum_clrp.evaluation.results.summary import Summary
from captum_clrp.evaluation.sources import Source

__all__ = ["draw_bars", "draw_curve", "draw_examples", "figures"]

_SHOWN = ("gradient", "lrp", "clrp1", "clrp2")
_BANDS = ("gradient", "lrp", "clrp1")
_EXAMPLES = 3
_NARROWEST = 6.4
"""Inches; a title needs room for its words."""


def figures(
    metric: PerImageMetric, summary: Summary, records: Sequence[Record], source: Source, bench: Bench
) -> dict[str, bytes]:
    """All pictures of a run as PNG, by file name."""
    drawn = {"bars.png": draw_bars(metric, summary)}
    for curve in metric.curves:
        drawn[f"{curve.name}.png"] = draw_curve(metric, summary, curve.name)
    drawn |= metric.figures(bench, summary, source[0] if len(source) else None)
    if not metric.chooses_classes and bench.methods is not None:
        examples = draw_examples(metric, records, source, bench)
        drawn |= {"examples.png": examples} if examples else {}
    return drawn


def draw_bars(metric: PerImageMetric, summary: Summary) -> bytes:
    """One panel for each quantity: means of all methods with 95 % intervals."""
    methods = list(dict.fromkeys(row.method for row in summary.rows))
    count = len(metric.quantities)
    across = min(count, 3)
    down = -(-count // across)
    height = 0.9 + 0.27 * max(len(methods), 2)
    width = max(_NARROWEST, 0.4 + 3.4 * across)
    figure = Figure(figsize=(width, 0.3 + height * down), layout="constrained")
    for k, quantity in enumerate(metric.quantities):
        axes = figure.add_subplot(down, across, k + 1)
        rows = [row for row in summary.rows if row.quantity == quantity.name]
        at = np.arange(len(rows))[::-1]
        means = np.array([row.mean for row in rows])
        errors = np.array([[row.mean - row.low, row.high - row.mean] for row in rows]).T.clip(min=0)
        colours = [colour_of(row.method, methods) for row in rows]
        axes.barh(at, means, xerr=errors, color=colours, height=0.7, ecolor="#333333", capsize=2)
        axes.set_yticks(at, [row.method for row in rows] if k % across == 0 else [""] * len(rows), fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(wrapped(quantity.title + quantity.note, 46), fontsize=8)
        plain(axes)
    figure.suptitle(_title(summary, width), fontsize=9)
    return png(figure)


def draw_curve(metric: PerImageMetric, summary: Summary, name: str) -> bytes:
    """A curve of all methods; bands of 95 % where they can be told apart, for a few of them if there are many."""
    curve = next(c for c in metric.curves if c.name == name)
    methods = list(dict.fromkeys(row.method for row in summary.rows))
    figure = Figure(figsize=(_NARROWEST, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for row in summary.curves:
        if row.curve == name:
            colour = colour_of(row.method, methods)
            if len(methods) <= len(_BANDS) or row.method in _BANDS:
                axes.fill_between(row.x, row.low, row.high, color=colour, alpha=0.15, lw=0)
            axes.plot(row.x, row.mean, color=colour, lw=1.8, label=row.method)
    axes.set_xlabel(curve.axis)
    axes.set_ylabel(wrapped(curve.title, 50))
    figure.suptitle(_title(summary, _NARROWEST), fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    plain(axes)
    return png(figure)


def draw_examples(metric: PerImageMetric, records: Sequence[Record], source: Source, bench: Bench) -> bytes | None:
    """The explained classes with the largest and the smallest headline quantity of the last method."""
    names = bench.compared.names
    judge = "clrp2" if "clrp2" in names else names[-1]
    chosen = _best_and_worst(metric, records, judge)
    if not chosen:
        return None
    shown = [n for n in _SHOWN if n in names] or names[:4]
    figure = Figure(figsize=(0.3 + 1.75 * (len(shown) + 1), 2.1 * len(chosen) + 0.4), layout="constrained")
    for row, (record, k, value) in enumerate(chosen):
        sample = source[record.index]
        measured = record.measured[k]
        inputs = bench.network.inputs(sample.pixels)[None]
        maps = bench.compared.maps(inputs, [torch.tensor([[measured.label]])], [sample.id], shown)
        axes = figure.add_subplot(len(chosen), len(shown) + 1, row * (len(shown) + 1) + 1)
        axes.imshow(sample.pixels.permute(1, 2, 0).numpy())
        mask = next((e.mask for e in sample.explained if e.label == measured.label), None)
        if mask is not None and not bool(mask.all()):
            axes.contour(mask.numpy(), levels=[0.5], colors=["#ffd400"], linewidths=1.5)
        axes.set_title(wrapped(f"{bench.network.class_name(measured.label)}: {judge} {value:.3f}", 26), fontsize=7)
        axes.set_axis_off()
        for column, name in enumerate(shown):
            axes = figure.add_subplot(len(chosen), len(shown) + 1, row * (len(shown) + 1) + column + 2)
            draw_heat(axes, maps[name][0, 0])
            score = measured.values[name][metric.headline]
            axes.set_title(f"{name} {score:.3f}", fontsize=7)
    figure.suptitle(f"Best and worst for {judge}: {metric.headline}", fontsize=9)
    return png(figure)


def _best_and_worst(metric: PerImageMetric, records: Sequence[Record], judge: str) -> list[tuple[Record, int, float]]:
    scored = [
        (record, k, float(m.values[judge][metric.headline]))
        for record in records
        for k, m in enumerate(record.measured)
        if judge in m.values
    ]
    scored = [s for s in scored if s[2] == s[2]]
    low_is_best = next(q.better for q in metric.quantities if q.name == metric.headline) == "low"
    scored.sort(key=lambda s: s[2] if low_is_best else -s[2])
    if len(scored) <= 2 * _EXAMPLES:
        return scored
    return scored[:_EXAMPLES] + scored[-_EXAMPLES:]


def _title(summary: Summary, width: float) -> str:
    """What was measured with what, in lines that fit ``width`` inches at 9 points."""
    made: dict[str, Any] = summary.made_with
    data = f"{made.get('model', '')} on {summary.images['measured']} images of {made.get('data', '')}"
    letters = round(13 * width)
    return f"{wrapped(summary.title, letters)}\n{wrapped(f'{data}; bars and bands: 95 %', letters)}"
