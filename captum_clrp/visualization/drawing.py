"""Figures: one map, or a table of classes and methods on scales to compare by, with all that is needed to read them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from captum_clrp.errors import InvalidInputError
from captum_clrp.geometry import Box
from captum_clrp.visualization.letters import MISSING, lettered
from captum_clrp.visualization.maps import Map, Photograph, Sign, map_of, photograph_of
from captum_clrp.visualization.panels import Look, Style, draw_panel, mappable, scale_of

_PANEL, _GAP, _EDGE = 2.3, 0.12, 0.18
"""Inches: longer side of a map, space between two maps, margin of the figure."""
_NARROWEST, _TALLEST = 1.7, 3.0
"""Inches that a map is wide at least, for the letters above and below it, unless that made it so many times as high."""
_NAME, _LINE, _BAR = 0.3, 0.17, 0.62
"""Inches: a class name, a line of small print, a colour bar with its ticks and its label."""
_GREY, _PALE, _ORANGE = "#555555", "#999999", "#a84300"


@dataclass(frozen=True)
class Row:
    """A class and its maps.

    Attributes:
        label: What the class is called: the headline of the row.
        maps: Its map for each method, ``(H, W)`` or ``(C, H, W)``.
        detail: What stands beside the name in small print, such as probability and score.
        remark: What the reader should beware of, such as a negative score.
        score: The score that the maps are about; given, each panel says which share of it arrived.
        absorbed: For each method how much of the score was absorbed on the way, ``None`` where that cannot be said.
        signed: For each method what its map summed to before negative values were cut away, ``None`` for no contrast.
    """

    label: str
    maps: Sequence[Map]
    detail: str = ""
    remark: str = ""
    score: float | None = None
    absorbed: Sequence[float | None] = field(default=())
    signed: Sequence[float | None] = field(default=())

    def total(self, column: int) -> float:
        """The sum of a map.

        Args:
            column: Which of the maps, a number from 0.
        """
        return float(map_of(self.maps[column]).sum())

    def shares(self, column: int) -> dict[str, float]:
        """What became of the score, as shares of it.

        Args:
            column: Which of the maps, a number from 0.

        Returns:
            ``"sum"``, that of the map, and as far as they are known ``"absorbed"`` and, of a contrast, ``"signed"``; nothing
            without a score.
        """
        if not self.score:
            return {}
        total = self.total(column) / self.score
        lost = self.absorbed[column] if self.absorbed else None
        uncut = self.signed[column] if self.signed else None
        found = {"sum": abs(total) if lost is None else total}
        found |= {} if lost is None else {"absorbed": lost / self.score}
        return found | ({} if uncut is None else {"signed": uncut / abs(self.score)})

    def account(self, column: int, share: bool = True) -> str:
        """What became of the score, in a few words: the sum of the map of a method, and how much was absorbed.

        Of a contrast the sum before the cut stands there instead: the absorbed shares of target and dual are not known apart.

        Args:
            column: Which of the maps, a number from 0.
            share: Whether the values are shares of the score, as those of a gradient are not.
        """
        said = f"sum {self.total(column):.3g}"
        if not share:
            return said if self.score is None else f"{said} (no share of the score)"
        shares = self.shares(column)
        said += f" ({shares['sum']:.1%} of score)" if shares else ""
        said += f", signed {round(shares['signed'], 3) + 0:.1%}" if "signed" in shares else ""
        return said + (f", {round(shares['absorbed'], 2) + 0:.0%} absorbed" if "absorbed" in shares else "")


def draw_maps(
    photograph: Photograph | None,
    methods: Sequence[str],
    rows: Sequence[Row],
    *,
    style: Style = "overlay",
    sign: Sign = "signed",
    smooth: float = 0.0,
    cmap: str | None = None,
    title: str = "",
    settings: str = "",
    unit: str | Sequence[str] = "logit",
    seen: Box | None = None,
    opacity: float = 1.0,
) -> Figure:
    """Draw a photograph with the maps of K classes by M methods, one row for each class.

    The maps of one method share one colour scale, whose bar stands below them, so that a class with little relevance looks
    pale beside one with much. Red is relevance for the class, blue against it; both can be told apart by the colour-blind.

    Args:
        photograph: What the maps are of, of their height and width: an image, ``(H, W, 3)``, or a tensor ``(3, H, W)``.
            ``None`` for heat maps alone.
        methods: Names of the M methods, headings of the columns.
        rows: One for each class, with M maps each.
        style: ``"overlay"`` on the greyed photograph, ``"heatmap"``, ``"contour"`` lines on the photograph (at 20, 45 and 70 %
            of the scale), ``"masked"``: the photograph where relevance is and white elsewhere, or ``"side-by-side"``.
        sign: ``"signed"``, ``"positive"``, ``"negative"`` or ``"absolute"``.
        smooth: Standard deviation of a Gaussian blur of the maps, in pixels; see
            :func:`captum_clrp.visualization.smoothed`. The sums that are stated are those of the maps.
        cmap: A colour map of matplotlib by name. Default: blue, white, red for signed maps, and one half of it for one sign.
        title: Title of the photograph, such as its file's name.
        settings: Network, weights, rules and whatever else is needed to make the picture again.
        unit: What the values are shares of; one for each method where they differ, and ``""`` for values of another kind, such as
            gradients.
        seen: The part of the photograph that the network saw, in pixels; the rest is dimmed.
        opacity: Opacity of the colours of an overlay, from 0 to 1.

    Returns:
        A figure of matplotlib, which no window shows; :func:`captum_clrp.visualization.encoded` makes a file of it.

    Raises:
        InvalidInputError: for maps that are not of one size, or not one for each method, an unknown style or sign, and another opacity.
    """
    return _Table(
        _Contents(photograph, methods, rows, Look(style, sign, smooth, cmap, opacity), title, settings, unit, seen)
    ).figure


def draw_map(
    relevance: Map,
    photograph: Photograph | None = None,
    *,
    label: str = "",
    detail: str = "",
    remark: str = "",
    score: float | None = None,
    style: Style = "overlay",
    sign: Sign = "signed",
    smooth: float = 0.0,
    cmap: str | None = None,
    settings: str = "",
    unit: str = "logit",
    seen: Box | None = None,
    opacity: float = 1.0,
) -> Figure:
    """Draw one map.

    Args:
        relevance: ``(H, W)`` or ``(C, H, W)``.
        photograph: As for :func:`draw_maps`; needed for all styles but ``"heatmap"``.
        label: What the map is evidence for: the headline.
        detail: What stands below the headline in small print.
        remark: What the reader should beware of.
        score: The score that the map is about; given, the figure says which share of it arrived.
        style, sign, smooth, cmap, settings, unit, seen, opacity: As for :func:`draw_maps`.

    Returns:
        A figure of matplotlib, which no window shows.

    Raises:
        InvalidInputError: as for :func:`draw_maps`.

    Example::

        >>> import torch
        >>> relevance, photograph = torch.randn(3, 32, 32), torch.rand(3, 32, 32)
        >>> figure = draw_map(relevance, photograph, label="zebra", style="contour", smooth=2)
        >>> [axes.get_label() for axes in figure.axes]
        ['map of zebra', 'colour bar']
    """
    look = Look(style, sign, smooth, cmap, opacity)
    row = Row(label, [relevance], detail, remark, score)
    return _Table(_Contents(photograph, [""], [row], look, "", settings, unit, seen), side=2 * _PANEL).figure


def overlaid(
    relevance: Map,
    photograph: Photograph,
    *,
    style: Style = "overlay",
    sign: Sign = "signed",
    smooth: float = 0.0,
    cmap: str | None = None,
    scale: float | None = None,
    opacity: float = 1.0,
) -> NDArray[np.uint8]:
    """The bare picture of a map, pixel by pixel as large as the photograph: no heading, no bar.

    Args:
        relevance: ``(H, W)`` or ``(C, H, W)``.
        photograph: As for :func:`draw_maps`.
        style, sign, smooth, cmap, opacity: As for :func:`draw_maps`.
        scale: The value of full colour, in the unit of the map, for pictures that are to be compared. Default: such that few
            pixels exceed it.

    Returns:
        ``(H, W, 3)``, bytes. ``"side-by-side"`` is ``(H, 2 W, 3)``.

    Raises:
        InvalidInputError: as for :func:`draw_maps`.
    """
    look = Look(style, sign, smooth, cmap, opacity)
    contents = _Contents(photograph, [""], [Row("", [relevance])], look)
    picture, (height, width) = contents.picture, contents.shape
    shown = contents.shown[0][0]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_panel(figure, axes, shown, picture, look, scale_of([shown]) if scale is None else scale)
    axes.set_aspect("auto")
    for image in axes.images:
        image.set_interpolation("nearest")
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    if style != "side-by-side" or picture is None:
        return drawn
    return np.concatenate([(picture * 255).round().astype(np.uint8), drawn], axis=1)


@dataclass
class _Contents:
    """What a figure shows, checked."""

    photograph: Photograph | None
    methods: Sequence[str]
    rows: Sequence[Row]
    look: Look
    title: str = ""
    settings: str = ""
    unit: str | Sequence[str] = "logit"
    seen: Box | None = None

    def __post_init__(self) -> None:
        self.units = [self.unit] * len(self.methods) if isinstance(self.unit, str) else list(self.unit)
        self.picture = None if self.photograph is None else photograph_of(self.photograph)
        maps = [[map_of(one) for one in row.maps] for row in self.rows]
        for row, of_row in zip(self.rows, maps, strict=True):
            if len(of_row) != len(self.methods) or not of_row:
                raise InvalidInputError(
                    f"{len(of_row)} maps of {row.label!r} for {len(self.methods)} methods; pass one for each"
                )
        shapes = {one.shape for of_row in maps for one in of_row}
        if len(shapes) != 1:
            raise InvalidInputError(
                f"the maps have sizes {sorted(shapes)}; pass at least one class, all maps of one size"
            )
        (self.shape,) = shapes
        if self.picture is None and self.look.style != "heatmap":
            raise InvalidInputError(f"the style {self.look.style!r} needs the photograph; pass it, or style='heatmap'")
        if self.picture is not None and self.picture.shape[:2] != self.shape:
            raise InvalidInputError(
                f"the maps are {self.shape[0]} x {self.shape[1]}, the photograph {self.picture.shape[0]} x "
                f"{self.picture.shape[1]}; pass what the network saw, or lay the maps back with laid_back"
            )
        self.shown = [[self.look.shown(one) for one in of_row] for of_row in maps]
        self.scales = [scale_of(row[column] for row in self.shown) for column in range(len(self.methods))]

    def against(self, column: int) -> bool:
        """Whether something negative is shown in a column."""
        return any(bool((row[column] < 0).any()) for row in self.shown)

    def legend(self) -> str:
        """What colours mean, in a line."""
        if self.look.cmap is not None:
            return ""
        colour = {
            "absolute": "violet: relevance for the class or against it",
            "negative": "blue: relevance against the class",
        }
        of_classes = set(self.units) <= {"logit", ""}  # not of neurons, say
        said = colour.get(self.look.sign, "red: relevance for the class" if of_classes else "red: relevance")
        if self.look.style == "masked":
            said = "the photograph where relevance is, white elsewhere"
        elif self.look.sign == "signed" and any(map(self.against, range(len(self.methods)))):
            said += ", blue: against it"
        if len(self.rows) > 1:
            said += f"; one scale in each column, so that its {'classes' if of_classes else 'rows'} can be compared"
        return said


class _Table:
    """Lays a figure out in inches from the top left corner, and draws it."""

    def __init__(self, contents: _Contents, side: float = _PANEL) -> None:
        self.contents = contents
        height, width = contents.shape
        side *= min(_TALLEST, max(1.0, _NARROWEST * height / (side * width)))
        self.panel = (side * min(1, width / height), side * min(1, height / width))
        beside = contents.look.style == "side-by-side"
        one = contents.methods == [""]
        self.cell = self.panel[0] * (2 if beside else 1)
        self.has_photograph = contents.picture is not None and not beside and not one
        self.columns = len(contents.methods) + self.has_photograph
        across = len(contents.methods) * (self.cell + _GAP) + self.has_photograph * (self.panel[0] + _GAP) - _GAP
        self.width = max(across, 3.2) + 2 * _EDGE
        self.figure = Figure(figsize=(self.width, 1), dpi=150)
        self.canvas = FigureCanvasAgg(self.figure)
        self.headings = [self._heading(row) for row in contents.rows]
        self.foot = self._foot()
        self.heights = [
            (_NAME + _LINE * len(lines)) * bool(row.label or lines) + 0.06 + self.panel[1] + 0.2
            for row, lines in zip(contents.rows, self.headings, strict=True)
        ]
        self.top = _EDGE / 2 + (0.0 if one else 0.34)
        bar = 0.0 if contents.look.style == "masked" else _BAR
        self.height = self.top + sum(self.heights) + bar + _LINE * len(self.foot) + _EDGE
        self.figure.set_size_inches(self.width, self.height)
        self._draw(bar)

    def _draw(self, bar: float) -> None:
        contents = self.contents
        at = self.top
        for index, row in enumerate(contents.rows):
            self._draw_row(index, row, at)
            at += self.heights[index]
        if bar:
            for column in range(len(contents.methods)):
                self._draw_bar(column, at)
        at += bar
        for line in self.foot:
            self._write(_EDGE, at + _LINE, line, 7.5, color=_GREY)
            at += _LINE

    def _heading(self, row: Row) -> list[tuple[str, str]]:
        """Lines of small print below a class name, with their colours."""
        lines = [(line, _GREY) for line in self._wrapped(row.detail, 9)]
        return lines + [(line, _ORANGE) for line in self._wrapped(row.remark, 9)]

    def _foot(self) -> list[str]:
        said = [self.contents.legend()]
        if self.contents.look.smooth:
            said.append(f"smoothed with a Gaussian of {self.contents.look.smooth:g} pixels")
        if any(one is not None for row in self.contents.rows for one in row.signed):
            said.append("signed: share of the score before negative values are cut away")
        if not self._all_letters():
            said.append(f"{MISSING} stands for letters that no font of the computer has")
        return [
            line
            for text in ("; ".join(part for part in said if part), self.contents.settings)
            for line in self._wrapped(text, 7.5)
        ]

    def _all_letters(self) -> bool:
        contents = self.contents
        bold = [*contents.methods, *(row.label for row in contents.rows)]
        thin = [
            contents.title,
            contents.settings,
            *(text for row in contents.rows for text in (row.detail, row.remark)),
        ]
        return all([lettered(" ".join(bold), "bold").complete, lettered(" ".join(thin)).complete])

    def _draw_row(self, index: int, row: Row, at: float) -> None:
        contents, lines = self.contents, self.headings[index]
        if row.label or lines:
            self._write(_EDGE, at + 0.24, self._shortened(row.label, 13, "bold"), 13, weight="bold")
            for line, (text, colour) in enumerate(lines):
                self._write(_EDGE, at + _NAME + _LINE * (line + 0.75), text, 9, color=colour)
            at += _NAME + _LINE * len(lines)
        at += 0.06
        if self.has_photograph:
            axes = self._axes(_EDGE, at, *self.panel, f"photograph beside {row.label}")
            self._photograph(axes)
            if index == 0:
                self._title(_EDGE, self.panel[0], contents.title or "photograph", 9.5, "normal")
        for column, method in enumerate(contents.methods):
            left = self._left(column)
            if contents.look.style == "side-by-side":
                self._photograph(self._axes(left, at, *self.panel, f"photograph beside {row.label}"))
            axes = self._axes(left + self.cell - self.panel[0], at, *self.panel, f"map of {row.label} {method}".strip())
            shown = contents.shown[index][column]
            draw_panel(self.figure, axes, shown, contents.picture, contents.look, contents.scales[column])
            self._frame(axes)
            if not shown.any():
                middle = (contents.shape[1] / 2, contents.shape[0] / 2)
                halo = {"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.8}
                axes.text(*middle, "nothing", ha="center", va="center", fontsize=9, color=_GREY, bbox=halo)
            account = self._shortened(row.account(column, bool(contents.units[column])), 7, "normal", self.cell)
            self._write(left + self.cell, at + self.panel[1] + 0.14, account, 7, color=_GREY, ha="right")
            if index == 0 and method:
                self._title(left, self.cell, method, 11, "bold")

    def _left(self, column: int) -> float:
        return _EDGE + self.has_photograph * (self.panel[0] + _GAP) + column * (self.cell + _GAP)

    def _title(self, left: float, width: float, text: str, size: float, weight: str) -> None:
        self._write(
            left + width / 2,
            self.top - 0.06,
            self._shortened(text, size, weight, width),
            size,
            weight=weight,
            ha="center",
        )

    def _photograph(self, axes: Axes) -> None:
        assert self.contents.picture is not None
        axes.imshow(self.contents.picture)
        axes.set_axis_off()
        self._frame(axes)

    def _frame(self, axes: Axes) -> None:
        height, width = self.contents.shape
        whole: dict[str, Any] = {"fill": False, "clip_on": False}
        axes.add_patch(Rectangle((-0.5, -0.5), width, height, lw=0.6, ec="#888888", **whole))
        seen = self.contents.seen
        if seen is not None and seen.area < width * height:
            left, top, right, bottom = seen
            for box in (
                (0, 0, left, height),
                (right, 0, width, height),
                (left, 0, right, top),
                (left, bottom, right, height),
            ):
                corner, size = (box[0] - 0.5, box[1] - 0.5), (box[2] - box[0], box[3] - box[1])
                axes.add_patch(Rectangle(corner, *size, fc="white", alpha=0.6, lw=0))
            axes.add_patch(
                Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, lw=0.8, ec="#444444", ls=":", **whole)
            )

    def _draw_bar(self, column: int, at: float) -> None:
        contents = self.contents
        scale = contents.scales[column]
        if scale == 0:
            return
        width = self.panel[0] * 0.94
        left = self._left(column) + self.cell - self.panel[0] + 0.03 * self.panel[0]
        axes = self._axes(left, at + 0.08, width, 0.09, "colour bar")
        colours = mappable(contents.look, scale)
        bar = self.figure.colorbar(colours, cax=axes, orientation="horizontal")
        if contents.look.sign == "signed" and not contents.against(column):
            axes.set_xlim(0, scale)
        ticks = ScalarFormatter()
        ticks.set_powerlimits((-2, 3))
        bar.locator, bar.formatter = MaxNLocator(3, steps=[1, 2, 5, 10]), ticks
        bar.outline.set_linewidth(0.5)
        bar.update_ticks()
        axes.tick_params(labelsize=7, length=2, pad=1.5)
        axes.xaxis.get_offset_text().set_visible(False)
        exponent = int(np.floor(np.log10(scale)))
        power = "" if -2 <= exponent < 3 else rf" in $10^{{{exponent}}}$"
        unit = contents.units[column]
        what = f"relevance of a pixel, {unit}{power}" if unit else f"value of a pixel{power}"
        axes.set_xlabel(what, fontsize=7, labelpad=1.5, color=_GREY)

    def _axes(self, left: float, top: float, width: float, height: float, label: str) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, label=label)

    def _write(self, left: float, baseline: float, text: str, size: float, **look: Any) -> None:
        at = (left / self.width, 1 - baseline / self.height)
        found = lettered(text, look.get("weight", "normal"))
        look |= {"fontsize": size, "family": found.families, "va": "baseline", "parse_math": False}
        self.figure.text(*at, found.text, **look)

    def _extent(self, text: str, size: float, weight: str = "normal") -> float:
        """Width of a text in inches."""
        found = lettered(text, weight)
        font = FontProperties(size=size, weight=weight, family=found.families)
        renderer = self.canvas.get_renderer()
        return float(renderer.get_text_width_height_descent(found.text, font, ismath=False)[0]) / 150

    def _shortened(self, text: str, size: float, weight: str = "normal", width: float | None = None) -> str:
        """A text of one line with its middle left out, if it is wider than it may be: the ends of file names tell most."""
        width = self.width - 2 * _EDGE if width is None else width
        text = " ".join(text.split())
        shorter, keep = text, len(text)
        while keep > 2 and self._extent(shorter, size, weight) > width:
            keep -= 1
            shorter = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        return shorter

    def _wrapped(self, text: str, size: float) -> list[str]:
        """A text in lines that fit into the figure."""
        room = self.width - 2 * _EDGE
        fit = max(8, int(len(text) * room / max(self._extent(text, size), 1e-9))) if text else 1
        lines = textwrap.wrap(text, fit)
        while lines and fit > 8 and max(self._extent(line, size) for line in lines) > room:
            fit -= 1
            lines = textwrap.wrap(text, fit)
        return lines
