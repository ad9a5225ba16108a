"""What all figures of the evaluation share: colours, matrices, wrapped titles."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from captum_clrp.visualization import RELEVANCE

_FIXED = {
    "random": "#8c8c8c",
    "centre": "#bdb08c",
    "gradient": "#56b4e9",
    "guided-backprop": "#009e73",
    "input-x-gradient": "#0072b2",
    "grad-cam": "#cc79a7",
    "lrp": "#e69f00",
    "clrp1": "#d55e00",
    "clrp2": "#7f0016",
}
"""Colours that the colour-blind tell apart, and that are dark enough for lines on white."""
_OTHERS = ("#332288", "#117733", "#aa4499", "#44aa99", "#882255", "#6699cc", "#999933", "#661100")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
_MARKERS = "osD^vPX*<>"


def colour_of(name: str, names: Sequence[str]) -> str:
    """The colour of a method: its own in every figure, whatever it is compared with.

    Args:
        name: The method.
        names: All methods of the figure; those without a colour of their own get different ones.
    """
    if name in _FIXED:
        return _FIXED[name]
    return _OTHERS[[other for other in names if other not in _FIXED].index(name) % len(_OTHERS)]


def line_of(name: str, names: Sequence[str], points: int) -> dict[str, Any]:
    """How the curve of a method is drawn, so that curves on each other are all seen: the first are wide, the last thin.

    Args:
        name: The method.
        names: All methods of the figure.
        points: Points of the curve; markers of different methods stand at different ones.
    """
    place, count = names.index(name), len(names)
    every = max(1, points // 6)
    return {
        "color": colour_of(name, names),
        "lw": 3.4 - 2.0 * place / max(1, count - 1),
        "ls": _DASHES[place % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "markersize": 4.5,
        "markevery": (place * every // count, every),
    }


def draw_matrices(matrices: Mapping[str, Sequence[Sequence[float]]], across: str, down: str, what: str) -> Figure:
    """Square matrices beside each other, with one scale.

    Args:
        matrices: By their titles.
        across: What columns are.
        down: What rows are.
        what: What the values are.
    """
    figure = Figure(figsize=(0.6 + 2.9 * len(matrices), 3.2), layout="constrained")
    largest = max((abs(v) for m in matrices.values() for row in m for v in row), default=0) or 1.0
    for k, (title, matrix) in enumerate(matrices.items()):
        axes = figure.add_subplot(1, len(matrices), k + 1)
        values = np.array(matrix)
        shown = axes.imshow(values, cmap=RELEVANCE, vmin=-largest, vmax=largest)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(across, fontsize=8)
        axes.set_ylabel(down if k == 0 else "", fontsize=8)
        names = [str(i + 1) for i in range(len(values))]
        axes.set_xticks(range(len(values)), names, fontsize=7)
        axes.set_yticks(range(len(values)), names, fontsize=7)
    figure.colorbar(shown, ax=figure.axes, shrink=0.8, label=what)
    return figure


def draw_counts(axes: Axes, counts: NDArray[Any]) -> None:
    """A table of counts, ``(H, W)``, shaded and written out; zeros stay empty."""
    axes.imshow(counts, cmap="Reds", vmin=0)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            shade = "white" if count > counts.max() * 0.6 else "black"
            axes.text(j, i, str(count), ha="center", va="center", fontsize=6, color=shade)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_heat(axes: Axes, heat: Tensor) -> None:
    """A map ``(H, W)``, blue against and red for."""
    largest = float(heat.abs().flatten().float().quantile(0.995)) or float(heat.abs().max()) or 1.0
    axes.imshow((heat / largest).clamp(-1, 1).numpy(), cmap=RELEVANCE, vmin=-1, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most ``width`` letters, but for longer words."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def plain(axes: Axes) -> None:
    """Without the frame's upper and right line."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
