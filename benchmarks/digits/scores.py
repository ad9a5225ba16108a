"""What is measured of a map: where its positive relevance lies, what its best patches are worth, whether it tells classes apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.digits.collages import BACKGROUND, CELLS, SIZE

PATCH = 4  # pixels of a patch's side; a patch lies within one cell
GRID = SIZE // PATCH  # patches of the canvas's side
CHANCE = 1 / CELLS

Model = Callable[[Tensor], Tensor]


def by_patches(maps: Tensor) -> Tensor:
    """Sum of each patch; from (M, 16, 16) to (M, 4, 4)."""
    return maps.unflatten(2, (GRID, PATCH)).unflatten(1, (GRID, PATCH)).sum((2, 4))


def positive_by_cell(maps: Tensor) -> Tensor:
    """Positive relevance in each cell, row by row; from (M, H, W), pixels or patches, to (M, 4)."""
    half = maps.shape[1] // 2
    return maps.clamp(min=0).unflatten(2, (2, half)).unflatten(1, (2, half)).sum((2, 4)).flatten(1)


def share(maps: Tensor, cells: Tensor) -> Tensor:
    """Share of the positive relevance that lies in the target's cell, 0 for a map without any.

    Args:
        maps: pixels or patches, shape (M, H, W).
        cells: the target's cell of each map, 0 to 3, shape (M,).

    Returns:
        Shares from 0 to 1, shape (M,). One in four is chance.
    """
    amounts = positive_by_cell(maps)
    inside = amounts.gather(1, cells[:, None])[:, 0]
    return torch.where(inside > 0, inside / amounts.sum(1), 0.0)


def pointing(maps: Tensor, cells: Tensor) -> Tensor:
    """1.0 where the target's cell has more positive relevance than each other cell, else 0.0; arguments as in :func:`share`."""
    amounts = positive_by_cell(maps)
    inside = amounts.gather(1, cells[:, None])
    return (amounts >= inside).sum(1).eq(1).logical_and(inside[:, 0] > 0).to(maps.dtype)


def similarity(maps: Tensor) -> Tensor:
    """Mean cosine similarity of the maps of each two classes of one image; from (N, K, 16, 16) to (N,).

    The maps are signed; 1 means that the class does not matter.
    """
    flat = maps.flatten(2).double()  # squares of small numbers
    cosines = cosine_similarity(flat[:, :, None], flat[:, None], dim=3, eps=torch.finfo(flat.dtype).tiny)
    first, second = torch.triu_indices(maps.shape[1], maps.shape[1], offset=1)
    return cosines[:, first, second].mean(1)


@torch.no_grad()
def faithfulness(model: Model, images: Tensor, targets: Tensor, maps: Tensor) -> Tensor:
    """What the best patches are worth: replace patches by background, the least relevant first, and the most relevant first.

    Args:
        model: from images to logits.
        images: shape (M, 1, 16, 16).
        targets: class of each map, shape (M,).
        maps: shape (M, 16, 16).

    Returns:
        The target's logit less the mean logit, averaged over 1 to 15 patches replaced: least relevant first minus most relevant first,
        in units of the logit; shape (M,). 0 is chance, more is better.
    """
    order = by_patches(maps).flatten(1).argsort(dim=1, descending=True, stable=True)  # (M, 16)
    rank = order.argsort(dim=1)
    counts = torch.arange(1, GRID**2)  # patches replaced
    most_first = rank[:, None] < counts[:, None]  # (M, 15, 16)
    least_first = rank[:, None] >= GRID**2 - counts[:, None]
    return _mean_margin(model, images, targets, least_first) - _mean_margin(model, images, targets, most_first)


def _mean_margin(model: Model, images: Tensor, targets: Tensor, replaced: Tensor) -> Tensor:
    """Target's logit less the mean logit, averaged over masks of patches of shape (M, K, 16)."""
    masks = (
        replaced.unflatten(2, (GRID, GRID)).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    )  # (M, K, 16, 16)
    logits = model(torch.where(masks, BACKGROUND, images).flatten(0, 1)[:, None]).unflatten(0, masks.shape[:2])
    return (logits - logits.mean(2, keepdim=True))[torch.arange(len(targets)), :, targets].mean(1)
