"""The domain ``[low, high]`` of the input, which the z^beta rule of the first layer needs (paper, eq. 1).

Bounds are in the units of the model's input: for photographs these are *normalised* pixels, ``(pixel - mean) / std``.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from captum_clrp.engine.numerics import all_finite
from captum_clrp.errors import InvalidInputError, check_choice

__all__ = ["BoundType", "Bounds", "InputDomain", "Outside", "bounds_from_transform", "normalized_bounds", "own_range"]

BoundType = float | Tensor | tuple[float | Tensor, ...] | None
"""A lowest or a highest value of the input, as a number or as a tensor that broadcasts to it; for several inputs a tuple of
these. ``None`` takes the range of each example."""

Outside = Literal["error", "clip", "widen"]
"""An input outside its bounds is refused, or it is clipped, or the bounds of its example are widened."""


class Bounds(NamedTuple):
    """Domain of one tensor: lowest and highest values, each shaped as the tensor itself."""

    low: Tensor
    high: Tensor


def normalized_bounds(
    mean: Sequence[float], std: Sequence[float], pixel_range: tuple[float, float] = (0.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Bounds of images normalised channel by channel.

    Args:
        mean: Mean of each of the C channels, in pixel units.
        std: Standard deviation of each channel, in pixel units, greater than 0.
        pixel_range: Lowest and highest pixel value before normalisation. Default: ``(0, 1)``.

    Returns:
        ``(low, high)``, each of shape ``(1, C, 1, 1)``, in normalised units.

    Raises:
        InvalidInputError: if mean and std do not fit or std is not positive.
    """
    means, stds = torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
    if means.dim() != 1 or means.shape != stds.shape or not bool((stds > 0).all()):
        raise InvalidInputError(
            f"mean={tuple(mean)} and std={tuple(std)} do not describe a normalisation; "
            "give one mean and one positive std for each channel"
        )
    means, stds = means.reshape(1, -1, 1, 1), stds.reshape(1, -1, 1, 1)
    return (pixel_range[0] - means) / stds, (pixel_range[1] - means) / stds


def bounds_from_transform(transform: Any) -> tuple[Tensor, Tensor]:
    """Bounds of what a preprocessing makes of an image with pixels in [0, 1].

    Args:
        transform: A torchvision weights enum or its ``transforms()``, a ``torchvision.transforms`` composition that
            contains a ``Normalize``, or timm's data configuration (a mapping or a ``pretrained_cfg`` with ``mean``
            and ``std``).

    Returns:
        ``(low, high)``, each of shape ``(1, C, 1, 1)``, in normalised units.

    Raises:
        InvalidInputError: if no mean and std can be found in it.
    """
    found = _mean_and_std(transform)
    if found is None:
        raise InvalidInputError(
            f"no mean and std found in {transform!r}; pass a torchvision weights transform, a composition with "
            "Normalize or timm's data configuration, or call normalized_bounds(mean, std)"
        )
    return normalized_bounds(*found)


def _mean_and_std(transform: Any) -> tuple[Sequence[float], Sequence[float]] | None:
    if isinstance(transform, dict):
        mean, std = transform.get("mean"), transform.get("std")
    else:
        mean, std = getattr(transform, "mean", None), getattr(transform, "std", None)
    if mean is not None and std is not None:
        return [float(v) for v in mean], [float(v) for v in std]
    nested: Any = getattr(transform, "transforms", ())
    if callable(nested) and not isinstance(nested, nn.Module):  # a member of a torchvision weights enum
        return _mean_and_std(nested())
    steps: Iterable[Any] = iter(transform) if isinstance(transform, nn.Sequential) else nested
    for step in steps:
        found = _mean_and_std(step)
        if found is not None:
            return found
    return None


def own_range(x: Tensor) -> Bounds:
    """Each example's own extremes per channel: always a valid domain. Shaped as ``x``, in memory of their own."""
    axes = tuple(range(2, x.dim())) or tuple(range(1, x.dim()))
    x = x.detach()
    return Bounds(x.amin(axes, keepdim=True).expand_as(x).clone(), x.amax(axes, keepdim=True).expand_as(x).clone())


