"""How alike the maps of different classes are (paper, section 3.1, fig. 1): 1 means that the class does not matter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.base import PerImageMetric
from captum_clrp.evaluation.metrics.maps import as_map, is_flat

__all__ = ["MEASURES", "ClassSimilarity", "class_similarity", "mean_similarity"]

MEASURES = ("cosine", "correlation", "rank")


def class_similarity(maps: Tensor, measure: str = "cosine") -> Tensor:
    """Similarity of each pair of maps.

    A map that is all equal cannot tell classes apart, so it counts as alike (1) to any other.

    Args:
        maps: K maps of one image, ``(K, H, W)`` or ``(K, C, H, W)``; channels are summed.
        measure: ``"cosine"`` of the values; ``"correlation"``, the cosine after subtracting each map's mean; or
            ``"rank"``, the correlation of ranks (Spearman; equal values share their mean rank).

    Returns:
        ``(K, K)``, float64, symmetric, with ones on the diagonal.

    Raises:
        InvalidInputError: for an unknown measure, or a map with NaN.

    Example::

        >>> maps = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 2.0]]])  # the second is all equal
        >>> class_similarity(maps)[0].tolist()
        [1.0, 1.0, 0.0]
    """
    if measure not in MEASURES:
        raise InvalidInputError(f"measure={measure!r} is not known; choose one of {', '.join(MEASURES)}")
    heats = [as_map(m) for m in maps]
    flat = torch.tensor([is_flat(h) for h in heats])
    rows = torch.stack([h.flatten() for h in heats])
    if measure == "rank":
        rows = torch.stack([_ranks(row) for row in rows])
    if measure != "cosine":
        rows = rows - rows.mean(1, keepdim=True)
    # Each row is brought to a largest value of 1 first: squares of float32-sized relevance could underflow.
    rows = rows / rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    similar = (rows @ rows.T).clamp(-1, 1)
    similar[flat, :] = 1
    similar[:, flat] = 1
    return similar.fill_diagonal_(1)


def mean_similarity(maps: Tensor, measure: str = "cosine") -> float:
    """Mean of :func:`class_similarity` over all pairs of different maps.

    Args:
        maps, measure: As for :func:`class_similarity`.

    Raises:
        InvalidInputError: if there are fewer than two maps; otherwise as :func:`class_similarity`.
    """
    if len(maps) < 2:
        raise InvalidInputError(f"{len(maps)} map cannot be compared; give the maps of at least two classes")
    similar = class_similarity(maps, measure)
    k = len(similar)
    return float((similar.sum() - k) / (k * (k - 1)))


def _ranks(row: Tensor) -> Tensor:
    """Ranks from 0; equal values share their mean rank."""
    _, group, count = row.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count.double() + 1) / 2)[group]


class ClassSimilarity(PerImageMetric):
    """Mean similarity of the maps of different classes for the same image; low is good.

    Args:
        measure: As for :func:`class_similarity`. Default: ``"cosine"``.
        average: ``"images"`` or ``"classes"``.
    """

    higher_is_better = False

    def __init__(self, measure: str = "cosine", *, average: str = "images", **options: Any) -> None:
        super().__init__(average=average, **options)
        self.measure = measure

    def update(self, maps: Tensor, labels: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            maps: ``(N, K, H, W)`` or ``(N, K, C, H, W)``, the maps of K classes for each image.
            labels: ``(N,)``, a class of each image; needed for ``average="classes"``.
        """
        self.keep([mean_similarity(m, self.measure) for m in maps], labels)
