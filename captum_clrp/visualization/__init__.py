"""Pictures of maps: one map, or classes beside methods on one scale; on Captum's visualiser.

:func:`draw_map` and :func:`draw_maps` return figures of matplotlib, :func:`overlaid` the bare pixels, and :func:`encoded` makes a
file with metadata of a figure. What is drawn are arrays or tensors ``(H, W)`` or ``(C, H, W)``, from any attribution.
"""

from captum_clrp.visualization.drawing import Row, draw_map, draw_maps, overlaid
from captum_clrp.visualization.files import FORMATS, SOFTWARE, encoded
from captum_clrp.visualization.maps import laid_back, seen_part, smoothed
from captum_clrp.visualization.panels import OVERLAID, RELEVANCE

__all__ = [
    "FORMATS",
    "OVERLAID",
    "RELEVANCE",
    "SOFTWARE",
    "Row",
    "draw_map",
    "draw_maps",
    "encoded",
    "laid_back",
    "overlaid",
    "seen_part",
    "smoothed",
]
