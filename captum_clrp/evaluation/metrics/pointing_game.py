"""The pointing game (Zhang et al. 2016; paper, section 5.2): does the strongest pixel lie on the object?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.base import MapMetric, Quantity
from captum_clrp.evaluation.metrics.maps import as_map, as_mask, is_flat, peaks
from captum_clrp.evaluation.registry import Option
from captum_clrp.evaluation.statistics import Average


def pointing_hit(attribution: Tensor, mask: Tensor, tolerance: float = 0.0) -> bool:
    """Whether the maximum of a map lies on the object.

    Ties: *every* pixel that shares the maximum must lie on the object. A map whose pixels are all equal (all zero, say)
    points nowhere and is a miss, whatever the mask.

    Args:
        attribution: ``(H, W)`` or ``(C, H, W)``; channels are summed.
        mask: ``(H, W)``, true on the object (see :func:`captum_clrp.geometry.box_mask`).
        tolerance: Distance in pixels, between pixel centres, that still counts as on the object. Default: 0.

    Raises:
        InvalidInputError: for shapes that do not fit, an empty mask, or a map with NaN.

    Example::

        >>> heat = torch.tensor([[0.0, 3.0], [3.0, 1.0]])
        >>> masks = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0, 1], [0, 0]])
        >>> [pointing_hit(heat, mask) for mask in masks]
        [True, False]
    """
    values = as_map(attribution)
    marked = as_mask(mask, values)
    if is_flat(values):
        return False
    points = peaks(values)
    missed = points[~marked[points[:, 0], points[:, 1]]]
    if not len(missed):
        return True
    if tolerance <= 0:
        return False
    nearest = torch.cdist(missed.double(), marked.nonzero().double()).amin(1)
    return bool((nearest <= tolerance).all())


class PointingGame(MapMetric):
    """Share of images whose strongest pixel lies on the object; conventions of :func:`pointing_hit`.

    Args:
        tolerance: In pixels. 15 is usual on VOC and COCO, 0 in the paper. Default: 0.
        average: ``"images"`` (the paper's accuracy) or ``"classes"`` (mean over classes, usual on VOC and COCO).

    Raises:
        InvalidInputError: for a tolerance that is negative or no number.

    Example::

        >>> game = PointingGame()
        >>> # maps are (N, H, W) or (N, C, H, W), masks (N, H, W)
        >>> maps = torch.tensor([[[0.0, 3.0], [2.0, 1.0]], [[4.0, 3.0], [2.0, 1.0]]])
        >>> masks = torch.tensor([[[0, 1], [0, 0]], [[0, 1], [0, 0]]])
        >>> game.update(maps, masks)
        >>> game.compute()  # the first one hits
        tensor(0.5000, dtype=torch.float64)
    """

    name = "pointing"
    title = "Pointing game"
    asks = "is the strongest pixel on the object?"
    conventions = "All pixels that share the maximum must lie on the object; an all-equal map is a miss."
    quantities = (Quantity("hit", "accuracy"),)
    options = (Option("tolerance", "distance that still counts as on the object", float, "PIXELS"),)
    needs_places = True

    def __init__(self, tolerance: float = 0.0, *, average: Average = "images", **options: Any) -> None:
        super().__init__(average=average, **options)
        if not 0 <= tolerance < math.inf:
            raise InvalidInputError(f"a tolerance of {tolerance} is no distance in pixels; give 0 or more")
        self.tolerance = tolerance

    def chance(self, quantity: str, area: float | None = None) -> float | None:
        return area if self.tolerance == 0 else None

    def score(self, heat: Tensor, mask: Tensor) -> Mapping[str, float]:
        return {"hit": float(pointing_hit(heat, mask, self.tolerance))}
