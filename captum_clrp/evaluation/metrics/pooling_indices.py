"""Where max pooling's winners lie at the border of the feature map (supplement B of the paper).

In the outermost regions of a max pooling, winners should lie in each of the region's lines equally often. The paper
saw that in torchvision's Inception v3 they lie in the outermost line too often, so that relevance collects on the
border of the image, and suspected the zero padding of the convolutions. Here both are measured, for any network: the
share of winners in the outermost line, against the uniform expectation and against the same share in the interior;
and the same with the zeros of all convolutions' padding replaced by copies of the border.

A region in which several pixels share the maximum (all zero behind a rectifier, say) has no winner and does not
count: the framework would name the first pixel in reading order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_clrp.engine._torch import DisableTorchFunction

__all__ = ["BorderWinners", "Pooling", "border_winners", "observe_pooling", "replicated_borders", "winner_map"]


@dataclass(frozen=True)
class Pooling:
    """One max pooling as it ran.

    Attributes:
        name: Name of the module in which it ran, numbered if it ran several times there.
        inputs: What was pooled, ``(N, C, H, W)``.
        kernel, stride, padding, dilation: ``(down, across)``.
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


class BorderWinners(NamedTuple):
    """Counts for one image and one pooling.

    Attributes:
        outer: Winners in the outermost line, over the outermost regions of all four sides.
        regions: Those regions that have a winner.
        expected: Winners in the outermost line if each line were equally likely.
        interior_first: Winners in the first line of interior regions, over the four directions.
        interior_regions: Interior regions with a winner, counted once for each direction.
    """

    outer: int
    regions: int
    expected: float
    interior_first: int
    interior_regions: int

    def shares(self) -> dict[str, float]:
        """``outer``, ``uniform`` and ``interior`` as shares of regions; NaN without any."""
        return {
            "outer": _share(self.outer, self.regions),
            "uniform": _share(self.expected, self.regions),
            "interior": _share(self.interior_first, self.interior_regions),
        }


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def observe_pooling(model: nn.Module, inputs: Tensor) -> list[Pooling]:
    """Run a model and note every max pooling of two dimensions, modules and functions alike.

    Args:
        model: In evaluation mode.
        inputs: ``(N, C, H, W)``.

    Returns:
        One record for each pooling, in the order in which they ran.
    """
    with _module_names(model) as place, torch.no_grad(), _Watch(place) as watch:
        model(inputs)
    return watch.seen


@contextmanager
def _module_names(model: nn.Module) -> Iterator[list[str]]:
    """The names of the modules that are running, innermost last."""
    running: list[str] = []
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        handles.append(module.register_forward_hook(lambda *_: running.pop() and None, always_call=True))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchFunctionMode):
    def __init__(self, place: list[str]) -> None:
        super().__init__()
        self.place = place
        self.seen: list[Pooling] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("max_pool2d", "boolean_dispatch", "max_pool2d_with_indices", "_max_pool2d"):
            called = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
            if isinstance(called.get("input"), Tensor) and "kernel_size" in called:
                self._note(called)
                with DisableTorchFunction():
                    return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _note(self, called: dict[str, Any]) -> None:
        inputs = called["input"]
        kernel = _two(called["kernel_size"])
        stride = called.get("stride")
        where = self.place[-1] if self.place and self.place[-1] else "(model)"
        times = sum(p.name.partition("#")[0] == where for p in self.seen)
        self.seen.append(
            Pooling(
                name=f"{where}#{times + 1}" if times else where,
                inputs=inputs.detach().clone().reshape(-1, *inputs.shape[-3:]),
                kernel=kernel,
                stride=kernel if stride is None or stride == [] else _two(stride),
                padding=_two(called.get("padding", 0)),
                dilation=_two(called.get("dilation", 1)),
                ceil=bool(called.get("ceil_mode", False)),
            )
        )


_ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _two(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[0])) if len(value) == 1 else (int(value[0]), int(value[1]))


def replicated_borders() -> TorchFunctionMode:
    """While it is on, convolutions (and ``pad`` with zeros) continue the border instead of padding with zeros.

    The model itself is not changed. What zero padding does to a network is what changes when it is on.
    """
    return _Replicate()


