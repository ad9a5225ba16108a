"""Whether relevance is computed in bfloat16: what the user asks for, and what the device is good at.

Sums of contributions of one sign lose nothing but digits in bfloat16, which has the range of float32 and 8 bits of
precision: nothing cancels. A processor without arithmetic for it converts each number to and fro instead.
"""

from __future__ import annotations

import functools
import time

import torch
import torch.nn.functional as F

from captum_clrp.engine._torch import bfloat16_on_processor
from captum_clrp.engine.settings import Precision
from captum_clrp.errors import warn


def takes_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether relevance on ``device`` is computed in bfloat16; a device that is slow at it is worth a warning."""
    if precision == "auto":
        return has_fast_bfloat16(device)
    if precision == "bfloat16" and not has_fast_bfloat16(device):
        warn(
            f"precision='bfloat16' was asked for, but this device ({device.type}) has no arithmetic for bfloat16: a "
            f"convolution takes {slowdown(device):.1f} times as long in it as in float32; precision='auto' takes bfloat16 "
            "where it is faster"
        )
    return precision == "bfloat16"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16: AVX512-BF16 or AMX, or tensor cores from Ampere on."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bfloat16_on_processor()


@functools.lru_cache(maxsize=8)
def slowdown(device: torch.device) -> float:
    """How many times as long a convolution of 64 by 64 channels takes in bfloat16 as in float32, measured."""
    values, weight = torch.rand(1, 64, 28, 28, device=device), torch.rand(64, 64, 3, 3, device=device)
    return _duration(values.bfloat16(), weight.bfloat16()) / _duration(values, weight)


def _duration(values: torch.Tensor, weight: torch.Tensor) -> float:
    durations = []
    with torch.no_grad():
        for _ in range(5):
            began = time.perf_counter()
            float(F.conv2d(values, weight, padding=1)[0, 0, 0, 0])  # waits for an accelerator
            durations.append(time.perf_counter() - began)
    return min(durations)
