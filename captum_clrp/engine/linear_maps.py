"""Weighted operations as linear maps: what a rule needs of a convolution or a fully connected layer.

A rule evaluates the same operation with other weights (``W+``, ``W-``, ``|W|``) and pulls relevance back through its
transpose. :class:`LinearMap` offers just that; the weights of the model are read and never written.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_clrp.engine._torch import padding_around
from captum_clrp.engine.matrix_products import pointwise, product, transposed_pointwise, transposed_product
from captum_clrp.engine.memory import memory
from captum_clrp.engine.numerics import has_double_precision
from captum_clrp.engine.weight_cache import current_cache, derived_weight

_PARTS: dict[str, Callable[..., Tensor]] = {
    "positive": partial(torch.clamp, min=0),
    "negative": partial(torch.clamp, max=0),
    "absolute": torch.abs,
}


_LARGE = 8_000_000
"""Bytes of a weight matrix, in the type in which it is computed with, from which on it is taken in blocks."""
_BLOCK = 2**22
"""Bytes of a block."""
_FEW = 8
"""Rows of activations up to which memory is what the product with such a matrix waits for."""
_HEAVY = 2**26
"""Multiplications of a convolution, for one example, from which on it is worth looking for channels that take no part."""
_PIECE = 2**22
"""Bytes of the values of a layer that are worked on at a time, where a batch has more: their memory is used again and again."""
_WORTHWHILE, _WORTHWHILE_IN_LOW_PRECISION = 0.85, 0.7
"""Largest share of multiplications that may be left for it to be taken without those channels: to leave weights out takes
time, too, and all the more of what bfloat16 saves."""


def _convert(weight: Tensor, part: Tensor, name: str, negated: bool) -> None:
    """A part of the weights in another precision, or of their negatives."""
    part.copy_(weight)
    _PARTS[name](part.neg_() if negated else part, out=part)


class Part(NamedTuple):
    """Some outputs of a linear map, for some examples, from some of its inputs.

    Attributes:
        layer: The map from these inputs to these outputs.
        dim: Dimension of inputs and outputs that ``inputs`` and ``outputs`` name places of.
        outputs: Which outputs.
        inputs: Which inputs; ``None`` for all.
        examples: Which of them.
    """

    layer: LinearMap
    dim: int
    outputs: slice | Tensor
    inputs: Tensor | None = None
    examples: slice = slice(None)

    def of_inputs(self, values: Tensor) -> Tensor:
        """Of ``values``, shaped as the input of the whole map, what belongs to this part."""
        values = values[self.examples]
        return values if self.inputs is None else values.index_select(self.dim, self.inputs)

    def of_outputs(self, values: Tensor) -> Tensor:
        """Of ``values``, shaped as the output of the whole map, what belongs to this part."""
        values = values[self.examples]
        if isinstance(self.outputs, Tensor):
            return values.index_select(self.dim, self.outputs)
        return values.narrow(self.dim, self.outputs.start, self.outputs.stop - self.outputs.start)

    def add_inputs(self, values: Tensor, share: Tensor) -> None:
        """Add this part's ``share``; if it names its inputs, or examples, it is the only one that adds to these."""
        mine = values[self.examples]
        if self.inputs is not None:
            mine.index_copy_(self.dim, self.inputs, share.to(values.dtype))
        elif len(mine) < len(values):
            mine.copy_(share)
        else:
            mine.add_(share)