class _Replicate(TorchFunctionMode):
    _CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "conv2d":
            called = dict(zip(self._CONVOLUTION, args, strict=False)) | kwargs
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
        totals = [d * (k - 1) for d, k in zip(_two(called.get("dilation", 1)), called["weight"].shape[2:], strict=True)]
        down, across = totals
        return [across // 2, across - across // 2, down // 2, down - down // 2]
    down, across = _two(padding)
    return [across, across, down, down]


def _regions(pooling: Pooling, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Values of all regions that see exactly these rows and columns: ``(N, C, rows, columns)``."""
    return pooling.inputs[:, :, list(rows)][:, :, :, list(columns)]


def border_winners(pooling: Pooling) -> list[BorderWinners]:
    """Counts for each image of a pooling.

    Regions at a corner belong to two sides and count for each. The outermost line of a side is the outermost one that
    the side's regions see; where a pooling leaves out the last lines of its input, that is not the border itself.
    """
    rows, columns = pooling.lines(0), pooling.lines(1)
    images = pooling.inputs.shape[0]
    outer, regions, first, inside = ([0] * images for _ in range(4))
    expected = [0.0] * images
    sides = ((0, rows[0], 0), (0, rows[-1], -1), (1, columns[0], 0), (1, columns[-1], -1))
    for axis, lines, line in sides:
        across = columns if axis == 0 else rows
        won, counted = _winners(pooling, axis, [lines], across, line)
        for i in range(images):
            outer[i] += int(won[i])
            regions[i] += int(counted[i])
            expected[i] += int(counted[i]) / len(lines)
    for axis, line in itertools.product((0, 1), (0, -1)):
        along, across = (rows, columns) if axis == 0 else (columns, rows)
        won, counted = _winners(pooling, axis, along[1:-1], across[1:-1], line)
        for i in range(images):
            first[i] += int(won[i])
            inside[i] += int(counted[i])
    return [BorderWinners(*counts) for counts in zip(outer, regions, expected, first, inside, strict=True)]


def _winners(
    pooling: Pooling, axis: int, along: Sequence[Sequence[int]], across: Sequence[Sequence[int]], line: int
) -> tuple[Tensor, Tensor]:
    """For each image: winners in one line (0 or -1) of the regions, and regions with a winner."""
    values = pooling.inputs if axis == 0 else pooling.inputs.transpose(2, 3)
    won = torch.zeros(len(values), dtype=torch.long)
    counted = torch.zeros(len(values), dtype=torch.long)
    for size in {len(lines) for lines in across}:
        columns = torch.tensor([lines for lines in across if len(lines) == size])  # (R, k)
        for lines in along:
            strip = values[:, :, list(lines)]  # (N, C, L, W)
            region = strip[:, :, :, columns]  # (N, C, L, R, k)
            largest = region.amax((2, 4), keepdim=True)
            at = region == largest
            unique = at.sum((2, 4)) == 1  # (N, C, R)
            there = at[:, :, line].any(-1) & unique
            won += there.sum((1, 2)).cpu()
            counted += unique.sum((1, 2)).cpu()
    return won, counted


def winner_map(pooling: Pooling) -> Tensor:
    """How often each input position wins in the outermost regions of a ``pooling``, over images and channels; ``(H, W)``."""
    counts = torch.zeros(pooling.inputs.shape[2:], dtype=torch.long)
    rows, columns = pooling.lines(0), pooling.lines(1)
    last_row, last_column = len(rows) - 1, len(columns) - 1
    for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)):
        if i not in (0, last_row) and j not in (0, last_column):
            continue
        region = _regions(pooling, r, c)
        at = region == region.amax((2, 3), keepdim=True)
        at &= at.sum((2, 3), keepdim=True) == 1
        counts[r[0] : r[-1] + 1 : _step(r), c[0] : c[-1] + 1 : _step(c)] += at.sum((0, 1)).cpu()
    return counts


def _step(lines: Sequence[int]) -> int:
    return lines[1] - lines[0] if len(lines) > 1 else 1


def measured_with(model: nn.Module, inputs: Tensor, *, replicate: bool) -> list[Pooling]:
    """:func:`observe_pooling` with the padding as it is, or with replicated borders."""
    with replicated_borders() if replicate else nullcontext():
        return observe_pooling(model, inputs)
