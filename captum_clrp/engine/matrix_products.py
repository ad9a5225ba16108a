"""Matrix products on a processor, by whichever of PyTorch's libraries is fast at them.

PyTorch leaves products in float32 to Intel's MKL, which on AMD's processors with AVX-512 takes longer than oneDNN, which has
the convolutions. A product is a convolution with a kernel of one place, and PyTorch hands that to oneDNN where it has a
dilation, of which such a kernel takes no notice.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_clrp.engine._torch import mkl_is_slow

_FEWEST_ROWS = 48
"""Rows of values from which on the weights are worth bringing into oneDNN's order."""
_FEWEST_CHANNELS = 32
_FEWEST_MULTIPLICATIONS = 2**23
_LARGEST_WEIGHT = 2**25
"""Bytes; to bring more into another order takes as long as is saved."""
_SMALL = 20480
"""Values of a single example up to which PyTorch hands no convolution with such a kernel to oneDNN."""


def product(values: Tensor, weight: Tensor) -> Tensor:
    """``values @ weight.T``.

    Args:
        values: ``(..., in)``.
        weight: ``(out, in)``.

    Returns:
        ``(..., out)``.
    """
    if values.numel() <= _SMALL or not _better_as_convolution(values, weight, _rows(values)):
        return F.linear(_in_rows(values), weight).view(*values.shape[:-1], weight.size(0))
    return _rows_of(_convolution(_picture_of(values), weight[..., None, None]), values)


def transposed_product(signal: Tensor, weight: Tensor) -> Tensor:
    """``signal @ weight``.

    Args:
        signal: ``(..., out)``.
        weight: ``(out, in)``.

    Returns:
        ``(..., in)``.
    """
    if signal.numel() <= _SMALL or not _better_as_convolution(signal, weight, _rows(signal)):
        return _in_rows(signal).mm(weight).view(*signal.shape[:-1], weight.size(1))
    return _rows_of(_convolution(_picture_of(signal), weight[..., None, None], transposed=True), signal)


def pointwise(values: Tensor, weight: Tensor) -> Tensor | None:
    """A convolution with a kernel of one place, as a matrix product; ``None`` where the convolution itself is best.

    Args:
        values: ``(N, in, ...)``.
        weight: ``(out, in, 1, ...)``.

    Returns:
        ``(N, out, ...)``.
    """
    if _is_large(values) and _better_as_convolution(values, weight, values.numel() // weight.size(1)):
        return _convolution(values, weight)
    if not _is_one_picture(values):
        return None
    return weight.flatten(1).mm(values[0].flatten(1)).view(1, -1, *values.shape[2:])


def transposed_pointwise(signal: Tensor, weight: Tensor, values: Tensor) -> Tensor | None:
    """The transpose of :func:`pointwise`.

    Args:
        signal: ``(N, out, ...)``.
        weight: ``(out, in, 1, ...)``.
        values: ``(N, in, ...)``, of which the shape counts.

    Returns:
        ``(N, in, ...)``; ``None`` where the transposed convolution is best.
    """
    if _better_as_convolution(signal, weight, signal.numel() // weight.size(0)):
        if _is_large(signal):
            return _convolution(signal, weight, transposed=True)
        if _is_large(values):
            return _gradient(signal, weight, values)
    if not _is_one_picture(values):
        return None
    return weight.flatten(1).t().mm(signal[0].flatten(1)).view_as(values)


def _better_as_convolution(values: Tensor, weight: Tensor, rows: int) -> bool:
    """Whether oneDNN has the product of ``rows`` rows sooner."""
    return (
        rows >= _FEWEST_ROWS
        and min(weight.shape[:2]) >= _FEWEST_CHANNELS
        and rows * weight.numel() >= _FEWEST_MULTIPLICATIONS
        and values.dtype == weight.dtype == torch.float32
        and values.device.type == "cpu"
        and weight.nbytes <= _LARGEST_WEIGHT
        and mkl_is_slow()
    )


def _is_large(pictures: Tensor) -> bool:
    """Whether these are pictures, many or large enough for PyTorch to hand them to oneDNN."""
    return pictures.dim() == 4 and (len(pictures) > 1 or pictures.numel() > _SMALL)


def _is_one_picture(values: Tensor) -> bool:
    return len(values) == 1 and values.device.type == "cpu" and values.is_contiguous()


def _rows(values: Tensor) -> int:
    return math.prod(values.shape[:-1])


def _in_rows(values: Tensor) -> Tensor:
    """``(..., channels)`` as one matrix: of values that lie otherwise PyTorch takes a product, and a copy of the weights, each."""
    return values.reshape(_rows(values), values.size(-1))


def _picture_of(rows: Tensor) -> Tensor:
    """``(..., channels)`` as one picture ``(1, channels, rows, 1)`` in the same memory."""
    return _in_rows(rows)[None, :, None].permute(0, 3, 1, 2)


def _rows_of(picture: Tensor, like: Tensor) -> Tensor:
    """Back from :func:`_picture_of`: ``(..., channels)``, shaped as ``like`` but for the channels."""
    return picture.permute(0, 2, 3, 1).reshape(*like.shape[:-1], picture.size(1))


def _convolution(values: Tensor, weight: Tensor, *, transposed: bool = False) -> Tensor:
    return torch.convolution(values, weight, None, [1, 1], [0, 0], [2, 2], transposed, [0, 0], 1)


def _gradient(signal: Tensor, weight: Tensor, values: Tensor) -> Tensor:
    gradients = torch.ops.aten.convolution_backward.default(
        signal, values, weight, None, [1, 1], [0, 0], [2, 2], False, [0, 0], 1, [True, False, False]
    )
    return gradients[0]
