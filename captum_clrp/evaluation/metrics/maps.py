"""What all metrics agree on about a map: its shape, its positive part, its maximum, and when it says nothing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError


class Point(NamedTuple):
    """A pixel, by its row and column."""

    row: int
    column: int


def as_map(attribution: Tensor) -> Tensor:
    """One value for each pixel, in float64.

    Args:
        attribution: ``(H, W)``, or ``(C, H, W)``, whose channels are summed (relevance is additive).

    Returns:
        ``(H, W)``.

    Raises:
        InvalidInputError: for another shape, no pixel, or a value that is NaN or infinite.
    """
    if attribution.dim() not in (2, 3) or attribution.numel() == 0:
        raise InvalidInputError(
            f"a map of shape {tuple(attribution.shape)} was given; a metric takes (H, W) or (C, H, W) for one image"
        )
    values = attribution.detach().double()
    values = values.sum(0) if values.dim() == 3 else values
    if not bool(values.isfinite().all()):
        raise InvalidInputError(
            "the map holds NaN or infinite values, which no metric can rank; look at the method that made it"
        )
    return values


def as_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps that are compared, one value for each pixel, on the device of the first.

    Raises:
        InvalidInputError: for maps of different sizes; otherwise as :func:`as_map`.
    """
    one, other = as_map(first), as_map(second)
    if one.shape != other.shape:
        raise InvalidInputError(
            f"maps of {tuple(one.shape)} and {tuple(other.shape)} pixels cannot be compared; give maps of one size"
        )
    return one, other.to(one.device)


def as_mask(mask: Tensor, values: Tensor) -> Tensor:
    """A mask that fits a map, boolean and on the map's device.

    Raises:
        InvalidInputError: if shapes differ or nothing is marked.
    """
    if mask.shape != values.shape:
        raise InvalidInputError(
            f"a mask of shape {tuple(mask.shape)} does not fit a map of shape {tuple(values.shape)}; "
            "draw it in the coordinates of the map (see captum_clrp.evaluation.box_mask)"
        )
    marked = mask.to(values.device, torch.bool)
    if not bool(marked.any()):
        raise InvalidInputError("the mask marks no pixel; leave out images whose object was cropped away")
    return marked


def is_flat(values: Tensor) -> bool:
    """Whether all pixels are equal, so that the map points nowhere."""
    return bool(values.min() == values.max())


def positive_part(values: Tensor) -> Tensor:
    """Evidence for the class: ``values`` of any shape, where evidence against it counts as nothing."""
    return values.clamp(min=0)


def peaks(values: Tensor) -> Tensor:
    """All pixels of the largest value, ``(n, 2)`` as row and column, in reading order."""
    return (values == values.max()).nonzero()


def first_peak(values: Tensor) -> Point | None:
    """The pixel of the largest value, the first in reading order of several; ``None`` for a flat map."""
    if is_flat(values):
        return None
    row, column = divmod(int(values.flatten().argmax()), values.shape[1])
    return Point(row, column)