@dataclass(frozen=True)
class InputDomain:
    """The domain of the inputs as the user gives it.

    Attributes:
        low: Lowest value: a number, a tensor that broadcasts to the input, a tuple of these for several inputs, or
            ``None`` for each example's own minimum per channel.
        high: Highest value, likewise.
        outside: What happens to inputs that leave their bounds.

    Raises:
        InvalidInputError: for an unknown ``outside``.
    """

    low: BoundType = None
    high: BoundType = None
    outside: Outside = "error"

    def __post_init__(self) -> None:
        check_choice("outside", self.outside, Outside)

    def by_example(self, inputs: Any) -> tuple[BoundType, BoundType]:
        """Low and high with as many dimensions as the input, so that their dimension 0 counts examples as that of it.

        Args:
            inputs: A tensor of shape ``(N, ...)`` or a tuple of such tensors.
        """
        return _by_example(self.low, inputs), _by_example(self.high, inputs)

    def of(self, inputs: tuple[Tensor, ...]) -> list[tuple[Tensor, Bounds]]:
        """Each input (clipped, if the user chose so) and its bounds, shaped as the input.

        Args:
            inputs: Tensors of shape ``(N, ...)``.

        Raises:
            InvalidInputError: if bounds do not broadcast to an input, are out of order, or the input leaves them.
        """
        lows, highs = _for_each(inputs, self.low, "low"), _for_each(inputs, self.high, "high")
        return [self._of_one(x, a, b, i) for i, (x, a, b) in enumerate(zip(inputs, lows, highs, strict=True))]

    def _of_one(
        self, x: Tensor, low: float | Tensor | None, high: float | Tensor | None, index: int
    ) -> tuple[Tensor, Bounds]:
        axes = tuple(range(2, x.dim())) or tuple(range(1, x.dim()))
        lowest, highest = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
        lower = lowest if low is None else _as_tensor(low, x, "low")
        upper = highest if high is None else _as_tensor(high, x, "high")
        if self.outside == "widen":
            lower, upper = lower.minimum(lowest), upper.maximum(highest)
        if bool((lower > upper).any()):
            raise InvalidInputError(f"low is above high: low={low}, high={high}; low must be the lower bound")
        if self.outside == "clip":
            x = x.clamp(lower, upper)
        elif self.outside == "error":
            _check_inside(x, lower, upper, low, high, index)
        return x, Bounds(lower.expand_as(x).clone(), upper.expand_as(x).clone())


def _by_example(bound: BoundType, inputs: Any) -> BoundType:
    if isinstance(bound, tuple):
        matching = inputs if isinstance(inputs, tuple) and len(inputs) == len(bound) else (inputs,) * len(bound)
        return tuple(_by_example(b, x) for b, x in zip(bound, matching, strict=True))  # type: ignore[misc]
    first = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
    if isinstance(bound, Tensor) and isinstance(first, Tensor) and bound.dim() < first.dim():
        return bound.reshape((1,) * (first.dim() - bound.dim()) + bound.shape)
    return bound


def _for_each(inputs: tuple[Tensor, ...], bound: BoundType, name: str) -> tuple[float | Tensor | None, ...]:
    if not isinstance(bound, tuple):
        return (bound,) * len(inputs)
    if len(bound) != len(inputs):
        raise InvalidInputError(
            f"{name} is a tuple of {len(bound)} bounds for {len(inputs)} input tensors; give one for each"
        )
    return bound


def _check_inside(
    x: Tensor, lower: Tensor, upper: Tensor, low: float | Tensor | None, high: float | Tensor | None, index: int
) -> None:
    below, above = float((lower - x).amax()), float((x - upper).amax())
    slack = 1e-5 * float((upper - lower).abs().amax())
    if max(below, above) <= slack:
        return
    side = f"{below:.4g} below low={_describe(low)}" if below > above else f"{above:.4g} above high={_describe(high)}"
    raise InvalidInputError(
        f"input {index} leaves its bounds by {side} (its values span [{float(x.min()):.4g}, {float(x.max()):.4g}]). "
        "Bounds are in the units of the model's input, i.e. normalised pixels: see "
        "captum_clrp.bounds.normalized_bounds, or pass low=None, high=None to take each example's own range. For noisy "
        "copies of an input choose outside='clip' or outside='widen'"
    )


def _describe(bound: float | Tensor | None) -> str:
    if bound is None:
        return "None"
    return f"{bound:g}" if not isinstance(bound, Tensor) else f"{[round(v, 4) for v in bound.flatten().tolist()[:3]]}"


def _as_tensor(bound: float | Tensor, x: Tensor, name: str) -> Tensor:
    if not isinstance(bound, Tensor | float | int) and not hasattr(bound, "__array__"):
        raise InvalidInputError(
            f"{name} is a {type(bound).__name__}; give a number, a tensor, None, or a tuple of these for several inputs"
        )
    if not isinstance(bound, Tensor | numbers.Real):
        raise InvalidInputError(
            f"{name} is a {type(bound).__name__} ({bound!r}); give a number, a tensor that broadcasts to the input, "
            "or None to take each example's own range"
        )
    tensor = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    try:
        shape = torch.broadcast_shapes(tensor.shape, x.shape)
    except RuntimeError:
        shape = None
    if shape != x.shape:
        missing = shape is not None and len(shape) == x.dim() + 1 and shape[0] == 1
        remedy = (
            "does the input lack its batch dimension? Add it with inputs.unsqueeze(0)"
            if missing
            else "give a number, or a tensor such as one value per channel of shape (1, C, 1, 1)"
        )
        raise InvalidInputError(
            f"{name} of shape {tuple(tensor.shape)} does not broadcast to the input of shape {tuple(x.shape)}; {remedy}"
        )
    if not all_finite(tensor):
        raise InvalidInputError(f"{name}={_describe(bound)} is not finite; give finite bounds or None")
    return tensor
