"""Pictures of a summary: bars with intervals, curves with bands, best and worst examples, and what metrics add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_clrp.evaluation.drawing import colour_of, draw_heat, line_of, plain, wrapped
from captum_clrp.evaluation.metrics import Bench, PerImageMetric
from captum_clrp.evaluation.results.records import Record
from captum_clrp.evaluation.results.summary import Summary
from captum_clrp.evaluation.sources import Source
from captum_clrp.visualization.letters import lettered

_SHOWN = ("gradient", "lrp", "clrp1", "clrp2")
_BANDS = ("gradient", "lrp", "clrp1")
_EXAMPLES = 3
_NARROWEST = 6.4
"""Inches; a title needs room for its words."""


def figures(
    metric: PerImageMetric,
    summary: Summary,
    records: Sequence[Record],
    source: Source,
    bench: Bench,
    width: float = _NARROWEST,
) -> dict[str, Figure]:
    """All pictures of a run, by name.

    Args:
        metric: What was measured.
        summary: What came out.
        records: Records of the images.
        source: The images.
        bench: Network and methods.
        width: Width of bars and curves, in inches: 3.3 is the column of a paper with two.
    """
    drawn = {"bars": draw_bars(metric, summary, width)}
    for curve in metric.curves:
        drawn[curve.name] = draw_curve(metric, summary, curve.name, width)
    drawn |= metric.figures(bench, summary, source[0] if len(source) else None)
    if not metric.chooses_classes and bench.methods is not None:
        examples = draw_examples(metric, records, source, bench)
        drawn |= {"examples": examples} if examples else {}
    return drawn


def draw_bars(metric: PerImageMetric, summary: Summary, width: float = _NARROWEST) -> Figure:
    """One panel for each quantity: means of all methods with 95 % intervals, and what chance gives, where that is known.

    Args:
        metric: What was measured.
        summary: What came out.
        width: In inches; more panels than fit stand below each other.
    """
    methods = list(dict.fromkeys(row.method for row in summary.rows))
    count = len(metric.quantities)
    across = max(1, min(count, 3, round(max(width, 3.4 * min(count, 3) * (width >= _NARROWEST)) / 3.2)))
    down = -(-count // across)
    height = 0.9 + 0.27 * max(len(methods), 2)
    width = max(width, 0.4 + 3.4 * across) if width >= _NARROWEST else width
    figure = Figure(figsize=(width, 0.5 + height * down), layout="constrained")
    named = 0.07 * max(map(len, methods), default=0)  # inches of the names on the left
    letters = max(12, round(15 * ((width - named) / across - 0.2)))
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
        axes.set_title(wrapped(quantity.title + quantity.note, letters), fontsize=8)
        _chance(axes, metric.chance(quantity.name, summary.extra.get("area")))
        if not rows:
            axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", fontsize=8)
        plain(axes)
    _add_title(figure, summary, width)
    return figure


def _chance(axes: Axes, level: float | None) -> None:
    """A line where a map that knows nothing stands on average."""
    if level is not None:
        axes.axvline(level, color="#333333", lw=1, ls=(0, (4, 3)), label="chance")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.5)
        axes.text(level, high + 0.45, " chance", fontsize=7, va="top", color="#333333")


def draw_curve(metric: PerImageMetric, summary: Summary, name: str, width: float = _NARROWEST) -> Figure:
    """A curve of all methods; bands of 95 % where they can be told apart, for a few of them if there are many.

    Args:
        metric: What was measured.
        summary: What came out.
        name: Name of the curve.
        width: In inches.
    """
    curve = next(c for c in metric.curves if c.name == name)
    methods = list(dict.fromkeys(row.method for row in summary.rows))
    figure = Figure(figsize=(width, 0.65 * width + 0.2 * len(methods) * (width < _NARROWEST)), layout="constrained")
    axes = figure.add_subplot()
    for row in summary.curves:
        if row.curve == name:
            if len(methods) <= len(_BANDS) or row.method in _BANDS:
                colour = colour_of(row.method, methods)
                axes.fill_between(row.x, row.low, row.high, color=colour, alpha=0.15, lw=0)
            axes.plot(row.x, row.mean, label=row.method, **line_of(row.method, methods, len(row.x)))
    axes.set_xlabel(curve.axis, fontsize=9)
    axes.set_ylabel(wrapped(curve.title, round(8 * width)), fontsize=9)
    axes.tick_params(labelsize=8)
    if all(float(x).is_integer() for x in curve.x):  # there is no step 1.5
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_title(figure, summary, width)
    figure.legend(
        loc="outside lower center", ncols=2 if width < _NARROWEST else 3, fontsize=8, frameon=False, handlelength=4
    )
    plain(axes)
    return figure


def draw_examples(metric: PerImageMetric, records: Sequence[Record], source: Source, bench: Bench) -> Figure | None:
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
        rank = "best" if row < len(chosen) - len(chosen) // 2 else "worst"
        named = f"{rank}: {bench.network.class_name(measured.label)}, {judge} {value:.3f}"
        title = lettered(wrapped(named, 26))
        axes.set_title(title.text, fontsize=7, family=title.families, parse_math=False)
        axes.set_axis_off()
        for column, name in enumerate(shown):
            axes = figure.add_subplot(len(chosen), len(shown) + 1, row * (len(shown) + 1) + column + 2)
            heat = maps[name][0, 0]
            draw_heat(axes, heat)
            down, across = divmod(int(heat.argmax()), heat.shape[1])
            axes.plot(across, down, "+", color="black", markersize=8, mew=1.2)
            score = measured.values[name][metric.headline]
            axes.set_title(f"{name} {score:.3f}", fontsize=7)
    figure.suptitle(f"Best and worst for {judge}: {metric.headline}; crosses: the maxima of the maps", fontsize=9)
    return figure


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


def _add_title(figure: Figure, summary: Summary, width: float) -> None:
    """What was measured with what, in lines that fit ``width`` inches at 9 points."""
    made: dict[str, Any] = summary.made_with
    data = f"{made.get('model', '')} on {summary.images['measured']} images of {made.get('data', '')}"
    letters = round(13 * width)
    title = lettered(f"{wrapped(summary.title, letters)}\n{wrapped(f'{data}; bars and bands: 95 %', letters)}")
    figure.suptitle(title.text, fontsize=9, family=title.families, parse_math=False)
