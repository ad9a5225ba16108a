"""Linear maps without parameters of their own, so that rules apply to means, sums, centring and attention alike.

A rule for a weighted operation needs a linear map with ``W``, ``W+``, ``W-`` and ``|W|``. Means, residual sums, the
subtraction of a mean in layer normalisation and the mixing of values by attention weights are such maps, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_clrp.engine.linear_maps import LinearMap, ProductMap
from captum_clrp.engine.numerics import at_least_single


class PoolingMap(LinearMap):
    """A mean or sum over regions, with weights that are not negative: ``W = W+ = |W|``.

    Args:
        pool: The operation as a function of its input.
        like: A tensor of the device and type that is computed in.
    """

    def __init__(self, pool: Callable[[Tensor], Tensor], like: Tensor) -> None:
        super().__init__(like.new_ones(()))
        self.pool = pool

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        return self.pool(activations) * weight

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = torch.zeros_like(activations).requires_grad_()
            pooled = self.pool(variable)
        # The gradient of a sum is one value in many places; whoever gets it writes to it.
        return torch.autograd.grad(pooled, variable, signal * weight)[0].contiguous()


class SumMap(LinearMap):
    """The sum of tensors of one shape, stacked in dimension 0."""

    def __init__(self, like: Tensor) -> None:
        super().__init__(like.new_ones(()))

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        return activations.sum(0) * weight

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        return (signal * weight).expand_as(activations).clone()


class CentringMap(LinearMap):
    """``x`` minus its mean: what layer normalisation is where its scale is taken for a constant.

    The matrix is ``d`` on the diagonal and ``m / n`` everywhere, n values being averaged; a weight is the pair (d, m).

    Args:
        mean: Mean as a function of ``x``, shaped so that it can be subtracted.
        count: How many values are averaged, n.
        like: A tensor of the device and type that is computed in.
        bias: What is added behind it, in the units of ``x``; shaped to be added to ``x``.
    """

    def __init__(self, mean: Callable[[Tensor], Tensor], count: int, like: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(like.new_tensor([1.0, -1.0]), bias)
        self.mean = mean
        self.count = count

    def _pair(self, diagonal: float, everywhere: float) -> Tensor:
        return self.weight.new_tensor([diagonal, everywhere]).to(self.compute_dtype)

    @property
    def positive(self) -> Tensor:
        return self._pair(1 - 1 / self.count, 0.0)

    @property
    def negative(self) -> Tensor:
        return self._pair(1 / self.count, -1.0)

    @property
    def absolute(self) -> Tensor:
        return self._pair(1 - 2 / self.count, 1.0)

    def receptive_field(self, activations: Tensor) -> Tensor:
        return self._pair(0.0, float(self.count))

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        diagonal, everywhere = weight
        return diagonal * activations + everywhere * self.mean(activations)

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        return self.apply(signal, weight)


class ShiftMap(LinearMap):
    """Each value by itself plus a constant: the constant is the map's bias, for rules that give a bias its share."""

    def __init__(self, shift: Tensor, like: Tensor) -> None:
        super().__init__(like.new_ones(()), shift)

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        return activations * weight

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        return signal * weight


def mixing_map(weights: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> ProductMap:
    """Values mixed by attention weights, which count as constants.

    Args:
        weights: Attention weights; those too small to bear a quotient (masked places of ``exp(-100)``) count as zero.
        product: ``product(values, weights)``, linear in both.
    """
    weights = weights.detach()
    least = math.sqrt(torch.finfo(at_least_single(weights)).tiny)  # the type in which they are computed with
    return ProductMap(F.hardshrink(weights, least), product)