class LinearMap:
    """A linear operation ``z = W x (+ bias)`` as a rule sees it.

    Args:
        weight: The weights as the operation got them.
        bias: Bias or ``None``.
    """

    negated = False
    """Whether this is the twin :meth:`with_negated_weights`."""
    double_precision = False
    """Whether this is the twin :meth:`in_double_precision`."""
    low_precision = False
    """Whether this is the twin :meth:`in_low_precision`."""
    retained = False
    """Whether derived weights are needed for more than one pass, while those of other operations are."""
    rows: Tensor | None = None
    """Which rows of the weights it has; they are copied to where something is made of them. ``None``: all."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias
        self._cache = current_cache()

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
        return self._twin(negated=not self.negated)

    def in_double_precision(self) -> LinearMap:
        """The same operation computed in float64, where it is a small one and the device knows float64; and not in low precision."""
        return self._twin(low_precision=False) if self.low_precision else self

    def in_low_precision(self) -> LinearMap:
        """The same operation with ``W+``, ``W-`` and ``|W|`` in bfloat16, where that is faster.

        Sums of terms of one sign bear it: nothing cancels. ``W`` itself stays what it is. PyTorch accumulates such sums
        in float32.
        """
        return self

    def _low_precision_twin(self) -> LinearMap:
        return self._twin(low_precision=self.compute_dtype == torch.float32)

    def _twin(self, **differences: Any) -> LinearMap:
        twin = copy.copy(self)
        vars(twin).update(differences)
        return twin

    parts_are_kept = True
    """Whether what is derived for a part is kept where it is needed again; else it is derived anew, which costs no more."""

    def live_outputs(self, activations: Tensor, relevance: Tensor) -> Tensor | None:
        """Which outputs received relevance, for a map that may be taken in parts; ``None`` for any other.

        Args:
            activations: Its input.
            relevance: Relevance of its output, shaped as that.

        Returns:
            Booleans as :meth:`parts` takes them.
        """
        return None

    def parts(
        self, activations: Tensor, outputs: Tensor, *, without_zeros: bool, together: bool
    ) -> Iterator[Part] | None:
        """Itself in parts that have all these outputs between them; ``None`` where it is best taken whole.

        Args:
            activations: Its input.
            outputs: Which outputs are asked for, from :meth:`live_outputs`.
            without_zeros: Whether inputs that are zero may be left out.
            together: Whether examples are to be taken together.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement parts")

    def transformed(self, key: Hashable, derive: Callable[[Tensor], Tensor]) -> Tensor:
        """``derive(W)`` in at least float32, kept under ``key`` while weights are at rest."""
        negated, dtype = self.negated, self.compute_dtype

        def derive_from(weight: Tensor) -> Tensor:
            weight = self._own(weight).to(dtype)
            return derive(-weight if negated else weight)

        return derived_weight(self.weight, (key, negated, dtype), derive_from, self._cache)

    def _own(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Of all the weights those that it has; in ``out`` if that is given."""
        return weight if self.rows is None else torch.index_select(weight, 0, self.rows, out=out)

    def _parts(self, *names: str) -> Tensor:
        """Parts of the weights, side by side if there are several."""
        negated, dim, cache = self.negated, self.weight_channel_dim, self._cache
        dtype = torch.bfloat16 if self.low_precision else self.compute_dtype

        def derive(weight: Tensor) -> Tensor:
            size = [*weight.shape]
            if self.rows is not None:
                size[0] = len(self.rows)
            if len(names) > 1:
                size[dim] *= len(names)
            if cache is None:
                made = memory.empty(size, dtype, weight.device, retained=self.retained)
            else:
                made = torch.empty(size, dtype=dtype, device=weight.device)
            parts = made.chunk(len(names), dim) if len(names) > 1 else (made,)
            for part, name in zip(parts, names, strict=True):
                own = self._own(weight, part if weight.dtype == dtype else None)
                if weight.dtype == dtype and not negated:
                    _PARTS[name](own, out=part)
                else:
                    _convert(own, part, name, negated)
            return made

        return derived_weight(self.weight, (names, dim, negated, dtype), derive, cache)

    channel_dim: int | None = None
    """Dimension of the activations along which two terms can stand side by side (see :meth:`both_signs`)."""
    weight_channel_dim: int = 1

    @property
    def both_signs(self) -> Tensor:
        """``W+`` and ``W-`` side by side, for activations of twice the channels: one operation instead of two."""
        return self._parts("positive", "negative")

    @property
    def compute_dtype(self) -> torch.dtype:
        least = torch.float64 if self.double_precision else torch.float32
        return torch.promote_types(self.weight.dtype, least)

    @property
    def positive(self) -> Tensor:
        """``W+``, the positive part of the weights."""
        return self._parts("positive")

    @property
    def negative(self) -> Tensor:
        """``W-``, the negative part of the weights (values at most 0)."""
        return self._parts("negative")

    @property
    def absolute(self) -> Tensor:
        """``|W|``."""
        return self._parts("absolute")

    @property
    def full(self) -> Tensor:
        """``W`` itself (or ``-W`` of the negated map)."""
        if not self.negated and self.weight.dtype == self.compute_dtype:
            return self._own(self.weight.detach())
        return self.transformed("full", lambda weight: weight)

    def over_outputs(self, values: Tensor) -> Tensor:
        """One value for each output channel, shaped to be added to an output."""
        return values.detach().to(self.compute_dtype)


class FullyConnected(LinearMap):
    """``F.linear``: activations ``(..., in)``, weight ``(out, in)``, output ``(..., out)``."""

    channel_dim = -1

    def in_double_precision(self) -> LinearMap:
        return self._twin(double_precision=has_double_precision(self.weight), low_precision=False)

    def in_low_precision(self) -> LinearMap:
        return self._low_precision_twin()

    parts_are_kept = False

    def live_outputs(self, activations: Tensor, relevance: Tensor) -> Tensor | None:
        """Of a matrix of 8 MB or more in main memory, for few activations: ``(out,)``."""
        large = self.weight.numel() * self.compute_dtype.itemsize >= _LARGE and self.weight.device.type == "cpu"
        if not large or activations.numel() > _FEW * self.weight.size(1):
            return None
        return (relevance != 0).reshape(-1, relevance.size(-1)).any(0)

    def parts(
        self, activations: Tensor, outputs: Tensor, *, without_zeros: bool, together: bool
    ) -> Iterator[Part] | None:
        """Some rows of the matrix at a time: what is derived of them stays in the cache, and each is read once.

        In float32 at least: memory is what it waits for, and to convert weights takes longer than to multiply with them.
        """
        size = max(1, _BLOCK // (self.weight.size(1) * self.compute_dtype.itemsize))
        if outputs.float().mean() > _WORTHWHILE:
            return (self._part(slice(i, min(i + size, len(outputs)))) for i in range(0, len(outputs), size))
        return (self._part(block) for block in outputs.nonzero()[:, 0].split(size) if len(block))

    def _part(self, outputs: slice | Tensor) -> Part:
        bias = None if self.bias is None else self.bias.detach()[outputs]
        weight = self.weight.detach()  # no parameter, of which derived weights could be kept
        mine = {"weight": weight[outputs]} if isinstance(outputs, slice) else {"weight": weight, "rows": outputs}
        return Part(self._twin(**mine, bias=bias, low_precision=False), -1, outputs)

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        return product(activations, weight)

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        return transposed_product(signal, weight)


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

    def in_low_precision(self) -> LinearMap:
        return self._low_precision_twin() if self.groups == 1 else self

    def live_outputs(self, activations: Tensor, relevance: Tensor) -> Tensor | None:
        """Of a large one on a processor: ``(N, out)``, an output being a channel."""
        heavy = self.weight.numel() * math.prod(relevance.shape[2:]) >= _HEAVY and self.weight.device.type == "cpu"
        if not heavy or self.groups != 1 or self.transposed or relevance.dim() != self.weight.dim():
            return None
        return _live_channels(relevance)

    def parts(
        self, activations: Tensor, outputs: Tensor, *, without_zeros: bool, together: bool
    ) -> Iterator[Part] | None:
        """Without the channels that take no part, which differ from example to example; or some examples at a time."""
        inputs = _live_channels(activations) if without_zeros else outputs.new_ones(1, activations.size(1))
        if together:
            inputs, outputs = inputs.any(0, keepdim=True), outputs.any(0, keepdim=True)
        left = (inputs.float().mean(1) * outputs.float().mean(1)).mean()
        if left > (_WORTHWHILE_IN_LOW_PRECISION if self.low_precision else _WORTHWHILE):
            return None if together else self._pieces(activations)
        examples = [slice(None)] if together else [slice(n, n + 1) for n in range(len(outputs))]
        return (
            self._part(of.nonzero()[:, 0], given.nonzero()[:, 0], which)
            for which, of, given in zip(examples, outputs, inputs.expand(len(outputs), -1), strict=True)
            if of.any() and given.any()
        )

    def _pieces(self, activations: Tensor) -> Iterator[Part] | None:
        outputs, inputs = self.weight.shape[:2]
        itemsize = 2 if self.low_precision else self.compute_dtype.itemsize
        larger = max(1.0, outputs / (inputs * math.prod(self.stride)))  # the output, than the input
        size = activations[0].numel() * larger * itemsize
        # no more pieces than need be where deriving weights for each would take long
        count = max(1, int(max(_PIECE, self.weight.numel() * itemsize) / size))
        if count >= len(activations):
            return None
        return (Part(self, 1, slice(0, outputs), None, slice(n, n + count)) for n in range(0, len(activations), count))

    def _part(self, outputs: Tensor, inputs: Tensor, examples: slice) -> Part:
        bias = None if self.bias is None else self.bias.detach().index_select(0, outputs)
        weight = self.weight.detach()
        weight = weight.index_select(0, outputs) if len(outputs) < len(weight) else weight
        if len(inputs) == weight.size(1):
            return Part(self._twin(weight=weight, bias=bias), 1, outputs, None, examples)
        return Part(self._twin(weight=weight.index_select(1, inputs), bias=bias), 1, outputs, inputs, examples)

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        if self.pointwise and (output := pointwise(activations, weight)) is not None:
            return output
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
        if self.pointwise and (received := transposed_pointwise(signal, weight, activations)) is not None:
            return received
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


def _live_channels(values: Tensor) -> Tensor:
    """``(N, C)``: whether a channel is not zero everywhere; without memory for as many values.

    Where all of them live, which is common, a line through the middle of the picture mostly shows it.
    """
    values = values.detach()
    live = (values.narrow(2, values.size(2) // 2, 1) != 0).flatten(2).any(2)
    if live.all():
        return live
    places = tuple(range(2, values.dim()))
    live = values.amax(places) != 0
    return live if live.all() else live | (values.amin(places) != 0)


class ProductMap(LinearMap):
    """A product of activations with a constant tensor (``matmul``, ``einsum``) in which either may stand first.

    Args:
        weight: The constant operand.
        product: ``product(activations, weight)``, linear in both.
    """

    def __init__(self, weight: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(weight)
        self.product = product

    def in_low_precision(self) -> LinearMap:
        return self._low_precision_twin()

    def apply(self, activations: Tensor, weight: Tensor) -> Tensor:
        return self.product(activations, weight)

    def transpose(self, signal: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = torch.zeros_like(activations).requires_grad_()
            product = self.product(variable, weight)
        # An index that the product sums away comes back as a view of one number many times; it is written to.
        return torch.autograd.grad(product, variable, signal)[0].contiguous()


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
        uneven_padding=padding_around(layer) if ahead and layer.padding_mode == "zeros" else None,
    )


_CONVOLUTION_FORWARDS = [nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward]
_TRANSPOSED_FORWARDS = [nn.ConvTranspose1d.forward, nn.ConvTranspose2d.forward, nn.ConvTranspose3d.forward]
