"""Pictures of a summary: bars with intervals, curves with bands, best and worst examples, neurons and borders."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from captum_clrp.evaluation.experiments import Bench, Experiment
from captum_clrp.evaluation.metrics.pooling_indices import measured_with, winner_map
from captum_clrp.evaluation.results.records import Record
from captum_clrp.evaluation.results.summary import Summary
from captum_clrp.evaluation.sources import Sample, Source

__all__ = ["draw_bars", "draw_curve", "draw_drops", "draw_examples", "draw_winners", "figures"]

_COLOURS = (
    "#999999",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#cc79a7",
    "#e69f00",
    "#d55e00",
    "#8b0a1a",
    "#000000",
)
_RELEVANCE = LinearSegmentedColormap.from_list("relevance", ["#053061", "#4393c3", "#ffffff", "#e8513a", "#8b0a1a"])
_SHOWN = ("gradient", "lrp", "clrp1", "clrp2")
_BANDS = ("gradient", "lrp", "clrp1")
_EXAMPLES = 3


def figures(
    experiment: Experiment, summary: Summary, records: Sequence[Record], source: Source, bench: Bench
) -> dict[str, bytes]:
    """All pictures of a run as PNG, by file name."""
    drawn = {"bars.png": draw_bars(experiment, summary)}
    for curve in experiment.curves:
        drawn[f"{curve.name}.png"] = draw_curve(experiment, summary, curve.name)
    if "drops" in summary.extra:
        drawn["drops.png"] = draw_drops(summary.extra["drops"])
    if not experiment.uses_methods and len(source):
        drawn["winners.png"] = draw_winners(bench, source[0])
    if not experiment.chooses_classes and bench.methods is not None:
        examples = draw_examples(experiment, records, source, bench)
        drawn |= {"examples.png": examples} if examples else {}
    return drawn


def draw_bars(experiment: Experiment, summary: Summary) -> bytes:
    """One panel for each quantity: means of all methods with 95 % intervals."""
    methods = list(dict.fromkeys(row.method for row in summary.rows))
    count = len(experiment.quantities)
    across = min(count, 3)
    down = -(-count // across)
    height = 0.9 + 0.27 * max(len(methods), 2)
    figure = Figure(figsize=(0.4 + 3.4 * across, height * down), layout="constrained")
    for k, quantity in enumerate(experiment.quantities):
        axes = figure.add_subplot(down, across, k + 1)
        rows = [row for row in summary.rows if row.quantity == quantity.name]
        at = np.arange(len(rows))[::-1]
        means = np.array([row.mean for row in rows])
        errors = np.array([[row.mean - row.low, row.high - row.mean] for row in rows]).T.clip(min=0)
        colours = [_colour(methods, row.method) for row in rows]
        axes.barh(at, means, xerr=errors, color=colours, height=0.7, ecolor="#333333", capsize=2)
        axes.set_yticks(at, [row.method for row in rows] if k % across == 0 else [""] * len(rows), fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        better = {"high": ", higher is better", "low": ", lower is better", "": ""}[quantity.better]
        axes.set_title(_wrapped(quantity.title + better, 46), fontsize=8)
        _plain(axes)
    figure.suptitle(f"{summary.title}\n{_note(summary)}", fontsize=9)
    return _png(figure)


def draw_curve(experiment: Experiment, summary: Summary, name: str) -> bytes:
    """A curve of all methods; bands of 95 % where they can be told apart, for a few of them if there are many."""
    curve = next(c for c in experiment.curves if c.name == name)
    methods = list(dict.fromkeys(row.method for row in summary.rows))
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for row in summary.curves:
        if row.curve == name:
            colour = _colour(methods, row.method)
            if len(methods) <= len(_BANDS) or row.method in _BANDS:
                axes.fill_between(row.x, row.low, row.high, color=colour, alpha=0.15, lw=0)
            axes.plot(row.x, row.mean, color=colour, lw=1.8, label=row.method)
    axes.set_xlabel(curve.axis)
    axes.set_ylabel(_wrapped(curve.title, 50))
    axes.set_title(f"{summary.title}\n{_note(summary)}", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    _plain(axes)
    return _png(figure)


def draw_drops(matrices: Mapping[str, Sequence[Sequence[float]]]) -> bytes:
    """Mean relative drops, patch of neuron i (rows) against activation of neuron j (columns), for each method."""
    figure = Figure(figsize=(0.6 + 2.9 * len(matrices), 3.2), layout="constrained")
    largest = max((abs(v) for m in matrices.values() for row in m for v in row), default=0) or 1.0
    for k, (method, matrix) in enumerate(matrices.items()):
        axes = figure.add_subplot(1, len(matrices), k + 1)
        values = np.array(matrix)
        shown = axes.imshow(values, cmap=_RELEVANCE, vmin=-largest, vmax=largest)
        axes.set_title(method, fontsize=10)
        axes.set_xlabel("activation of neuron", fontsize=8)
        axes.set_ylabel("patch of neuron" if k == 0 else "", fontsize=8)
        names = [str(i + 1) for i in range(len(values))]
        axes.set_xticks(range(len(values)), names, fontsize=7)
        axes.set_yticks(range(len(values)), names, fontsize=7)
    figure.colorbar(shown, ax=figure.axes, shrink=0.8, label="relative drop")
    return _png(figure)


def draw_winners(bench: Bench, sample: Sample, most: int = 2, corner: int = 9) -> bytes:
    """Where winners lie in the upper left corner of the first poolings' inputs, with zero padding and without."""
    inputs = bench.network.inputs(sample.pixels)[None]
    runs = [measured_with(bench.network.model, inputs, replicate=r)[:most] for r in (False, True)]
    figure = Figure(figsize=(0.4 + 3.0 * len(runs[0]), 6.2), layout="constrained")
    for row, (poolings, how) in enumerate(zip(runs, ("padding as it is", "borders replicated"), strict=True)):
        for column, pooling in enumerate(poolings):
            axes = figure.add_subplot(2, len(poolings), row * len(poolings) + column + 1)
            counts = winner_map(pooling)[:corner, :corner].numpy()
            axes.imshow(counts, cmap="Reds", vmin=0)
            for (i, j), count in np.ndenumerate(counts):
                if count:
                    shade = "white" if count > counts.max() * 0.6 else "black"
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=6, color=shade)
            axes.set_title(f"{pooling.name}, {how}", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
    figure.suptitle(f"Winners in the outermost regions, upper left corner, all channels\n{sample.id}", fontsize=9)
    return _png(figure)


def draw_examples(experiment: Experiment, records: Sequence[Record], source: Source, bench: Bench) -> bytes | None:
    """The explained classes with the largest and the smallest headline quantity of the last method."""
    assert bench.methods is not None
    names = bench.methods.names
    judge = "clrp2" if "clrp2" in names else names[-1]
    chosen = _best_and_worst(experiment, records, judge)
    if not chosen:
        return None
    shown = [n for n in _SHOWN if n in names] or names[:4]
    figure = Figure(figsize=(0.3 + 1.75 * (len(shown) + 1), 2.1 * len(chosen) + 0.4), layout="constrained")
    for row, (record, k, value) in enumerate(chosen):
        sample = source[record.index]
        measured = record.measured[k]
        inputs = bench.network.inputs(sample.pixels)[None]
        maps = bench.methods.maps(inputs, [torch.tensor([[measured.label]])], [sample.id], shown)
        axes = figure.add_subplot(len(chosen), len(shown) + 1, row * (len(shown) + 1) + 1)
        axes.imshow(sample.pixels.permute(1, 2, 0).numpy())
        mask = next((e.mask for e in sample.explained if e.label == measured.label), None)
        if mask is not None and not bool(mask.all()):
            axes.contour(mask.numpy(), levels=[0.5], colors=["#ffd400"], linewidths=1.5)
        axes.set_title(_wrapped(f"{bench.network.class_name(measured.label)}: {judge} {value:.3f}", 26), fontsize=7)
        axes.set_axis_off()
        for column, name in enumerate(shown):
            axes = figure.add_subplot(len(chosen), len(shown) + 1, row * (len(shown) + 1) + column + 2)
            _draw_map(axes, maps[name][0, 0])
            score = measured.values[name][experiment.headline]
            axes.set_title(f"{name} {score:.3f}", fontsize=7)
    figure.suptitle(f"Best and worst for {judge}: {experiment.headline}", fontsize=9)
    return _png(figure)


def _best_and_worst(experiment: Experiment, records: Sequence[Record], judge: str) -> list[tuple[Record, int, float]]:
    scored = [
        (record, k, float(m.values[judge][experiment.headline]))
        for record in records
        for k, m in enumerate(record.measured)
        if judge in m.values
    ]
    scored = [s for s in scored if s[2] == s[2]]
    low_is_best = next(q.better for q in experiment.quantities if q.name == experiment.headline) == "low"
    scored.sort(key=lambda s: s[2] if low_is_best else -s[2])
    if len(scored) <= 2 * _EXAMPLES:
        return scored
    return scored[:_EXAMPLES] + scored[-_EXAMPLES:]


def _draw_map(axes: Axes, heat: Tensor) -> None:
    largest = float(torch.quantile(heat.abs().flatten().float(), 0.995)) or float(heat.abs().max()) or 1.0
    axes.imshow((heat / largest).clamp(-1, 1).numpy(), cmap=_RELEVANCE, vmin=-1, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])


def _colour(methods: Sequence[str], method: str) -> str:
    return _COLOURS[methods.index(method) % len(_COLOURS)]


def _note(summary: Summary) -> str:
    made: dict[str, Any] = summary.made_with
    data = f"{made.get('model', '')} on {summary.images['measured']} images of {made.get('data', '')}"
    return f"{data}; bars and bands: 95 %"


def _wrapped(text: str, width: int) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": "captum-clrp"})
    return file.getvalue()
