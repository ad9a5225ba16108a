"""The picture that ``captum-clrp explain`` writes: one column for each method, one row for each class."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from captum.attr import visualization
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from captum_clrp.cli.output import SOFTWARE

__all__ = ["Row", "draw", "stacked"]

_COLOURS = LinearSegmentedColormap.from_list("relevance", ["#053061", "#4393c3", "#ffffff", "#e8513a", "#8b0a1a"])
_GAP = 0.06
"""White space between two maps of a column, in units of a map's height."""
_PANEL, _LABELS, _TITLES, _FOOT = 2.3, 1.6, 0.42, 0.72
"""Inches: side of a map, width of the class labels, height of the headings and of the note below."""
_OUTLIERS = 1
"""Percent of a column's relevance that may lie in pixels of full colour."""
_RED, _BLUE = "red: relevance for the class", "blue: against it"
_SCALE = "one colour scale in each column, so that its classes can be compared"


@dataclass(frozen=True)
class Row:
    """What a class is called in the figure, and its map for each method: relevance ``(3, H, W)``."""

    label: str
    maps: Sequence[NDArray[np.floating]]


def draw(
    picture: NDArray[np.floating],
    title: str,
    methods: Sequence[str],
    rows: Sequence[Row],
    dpi: int = 150,
    *,
    settings: str = "",
) -> bytes:
    """Draw a picture beside the relevance maps of K classes.

    The maps of one method share one colour scale, so that a class with little relevance looks pale beside one with
    much. White is no relevance, red is relevance for the class, blue against it.

    Args:
        picture: What the network saw, ``(H, W, 3)`` in [0, 1].
        title: Heading of the picture.
        methods: Names of the M methods, headings of the columns.
        rows: One for each class, with M maps of ``(3, H, W)``.
        dpi: Dots per inch.
        settings: Network, weights and rules, in words: they stand below and in the file's metadata.

    Returns:
        The bytes of a PNG file.
    """
    height, width = picture.shape[:2]
    count, panel_w = len(rows), _PANEL * width / height
    stack_h = _PANEL * (count + _GAP * (count - 1))
    picture_h = min(stack_h, 1.5 * _PANEL)
    picture_w = picture_h * width / height
    total_w = 0.15 + picture_w + _LABELS + len(methods) * (panel_w + 0.12) + 0.05
    total_h = _TITLES + stack_h + _FOOT
    figure = Figure(figsize=(total_w, total_h), dpi=dpi)
    FigureCanvasAgg(figure)

    def axes(left: float, bottom: float, w: float, h: float) -> Axes:  # inches
        return figure.add_axes((left / total_w, bottom / total_h, w / total_w, h / total_h))

    place = axes(0.15, _FOOT + (stack_h - picture_h) / 2, picture_w, picture_h)
    place.imshow(picture)
    place.set_axis_off()
    place.set_title(_drawable(_shortened(title, 32)), fontsize=10, parse_math=False)
    left = 0.15 + picture_w + _LABELS
    for column, method in enumerate(methods):
        place = axes(left + column * (panel_w + 0.12), _FOOT, panel_w, stack_h)
        _draw_column(figure, place, stacked([row.maps[column].sum(0) for row in rows]))
        place.set_title(method, fontsize=12)
        place.spines[:].set_visible(False)
        for index in range(count):
            top = index * (height + round(height * _GAP))
            place.add_patch(
                Rectangle((-0.5, top - 0.5), width, height, fill=False, lw=0.6, ec="#888888", clip_on=False)
            )
            if not rows[index].maps[column].any():
                middle = (width / 2, top + height / 2)
                place.text(*middle, "nothing", ha="center", va="center", fontsize=9, color="#888888")
            place.text(
                width - 0.03 * width,
                top + height - 0.03 * height,
                f"sum {rows[index].maps[column].sum():.3g}",
                ha="right",
                va="bottom",
                fontsize=7,
                color="#555555",
            )
            if column == 0:
                place.text(
                    -0.05 * width,
                    top + height / 2,
                    _drawable(_wrapped(rows[index].label, 19)),
                    ha="right",
                    va="center",
                    fontsize=10,
                    parse_math=False,
                )
    against = any((one.sum(0) < 0).any() for row in rows for one in row.maps)
    note = "    ".join([_RED] + [_BLUE] * against) + f"\n{_SCALE}" * (count > 1)
    note += f"\n{_wrapped(settings, 110)}" if settings else ""
    figure.text(0.5, _FOOT / 2 / total_h, note, ha="center", va="center", fontsize=8, color="#555555")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": SOFTWARE, "Title": title, "Description": settings})
    return file.getvalue()


def _drawable(text: str) -> str:
    """The text with a box for each letter that the font does not have."""
    font = get_font(findfont(FontProperties()))
    return "".join(c if c == "\n" or font.get_char_index(ord(c)) else "\u25a1" for c in text)


def _shortened(text: str, length: int) -> str:
    half = length // 2
    return text if len(text) <= length else f"{text[: half - 1]}…{text[-half:]}"


def _wrapped(text: str, width: int) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""])


def stacked(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Maps ``(H, W)`` one below the other, with a gap of zeros: normalised as one, they keep a common scale."""
    gap = np.zeros((round(maps[0].shape[0] * _GAP), maps[0].shape[1]), dtype=maps[0].dtype)
    parts = [part for one in maps for part in (gap, one)]
    return np.concatenate(parts[1:])


def _draw_column(figure: Figure, place: Axes, relevance: NDArray[np.floating]) -> None:
    peak = np.abs(relevance).max()
    if peak == 0:  # nothing to normalise: an honest white
        place.imshow(relevance, cmap=_COLOURS, vmin=-1, vmax=1)
        place.set_axis_off()
        return
    visualization.visualize_image_attr(
        relevance[..., None] / peak,
        method="heat_map",
        sign="all",
        cmap=_COLOURS,
        outlier_perc=_OUTLIERS,
        plt_fig_axis=(figure, place),
        use_pyplot=False,
    )
