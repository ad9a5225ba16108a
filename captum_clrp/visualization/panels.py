"""One map on one pair of axes, in each of the styles; drawn by Captum's visualiser where it draws what is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from captum.attr import visualization
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from captum_clrp.errors import InvalidInputError, check_choice, nearest
from captum_clrp.visualization.maps import Sign, signed_part, smoothed

Style = Literal["overlay", "heatmap", "contour", "masked", "side-by-side"]
"""How a map is drawn: over the greyed photograph, alone, as lines on the photograph, as the photograph where relevance is,
or beside the photograph."""

OVERLAID: tuple[Style, ...] = ("overlay", "contour", "masked")
"""Styles in which map and photograph lie on each other. Single dots are hard to see there, so the commands smooth."""

_OUTLIERS = 1
"""Percent of the relevance that may lie in pixels of full colour."""
_LEVELS = (0.2, 0.45, 0.7)
_BLUE, _WHITE, _RED = ("#053061", "#2166ac", "#6baed6"), "#ffffff", ("#f4a582", "#d6302a", "#7f0016")
RELEVANCE: Colormap = LinearSegmentedColormap.from_list("relevance", [*_BLUE, _WHITE, *_RED])
"""The colours of every map and matrix with signs; red is relevance for the class, white none, blue relevance against it."""
_HEAT: dict[Sign, Colormap] = {
    "signed": RELEVANCE,
    "positive": LinearSegmentedColormap.from_list("relevance for", [_WHITE, *_RED]),
    "negative": LinearSegmentedColormap.from_list("relevance against", [*_BLUE, _WHITE]),
    "absolute": LinearSegmentedColormap.from_list(
        "relevance for or against", [_WHITE, "#c2a5cf", "#762a83", "#40004b"]
    ),
}
_HUES = {  # over a photograph colours do not fade to white but to glass, and must not darken towards the peak
    "for": LinearSegmentedColormap.from_list("for", ["#ff9a3c", "#f4511e", "#e3001b"]),
    "against": LinearSegmentedColormap.from_list("against", ["#0038c8", "#1e6ff4", "#46b4ff"]),
    "both": LinearSegmentedColormap.from_list("both", ["#e08cff", "#b23ae0", "#8a00c2"]),
}


def _glass(colours: NDArray[np.float64], share: NDArray[np.float64], opacity: float) -> NDArray[np.float64]:
    """Colours that are transparent where the share of the peak, 0 to 1, is small."""
    return np.column_stack([colours[:, :3], 0.92 * opacity * np.clip(share * 1.1, 0, 1) ** 0.85])


def _over(sign: Sign, opacity: float) -> Colormap:
    steps = np.linspace(0, 1, 256)
    parts = {
        "against": _glass(_HUES["against"](steps), 1 - steps, opacity),
        "for": _glass(_HUES["for"](steps), steps, opacity),
        "both": _glass(_HUES["both"](steps), steps, opacity),
    }
    order = {"signed": ("against", "for"), "positive": ("for",), "negative": ("against",), "absolute": ("both",)}
    return ListedColormap(np.concatenate([parts[part] for part in order[sign]]), name=f"{sign} over a photograph")


@dataclass(frozen=True)
class Look:
    """How maps are drawn.

    Attributes:
        style: See :data:`Style`.
        sign: What of a map is shown.
        smooth: Standard deviation of a Gaussian blur, in pixels.
        cmap: A colour map of matplotlib by name, instead of the one for the sign.
        opacity: Opacity of the colours over the photograph, from 0 to 1; for overlays alone.

    Raises:
        InvalidInputError: for an unknown style, sign or colour map, and another opacity.
    """

    style: Style = "overlay"
    sign: Sign = "signed"
    smooth: float = 0.0
    cmap: str | None = None
    opacity: float = 1.0

    def __post_init__(self) -> None:
        check_choice("style", self.style, Style)
        check_choice("sign", self.sign, Sign)
        if not 0 <= self.opacity <= 1:
            raise InvalidInputError(f"opacity={self.opacity!r} is no share; give a number from 0 to 1")
        if self.cmap is not None and self.cmap not in colormaps:
            close = ", ".join(nearest(self.cmap, colormaps)) or "RdBu_r, Reds, magma"
            raise InvalidInputError(f"matplotlib has no colour map {self.cmap!r}; it has {close} and others")

    def shown(self, relevance: NDArray[np.float64]) -> NDArray[np.float64]:
        """What of ``relevance``, ``(H, W)``, is drawn: smoothed, of the sign."""
        return signed_part(smoothed(relevance, self.smooth), self.sign)

    def colours(self) -> Colormap:
        """The colour map."""
        over = self.style == "overlay"
        if self.cmap is None:
            return _over(self.sign, self.opacity) if over else _HEAT[self.sign]
        chosen = colormaps[self.cmap]
        steps = np.linspace(0, 1, 256)
        share = {"signed": abs(2 * steps - 1), "negative": 1 - steps}.get(self.sign, steps)
        return ListedColormap(_glass(chosen(steps), share, self.opacity)) if over else chosen


def scale_of(shown: Iterable[NDArray[np.float64]]) -> float:
    """The value of full colour for maps that are compared: so few pixels exceed it that they hold 1 % of all relevance.

    Args:
        shown: Maps ``(H, W)``, from :meth:`Look.shown`.

    Returns:
        A value in units of the score, or 0 if nothing is shown.
    """
    values = np.sort(np.concatenate([np.abs(one).ravel() for one in shown]))
    total = np.cumsum(values)
    return float(values[np.searchsorted(total, total[-1] * (1 - _OUTLIERS / 100))]) if total[-1] > 0 else 0.0


def mappable(look: Look, scale: float) -> ScalarMappable:
    """What a colour bar needs: colours, and the values they stand for.

    Args:
        look: How maps are drawn.
        scale: The value of full colour.
    """
    scale = scale or 1.0
    low, high = {"signed": (-scale, scale), "negative": (-scale, 0.0)}.get(look.sign, (0.0, scale))
    return ScalarMappable(Normalize(low, high), look.colours())


def draw_panel(
    figure: Figure,
    axes: Axes,
    shown: NDArray[np.float64],
    photograph: NDArray[np.float64] | None,
    look: Look,
    scale: float,
) -> None:
    """Draw one map.

    Args:
        figure: The figure.
        axes: Where in it.
        shown: ``(H, W)``, from :meth:`Look.shown`.
        photograph: ``(H, W, 3)`` in [0, 1]; not needed for a heat map.
        look: How.
        scale: The value of full colour.
    """
    if look.style == "contour":
        _lines(axes, shown, photograph, look, scale)
    elif look.style == "masked":
        _mask(axes, shown, photograph, scale)
    else:
        _captum(figure, axes, shown, photograph, look, scale)
    axes.set_axis_off()


def _captum(
    figure: Figure,
    axes: Axes,
    shown: NDArray[np.float64],
    photograph: NDArray[np.float64] | None,
    look: Look,
    scale: float,
) -> None:
    over = look.style == "overlay" and photograph is not None
    visualization.visualize_image_attr(
        np.ones((*shown.shape, 1)),
        None if photograph is None else (photograph * 255).round().astype(np.uint8),
        method="blended_heat_map" if over else "heat_map",
        sign="all",
        alpha_overlay=None,  # the colour map has its own transparency
        plt_fig_axis=(figure, axes),
        use_pyplot=False,
    )
    # Captum would normalise each map by itself; here are the values of the map, on the scale of those it is compared with.
    colours = mappable(look, scale)
    heat = axes.images[-1]
    heat.set_data(shown)
    heat.set_cmap(colours.get_cmap())
    heat.set_norm(colours.norm)
    if over:
        axes.images[0].set_clim(-70, 280)  # softer than black and white, so that colour stands out on both


def _lines(
    axes: Axes, shown: NDArray[np.float64], photograph: NDArray[np.float64] | None, look: Look, scale: float
) -> None:
    axes.imshow(np.ones((*shown.shape, 3)) if photograph is None else photograph)
    if scale == 0 or min(shown.shape) < 2:
        return
    for part, hue, dashes in ((shown, "for", "solid"), (-shown, "against", "dashed")):
        levels = [share * scale for share in _LEVELS if part.max() > share * scale]
        if not levels:
            continue
        hues = _HUES["both" if look.sign == "absolute" else hue]
        colours = [hues(share) for share in (0.0, 0.5, 1.0)][: len(levels)]
        lines = axes.contour(part, levels=levels, colors=colours, linewidths=1.4, linestyles=dashes)
        lines.set_path_effects([withStroke(linewidth=2.8, foreground="white")])


def _mask(axes: Axes, shown: NDArray[np.float64], photograph: NDArray[np.float64] | None, scale: float) -> None:
    picture = np.zeros((*shown.shape, 3)) if photograph is None else photograph
    weight = np.clip(2 * np.abs(shown) / (scale or 1.0), 0, 1)[..., None]
    axes.imshow(1 - weight * (1 - picture))
