"""Random networks of supported operations, each step with its forward and, from the paper's rules alone, its backward.

The backward is that of :mod:`oracles`: dense matrices in float64, no code of the package, no autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from helpers import oracles
from hypothesis import strategies as st
from torch import Tensor, nn

Values = list[Tensor]


class Step(nn.Module):
    """One operation on earlier values.

    ``sources`` are their positions; ``overwrites`` says that the first of them is overwritten in place, so that no later
    step may read it, nor what shares its memory.
    """

    overwrites = False

    def __init__(self, *sources: int) -> None:
        super().__init__()
        self.sources = sources

    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        """Relevance of each source."""
        raise NotImplementedError


class Weighted(Step):
    """A convolution or a fully connected layer: z^beta on the input of the network, z+ elsewhere."""

    def __init__(self, module: nn.Module, source: int) -> None:
        super().__init__(source)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)

    def share(self, inputs: Values, relevance: Tensor, conserve: bool, negated: bool = False) -> Values:
        (x,) = inputs
        weights, reach = oracles.module_matrices(self.module, x.shape[1:])
        weights = -weights if negated else weights
        reach |= ~reach.any(1, keepdim=True)  # what only padding reaches is spread over all inputs
        options: Any = {"conserve": conserve, "reach": reach}
        if self.sources == (0,):
            return [oracles.zbeta_dense(weights, x, None, None, relevance, **options)]
        return [oracles.zplus_dense(weights, x, relevance, **options)]


class Function(Step):
    """A step that applies a function to one value."""

    def __init__(self, function: Callable[[Tensor], Tensor], source: int) -> None:
        super().__init__(source)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Passing(Function):
    """Activation, normalisation, constant: relevance passes."""

    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        return [relevance]


class InPlaceReLU(Passing):
    overwrites = True

    def __init__(self, source: int) -> None:
        super().__init__(torch.relu_, source)


class Moving(Function):
    """A step that only moves values, or repeats or drops some: relevance goes back the same way."""

    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        (x,) = inputs
        moves = oracles.dense_matrix(self.function, x.shape[1:])
        return [(relevance.flatten(1) @ moves).reshape(x.shape)]


class Gate(Step):
    """Squeeze and excitation: relevance follows the signal."""

    def __init__(self, channels: int, source: int) -> None:
        super().__init__(source)
        self.excite = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(x.mean((2, 3))))[:, :, None, None]

    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        return [relevance]


class Sum(Step):
    """A residual connection."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        return oracles.sum_rule(inputs, relevance)


class InPlaceSum(Sum):
    overwrites = True

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a += b
        return a


class Concatenation(Step):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((a, b), 1)

    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        return list(relevance.split([x.shape[1] for x in inputs], 1))


class MaximumPooling(Function):
    def __init__(self, source: int) -> None:
        super().__init__(nn.MaxPool2d(3, stride=2, padding=1), source)

    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        return [oracles._max_pool(self.function, inputs[0], relevance)]


class AveragePooling(Function):
    def share(self, inputs: Values, relevance: Tensor, conserve: bool) -> Values:
        regions = oracles.dense_matrix(self.function, inputs[0].shape[1:])
        return [oracles.average_pool_dense(regions, inputs[0], relevance, "proportional")]


