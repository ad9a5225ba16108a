"""How alike two maps of the same image are: by the order of their pixels, and as pictures."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from captum_clrp.evaluation.metrics.class_similarity import class_similarity
from captum_clrp.evaluation.metrics.maps import as_pair, is_flat


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Correlation of the ranks of pixels (Spearman), from -1 to 1; equal values share their mean rank.

    A map that is all equal has no order: it is like no other one (0).

    Args:
        first: ``(H, W)`` or ``(C, H, W)``; channels are summed, and signed values ranked as they are.
        second: Likewise, of the same size.

    Raises:
        InvalidInputError: for maps of different sizes, or a map with NaN.

    Example::

        >>> first, second = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.0, 5.0, 6.0]])
        >>> round(rank_correlation(first, second), 9)
        1.0
    """
    one, other = as_pair(first, second)
    if is_flat(one) or is_flat(other):
        return 0.0
    return float(class_similarity(torch.stack([one, other]), "rank")[0, 1])


def structural_similarity(first: Tensor, second: Tensor) -> float:
    """Structural similarity (SSIM; Wang et al. 2004) of two maps as pictures, from -1 to 1.

    Each map is brought to a largest size of 1 first, as it would be drawn. The window is a Gaussian of 1.5 pixels, mirrored
    at the border; the range of values is that of both maps together. A map that is all equal is like no other one (0).

    Args:
        first: ``(H, W)`` or ``(C, H, W)``; channels are summed.
        second: Likewise, of the same size.

    Raises:
        InvalidInputError: as :func:`rank_correlation`.
    """
    one, other = as_pair(first, second)
    if is_flat(one) or is_flat(other):
        return 0.0
    # Single precision is twenty times as fast on a CPU; its error is below 1e-5.
    one, other = ((m / m.abs().max()).float() for m in (one, other))
    values = torch.stack([one, other])
    _, everywhere = structural_similarity_index_measure(
        one[None, None],
        other[None, None],
        sigma=1.5,
        data_range=float(values.max() - values.min()),
        return_full_image=True,
    )
    return float(everywhere.mean())
