"""Does the map change when the image hardly does? Sensitivity to small noise (Yeh et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.maps import as_map

__all__ = ["RADIUS", "SAMPLES", "noisy", "relative_change"]

RADIUS = 0.05
"""Largest noise, as a share of the range of pixel values."""
SAMPLES = 8


def relative_change(before: Tensor, after: Tensor) -> float:
    """Size of the change of a map in units of the map: ``norm(after - before) / norm(before)``.

    Args:
        before: ``(H, W)`` or ``(C, H, W)``; channels are summed.
        after: Likewise, of the noisy image.

    Returns:
        A number of 0 or more; 0 where neither map holds anything, infinite where only the first holds nothing.

    Raises:
        InvalidInputError: for maps of different sizes, or a map with NaN.

    Example::

        >>> round(relative_change(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]])), 9)
        0.2
    """
    one, other = as_map(before), as_map(after)
    if one.shape != other.shape:
        raise InvalidInputError(
            f"maps of {tuple(one.shape)} and {tuple(other.shape)} pixels cannot be compared; give maps of one size"
        )
    scale = one.abs().max()
    if not scale > 0:
        return float("inf") if bool(other.any()) else 0.0
    return float((other.to(one.device) / scale - one / scale).norm() / (one / scale).norm())


def noisy(image: Tensor, low: Tensor, high: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """The image with uniform noise, cut to what pixels can be.

    Args:
        image: ``(C, H, W)``, as the model takes it.
        low: Lowest value of each channel, ``(C, 1, 1)``.
        high: Highest value of each channel, ``(C, 1, 1)``.
        radius: Largest noise, as a share of ``high - low``.
        generator: Of the noise, on the CPU.

    Raises:
        InvalidInputError: for a ``radius`` that is not between 0 and 1.
    """
    if not 0 < radius <= 1:
        raise InvalidInputError(
            f"radius={radius!r} is no share of the range of pixels; give a number above 0, at most 1"
        )
    drawn = 2 * torch.rand(image.shape, generator=generator) - 1
    return torch.clamp(image + radius * (high - low) * drawn.to(image), low, high)
