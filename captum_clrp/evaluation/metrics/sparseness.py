"""Is the evidence on few pixels? The Gini index of a map (Chalasani et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from captum_clrp.evaluation.metrics.base import MapMetric, Quantity
from captum_clrp.evaluation.metrics.maps import as_map


def gini(attribution: Tensor) -> float:
    r"""Gini index of the sizes of a map: 0 where all pixels weigh the same, towards 1 where a single one has all.

    .. math:: G = \frac{\sum_{i=1}^n (2i - n - 1) a_i}{n \sum_i a_i}, \quad a_1 \le \ldots \le a_n

    A map of zeros has index 0.

    Args:
        attribution: ``(H, W)`` or ``(C, H, W)``; channels are summed, and sizes count.

    Raises:
        InvalidInputError: for a map with NaN.

    Example::

        >>> gini(torch.tensor([[0.0, 0.0], [0.0, 5.0]]))  # all on one of four pixels
        0.75
    """
    sizes = as_map(attribution).abs().flatten().sort().values
    n, total = len(sizes), sizes.sum()
    if not total > 0:
        return 0.0
    sizes = sizes / total  # first, so that tiny relevance does not underflow
    weights = 2 * torch.arange(1, n + 1, dtype=sizes.dtype, device=sizes.device) - n - 1
    return float((weights * sizes).sum() / n)


class Sparseness(MapMetric):
    """Mean Gini index of maps; conventions of :func:`gini`.

    Args:
        average: ``"images"`` or ``"classes"``.
    """

    name = "sparseness"
    title = "Sparseness (Gini index)"
    asks = "is the evidence on few pixels?"
    conventions = "Sizes count, whatever their sign. A map of zeros, and an all-equal one, score 0."
    quantities = (Quantity("gini", "Gini index", ""),)

    def score(self, heat: Tensor, mask: Tensor) -> Mapping[str, float]:
        return {"gini": gini(heat)}