class RandomNetwork(nn.Module):
    """Steps one after the other; value 0 is the input, value i + 1 what step i made; the last one is the output."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.values(x)[-1]

    def values(self, x: Tensor, keep: Callable[[Tensor], Tensor] = lambda x: x) -> Values:
        values = [x]
        kept = [keep(x)]
        for step in self.steps:
            values.append(step(*(values[i] for i in step.sources)))
            kept.append(keep(values[-1]))
        return kept

    def relevance(self, x: Tensor, initial: Tensor, *, conserve: bool = False, negated: bool = False) -> Tensor:
        """Relevance of the input by the rules; with ``negated`` the output layer has its weights negated."""
        with torch.no_grad():
            values = self.values(x, torch.clone)
            received = [torch.zeros_like(v) for v in values]
            received[-1] = initial
            for position, step in reversed(list(enumerate(self.steps))):
                inputs = [values[i] for i in step.sources]
                last = {"negated": True} if negated and position == len(self.steps) - 1 else {}
                shares = step.share(inputs, received[position + 1], conserve, **last)
                for source, share in zip(step.sources, shares, strict=True):
                    received[source] = received[source] + share
        return received[0]

    def __repr__(self) -> str:
        lines = [f"{i + 1}: {step} of {step.sources}" for i, step in enumerate(self.steps)]
        return "\n".join(lines)


ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.silu,
    F.hardswish,
    F.gelu,
    torch.tanh,
    lambda x: x * 0.5,
    lambda x: x + 0.25,
]
MOVES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.flip(3),
    lambda x: x.transpose(2, 3),
    lambda x: x.roll(1, 2),
    lambda x: x[:, :, 1:],
    lambda x: F.interpolate(x, scale_factor=2),
    lambda x: torch.stack(x.chunk(2, 1)[::-1]).transpose(0, 1).flatten(1, 2) if x.shape[1] % 2 == 0 else x,
]
KINDS = (
    "convolution",
    "transposed",
    "again",
    "activation",
    "relu_",
    "norm",
    "move",
    "gate",
    "add",
    "add_",
    "cat",
    "max_pool",
    "avg_pool",
)


@st.composite
def random_networks(draw: st.DrawFn) -> tuple[RandomNetwork, Tensor]:
    """A network of up to ten steps in float64 and two inputs for it."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    values: Values = [x]
    steps: list[Step] = []
    readable: list[int] = []

    def append(step: Step) -> None:
        step.double().eval()
        with torch.no_grad():
            values.append(step(*(values[i] for i in step.sources)))
        steps.append(step)
        if step.overwrites:
            readable[:] = [i for i in readable if not _share_memory(values[i], values[-1])]
        readable.append(len(steps))

    append(Weighted(nn.Conv2d(3, draw(st.integers(2, 4)), 3, padding=1), 0))
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8)):
        source = draw(st.sampled_from(readable))
        channels, size = values[source].shape[1], min(values[source].shape[2:])
        alike = [i for i in readable if values[i].shape == values[source].shape]
        if kind == "convolution":
            first = draw(st.booleans())  # a second branch that starts at the input
            append(
                Weighted(_convolution(draw, 3 if first else channels), 0 if first else source)
                if size > 2 or first
                else Weighted(nn.Conv2d(channels, 2, 1), source)
            )
        elif kind == "transposed":
            stride = 2 if size < 9 else 1
            append(Weighted(nn.ConvTranspose2d(channels, 3, 3, stride=stride, padding=1), source))
        elif kind == "again":  # a module that is used twice
            convolution = nn.Conv2d(channels, channels, 3, padding=1)
            append(Weighted(convolution, source))
            append(Weighted(convolution, len(steps)))
        elif kind == "activation":
            append(Passing(draw(st.sampled_from(ACTIVATIONS)), source))
        elif kind == "relu_":
            append(InPlaceReLU(source))
        elif kind == "norm":
            append(Passing(_normalization(draw, channels), source))
        elif kind == "move" and 1 < size < 9:
            append(Moving(draw(st.sampled_from(MOVES)), source))
        elif kind == "gate":
            append(Gate(channels, source))
        elif kind in ("add", "add_"):
            other = draw(st.sampled_from(alike))
            in_place = kind == "add_" and not _share_memory(values[source], values[other])
            append((InPlaceSum if in_place else Sum)(source, other))
        elif kind == "cat" and channels < 6:
            append(Concatenation(source, draw(st.sampled_from(alike))))
        elif kind == "max_pool":
            append(MaximumPooling(source))
        elif kind == "avg_pool" and size > 1:
            append(AveragePooling(nn.AvgPool2d(2, ceil_mode=draw(st.booleans())), source))
    if draw(st.booleans()):
        append(AveragePooling(nn.AdaptiveAvgPool2d(1), len(steps)))
    append(Moving(nn.Flatten(), len(steps)))
    append(Weighted(nn.Linear(values[-1].shape[1], 4), len(steps)))
    return RandomNetwork(steps), x


def _share_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _convolution(draw: st.DrawFn, channels: int) -> nn.Module:
    groups = channels if draw(st.booleans()) else 1
    return nn.Conv2d(
        channels,
        channels * draw(st.integers(1, 2)) if channels < 4 else channels,
        draw(st.sampled_from([1, 2, 3])),
        stride=draw(st.sampled_from([1, 2])),
        padding=draw(st.integers(0, 1)),
        groups=groups,
        bias=draw(st.booleans()),
    )


def _normalization(draw: st.DrawFn, channels: int) -> nn.Module:
    if draw(st.booleans()):
        return nn.GroupNorm(1, channels)
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    return norm
