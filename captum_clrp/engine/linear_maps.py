"""Weighted operations as linear maps: what a rule needs of a convolution or a fully connected layer.

A rule evaluates the same operation with other weights (``W+``, ``W-``, ``|W|``) and pulls relevance back through its
transpose. :class:`LinearMap` offers just that; the weights of the model are read and never written.
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_clrp.engine.numerics import has_double_precision

__all__ = ["Convolution", "FullyConnected", "LinearMap", "ProductMap", "linear_map_of", "weight_cache"]


class Probe(NamedTuple):
    """Part of the memory of a parameter, and what it held."""

    place: Tensor
    values: Tensor


class WeightCache:
    """Weights derived from parameters (such as ``W+``), computed once per version of the parameter.

    An entry is used while the parameter is the same object, with the same memory, the same version counter and the
    same values where it is probed; it is dropped when the parameter is. The probe sees writes through ``.data``, which
    PyTorch does not count: every one to small weights, and to large ones those that reach whole rows or columns (filters
    and channels, as pruning does) or many places. Clamping the 550 MB of VGG16 costs as much as a pass of the network,
    hence the cache.
    """

    _PROBES = 2**14

    def __init__(self) -> None:
        self.enabled = True
        self._entries: dict[
            int, tuple[weakref.ref[Tensor], tuple[Any, ...], Sequence[Probe], dict[Hashable, Tensor]]
        ] = {}
        self._lock = threading.Lock()

    def get(self, weight: Tensor, key: Hashable, derive: Callable[[Tensor], Tensor]) -> Tensor:
        """``derive(weight)``, from memory where ``weight`` is a parameter that has not changed."""
        if not (self.enabled and isinstance(weight, nn.Parameter)) or weight.is_inference():
            return derive(weight.detach())
        state = (weight.data_ptr(), weight._version, weight.dtype, weight.device, weight.shape)
        with self._lock:
            entry = self._entries.get(id(weight))
            if (
                entry is not None
                and entry[0]() is weight
                and entry[1] == state
                and all(torch.equal(place, values) for place, values in entry[2])
            ):
                derived = entry[3]
            else:
                identity = id(weight)
                reference: weakref.ref[Tensor] = weakref.ref(weight, lambda _: self._entries.pop(identity, None))
                derived = {}
                self._entries[identity] = (reference, state, self._probes(weight), derived)
        if key not in derived:
            derived[key] = derive(weight.detach())
        return derived[key]

    def _probes(self, weight: Tensor) -> Sequence[Probe]:
        if weight.device.type != "cpu":  # to look would make an accelerator wait
            return ()
        weight = weight.detach()
        places = [weight]
        if weight.numel() > self._PROBES:
            middle_column = weight
            for dim in range(weight.dim() - 1, 0, -1):
                middle_column = middle_column.select(dim, weight.shape[dim] // 2)
            scattered = weight[:: max(1, len(weight) // 8)]
            if weight.dim() > 1:
                scattered = scattered[:, :: max(1, weight.shape[1] // 8)]
            places = [weight[len(weight) // 2], middle_column, scattered]
        return [Probe(place, place.clone()) for place in places]

    def clear(self) -> None:
        """Forget everything (the memory of all derived weights is given back)."""
        with self._lock:
            self._entries.clear()


weight_cache = WeightCache()
"""The cache of this process; ``weight_cache.enabled = False`` trades time for the memory of one copy of the weights."""


def _positive(weight: Tensor) -> Tensor:
    return weight.clamp(min=0)


def _negative(weight: Tensor) -> Tensor:
    return weight.clamp(max=0)


class LinearMap:
    """A linear operation ``z = W x (+ bias)`` as a rule sees it.

    Args:
        weight: The weights as the operation got them.
        bias: Bias or ``None``.
    """

    negated = False
    """Whether this is the twin :meth:`with_negated_weights`."""
    precise = False
    """Whether this is the twin :meth:`in_double_precision`."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        """The operation without bias on ``activations``, with ``weight`` in place of its own."""
        raise NotImplementedError(f"{type(self).__name__} must implement apply")

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        """The transposed operation on ``signal`` (shaped as the output), shaped as ``activations``."""
        raise NotImplementedError(f"{type(self).__name__} must implement transpose")

    def receptive_field(self, activations: Tensor) -> Tensor:
        """Weights of ones: each output sees each input of its receptive field alike."""
        return self.transformed("ones", torch.ones_like)

    def with_negated_weights(self) -> LinearMap:
        """The same operation with ``-W``: the dual concept of CLRP2 (paper, section 4)."""
        twin = copy.copy(self)
        twin.negated = not self.negated
        return twin

    def in_double_precision(self) -> LinearMap:
        """The same operation computed in float64, where it is a small one and the device knows float64."""
        return self

    def transformed(self, key: Hashable, derive: Callable[[Tensor], Tensor]) -> Tensor:
        """``derive(W)`` in at least float32, remembered under ``key`` while the parameter stays as it is."""
        negated, dtype = self.negated, self.compute_dtype

        def derive_from(weight: Tensor) -> Tensor:
            weight = weight.to(dtype)
            return derive(-weight if negated else weight)

        return weight_cache.get(self.weight, (key, negated, dtype), derive_from)

    channel_dim: int | None = None
    """Dimension of the activations along which two terms can stand side by side (see :meth:`both_signs`)."""
    weight_channel_dim: int = 1

    @property
    def both_signs(self) -> Tensor:
        """``W+`` and ``W-`` side by side, for activations of twice the channels: one operation instead of two."""
        dim = self.weight_channel_dim
        return self.transformed("both signs", lambda w: torch.cat((w.clamp(min=0), w.clamp(max=0)), dim))

    @property
    def compute_dtype(self) -> torch.dtype:
        least = torch.float64 if self.precise else torch.float32
        return torch.promote_types(self.weight.dtype, least)

    @property
    def positive(self) -> Tensor:
        """``W+``, the positive part of the weights."""
        return self.transformed("positive", _positive)

    @property
    def negative(self) -> Tensor:
        """``W-``, the negative part of the weights (values at most 0)."""
        return self.transformed("negative", _negative)

    @property
    def absolute(self) -> Tensor:
        """``|W|``."""
        return self.transformed("absolute", torch.abs)

    @property
    def full(self) -> Tensor:
        """``W`` itself (or ``-W`` of the negated map)."""
        if not self.negated and self.weight.dtype == self.compute_dtype:
            return self.weight.detach()
        return self.transformed("full", lambda weight: weight)

    def over_outputs(self, values: Tensor) -> Tensor:
        """One value for each output channel, shaped to be added to an output."""
        return values.detach().to(self.compute_dtype)


class FullyConnected(LinearMap):
    """``F.linear``: activations ``(..., in)``, weight ``(out, in)``, output ``(..., out)``."""

    channel_dim = -1

    def in_double_precision(self) -> LinearMap:
        twin = copy.copy(self)
        twin.precise = has_double_precision(self.weight)
        return twin

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        return F.linear(activations, weight)

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        return signal.matmul(weight)


class Convolution(LinearMap):
    """Convolution or transposed convolution of 1 to 3 dimensions, with stride, padding, dilation and groups.

    ``uneven_padding`` holds zeros that lie around the input besides ``padding``, as ``F.pad`` takes them: what
    ``padding="same"`` means for kernels of even length.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        transposed: bool = False,
        output_padding: Sequence[int] | None = None,
        uneven_padding: Sequence[int] | None = None,
    ) -> None:
        super().__init__(weight, bias)
        self.stride = list(stride)
        self.padding = list(padding)
        self.dilation = list(dilation)
        self.groups = groups
        self.transposed = transposed
        self.output_padding = list(output_padding or [0] * len(self.stride))
        self.channel_dim = 1 if groups == 1 else None
        self.weight_channel_dim = 0 if transposed else 1
        self.uneven_padding = list(uneven_padding or ())
        self.pointwise = (
            groups == 1
            and not transposed
            and all(length == 1 for length in (*weight.shape[2:], *self.stride))
            and not any(self.padding)
        )

    def _is_matrix_product(self, activations: Tensor) -> bool:
        """Whether it takes each place of a single example by itself, which a CPU does faster as one matrix product."""
        return (
            self.pointwise
            and len(activations) == 1
            and activations.device.type == "cpu"
            and activations.is_contiguous()
        )

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        if self._is_matrix_product(activations):
            output = weight.flatten(1).mm(activations[0].flatten(1))
            return output.view(1, -1, *activations.shape[2:])
        if self.uneven_padding:
            activations = F.pad(activations, self.uneven_padding)
        return torch.convolution(
            activations,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        if self._is_matrix_product(activations):
            return weight.flatten(1).t().mm(signal[0].flatten(1)).view_as(activations)
        if self.uneven_padding:
            activations = F.pad(activations, self.uneven_padding)
        gradients = torch.ops.aten.convolution_backward.default(
            signal,
            activations,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            [True, False, False],
        )
        if self.uneven_padding:
            return F.pad(gradients[0], [-p for p in self.uneven_padding])
        return gradients[0]

    def over_outputs(self, values: Tensor) -> Tensor:
        return super().over_outputs(values).reshape(-1, *[1] * len(self.stride))


class ProductMap(LinearMap):
    """A product of activations with a constant tensor (``matmul``, ``einsum``) in which either may stand first.

    Args:
        weight: The constant operand.
        product: ``product(activations, weight)``, linear in both.
    """

    def __init__(self, weight: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(weight)
        self.product = product

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        return self.product(activations, weight)

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = torch.zeros_like(activations).requires_grad_()
            product = self.product(variable, weight)
        return torch.autograd.grad(product, variable, signal)[0]


def linear_map_of(module: nn.Module) -> LinearMap | None:
    """The linear map of a fully connected or convolutional module, behind its padding if that is not of zeros.

    Only of PyTorch's own: what a module with another ``forward`` does, its attributes do not tell.
    """
    layer: Any = module
    if type(module).forward is nn.Linear.forward:
        return FullyConnected(layer.weight, layer.bias)
    transposed = type(module).forward in _TRANSPOSED_FORWARDS
    if not transposed and type(module).forward not in _CONVOLUTION_FORWARDS:
        return None
    ahead = layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    return Convolution(
        layer.weight,
        layer.bias,
        stride=layer.stride,
        padding=[0] * len(layer.stride) if ahead else layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        transposed=transposed,
        output_padding=layer.output_padding if transposed else None,
        uneven_padding=layer._reversed_padding_repeated_twice if ahead and layer.padding_mode == "zeros" else None,
    )


_CONVOLUTION_FORWARDS = [nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward]
_TRANSPOSED_FORWARDS = [nn.ConvTranspose1d.forward, nn.ConvTranspose2d.forward, nn.ConvTranspose3d.forward]
