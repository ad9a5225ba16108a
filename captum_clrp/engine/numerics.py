"""Numerical questions and quotients that several files share: what is finite, what is left where a denominator is zero.

Signs and places that are zero are found by comparing in place, as ones and zeros: ``torch.where`` takes many times as long
on a processor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite (several times faster than ``isfinite().all()``)."""
    if values.numel() == 0:
        return True
    lowest, highest = values.detach().aminmax()
    return math.isfinite(lowest) and math.isfinite(highest)


def is_nonnegative(values: Tensor) -> bool:
    """Whether no value is known to be negative; on an accelerator ``False``, for looking would make it wait."""
    return values.device.type == "cpu" and values.numel() > 0 and float(values.amin()) >= 0


def zero_if_not_finite(quotient: Tensor) -> Tensor:
    """0 where a denominator was 0: there is nothing to share by. In place."""
    return quotient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def divide(relevance: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor | None]:
    """``relevance / denominator``, 0 where that is not finite, and the relevance that this leaves unshared.

    Nothing unshared is ``None`` on a CPU; an accelerator would have to wait to find out.
    """
    quotient = (relevance / denominator).nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)
    if quotient.device.type == "cpu" and all_finite(quotient):
        return quotient, None
    unshared = quotient.abs().eq_(math.inf).mul_(relevance)
    return zero_if_not_finite(quotient), unshared


def stabilize(denominator: Tensor, epsilon: float) -> Tensor:
    """``denominator + epsilon * sign(denominator)``, where zero counts as positive."""
    signed = denominator.clone().ge_(0).mul_(2 * epsilon).sub_(epsilon)
    return signed.add_(denominator)


def at_least_single(tensor: Tensor) -> torch.dtype:
    """The type in which its values are computed with: float32, or its own if that is more precise."""
    return torch.promote_types(tensor.dtype, torch.float32)


def has_double_precision(tensor: Tensor) -> bool:
    """Whether the device of ``tensor`` knows float64."""
    return tensor.device.type != "mps"
