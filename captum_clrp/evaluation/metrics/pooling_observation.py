"""Max poolings as they ran, with the padding of convolutions as it is, or with borders that go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_clrp.engine._torch import DisableTorchFunction
from captum_clrp.engine.scope import Scope
from captum_clrp.geometry import pair

# The arguments of these functions in their order; a call may name them.
_POOLING = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Pooling:
    """One max pooling as it ran.

    Attributes:
        name: Name of the module in which it ran, numbered if it ran several times there.
        inputs: What was pooled, ``(N, C, H, W)``.
        kernel: Size of a region, ``(down, across)``.
        stride: ``(down, across)``.
        padding: ``(down, across)``.
        dilation: ``(down, across)``.
        ceil: Whether incomplete regions at the end count.
    """

    name: str
    inputs: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool

    def lines(self, axis: int) -> list[list[int]]:
        """For each output row (axis 0) or column (axis 1), the input rows or columns that its regions see."""
        length = self.inputs.shape[2 + axis]
        k, s, p, d = self.kernel[axis], self.stride[axis], self.padding[axis], self.dilation[axis]
        span = length + 2 * p - d * (k - 1) - 1
        count = (math.ceil(span / s) if self.ceil else span // s) + 1
        if self.ceil and (count - 1) * s >= length + p:  # a region must begin inside the input or its left padding
            count -= 1
        seen = [[i * s - p + d * j for j in range(k)] for i in range(count)]
        return [[line for line in lines if 0 <= line < length] for lines in seen]


def observe_pooling(model: nn.Module, inputs: Tensor) -> list[Pooling]:
    """Run a model and note every max pooling of two dimensions, modules and functions alike.

    Args:
        model: In evaluation mode.
        inputs: ``(N, C, H, W)``.

    Returns:
        One record for each pooling, in the order in which they ran.
    """
    scope = Scope({module: name or "(model)" for name, module in model.named_modules()})
    with scope.followed(lambda module, output: None), torch.no_grad(), _Watch(scope) as watch:
        model(inputs)
    return watch.seen


class _Watch(TorchFunctionMode):
    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope
        self.seen: list[Pooling] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("max_pool2d", "boolean_dispatch", "max_pool2d_with_indices", "_max_pool2d"):
            called = dict(zip(_POOLING, args, strict=False)) | kwargs
            if isinstance(called.get("input"), Tensor) and "kernel_size" in called:
                self._note(called)
                with DisableTorchFunction():
                    return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _note(self, called: dict[str, Any]) -> None:
        inputs = called["input"]
        kernel = pair(called["kernel_size"])
        stride = called.get("stride")
        where = self.scope.name
        times = sum(p.name.partition("#")[0] == where for p in self.seen)
        self.seen.append(
            Pooling(
                name=f"{where}#{times + 1}" if times else where,
                inputs=inputs.detach().clone().reshape(-1, *inputs.shape[-3:]),
                kernel=kernel,
                stride=kernel if stride is None or stride == [] else pair(stride),
                padding=pair(called.get("padding", 0)),
                dilation=pair(called.get("dilation", 1)),
                ceil=bool(called.get("ceil_mode", False)),
            )
        )


def replicated_borders() -> TorchFunctionMode:
    """While it is on, convolutions (and ``pad`` with zeros) continue the border instead of padding with zeros.

    The model itself is not changed. What zero padding does to a network is what changes when it is on.
    """
    return _Replicate()


class _Replicate(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "conv2d":
            called = dict(zip(_CONVOLUTION, args, strict=False)) | kwargs
            amounts = _padding(called)
            if any(amounts):
                called |= {"input": F.pad(called["input"], amounts, mode="replicate"), "padding": 0}
                return func(**called)
        if name == "pad" and kwargs.get("mode", args[2] if len(args) > 2 else "constant") == "constant":
            called = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
            amounts = list(called["pad"])
            if len(amounts) == 4 and min(amounts) >= 0 and not called.get("value"):
                return func(called["input"], amounts, mode="replicate")
        return func(*args, **kwargs)


def _padding(called: dict[str, Any]) -> list[int]:
    """Left, right, top, bottom padding of a convolution."""
    padding = called.get("padding", 0)
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding == "same":
        sizes = zip(pair(called.get("dilation", 1)), called["weight"].shape[2:], strict=True)
        down, across = (d * (k - 1) for d, k in sizes)
        return [across // 2, across - across // 2, down // 2, down - down // 2]
    down, across = pair(padding)
    return [across, across, down, down]


def measured_with(model: nn.Module, inputs: Tensor, *, replicate: bool) -> list[Pooling]:
    """:func:`observe_pooling` with the padding as it is, or with replicated borders."""
    with replicated_borders() if replicate else nullcontext():
        return observe_pooling(model, inputs)
