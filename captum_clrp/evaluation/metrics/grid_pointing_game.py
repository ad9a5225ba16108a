"""The grid pointing game (Böhle et al. 2021): is the relevance for a class in the cell that shows the class?

A scene of n x n photographs of different classes leaves no doubt where the evidence for each class is, without boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.base import MapMetric, Quantity
from captum_clrp.evaluation.metrics.energy_inside import energy_inside
from captum_clrp.evaluation.metrics.pointing_game import pointing_hit
from captum_clrp.evaluation.sources.grids import cell_mask
from captum_clrp.evaluation.statistics import Average


def grid_score(attribution: Tensor, cell: int, n: int) -> tuple[float, bool]:
    """Share of positive relevance in the target's cell, and whether the maximum lies there.

    Chance level is ``1 / n**2`` for both. A map without positive values scores 0; a map that is all equal is no hit.

    Args:
        attribution: ``(H, W)`` or ``(C, H, W)`` of a scene.
        cell: The cell that shows the explained class.
        n: Cells along each side.

    Returns:
        The share, from 0 to 1, and the hit.

    Raises:
        InvalidInputError: as :func:`cell_mask`, or for a map with NaN.
    """
    mask = cell_mask(cell, n, *attribution.shape[-2:])
    return energy_inside(attribution, mask), pointing_hit(attribution, mask)


class GridPointingGame(MapMetric):
    """Mean share of positive relevance in the right cell, and how often the maximum lies there.

    Args:
        n: Cells along each side. Default: 2.
        average: ``"images"`` (each cell of each scene counts alike) or ``"classes"``.

    Raises:
        InvalidInputError: for ``n`` below 2, and in ``update`` for another number of cells than maps.

    Example::

        >>> import torch
        >>> game = GridPointingGame(n=2)
        >>> maps = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]])  # of scenes
        >>> game.update(maps, torch.tensor([0]))  # the cell of each map's class
        >>> float(game.compute()["share"]), float(game.compute()["hit"])
        (0.75, 1.0)
    """

    name = "grid"
    title = "Grid pointing game"
    asks = "is the relevance for a class in the cell of a grid that shows the class?"
    conventions = "Chance level is one over the number of cells. A map without positive values is no hit and scores 0."
    quantities = (
        Quantity("share", "share of positive relevance in the right cell"),
        Quantity("hit", "maximum in the right cell"),
    )
    needs_places = True
    scenes = 2

    def __init__(self, n: int = 2, *, average: Average = "images", **options: Any) -> None:
        super().__init__(average=average, **options)
        if n < 2:
            raise InvalidInputError(f"n={n} makes no grid; give at least 2")
        self.n = n

    def chance(self, quantity: str, area: float | None = None) -> float | None:
        return 1 / self.n**2

    def score(self, heat: Tensor, mask: Tensor) -> Mapping[str, float]:
        return {"share": energy_inside(heat, mask), "hit": float(pointing_hit(heat, mask))}

    def update(self, maps: Tensor, cells: Tensor, labels: Tensor | None = None) -> None:  # type: ignore[override]
        """Measure a batch.

        Args:
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
            cells: ``(N,)``, the target's cell, row by row from 0.
            labels: ``(N,)``, the explained classes; needed for ``average="classes"``.
        """
        if len(maps) != len(cells):
            raise InvalidInputError(f"{len(maps)} maps and {len(cells)} cells were given; give one cell for each map")
        masks = [cell_mask(int(cell), self.n, *maps.shape[-2:]) for cell in cells]
        self.keep([list(self.score(heat, mask).values()) for heat, mask in zip(maps, masks, strict=True)], labels)
