"""Attention: products of two activations.

Attention weights (results of a softmax) count as constants: they say where to look, and relevance follows the values
that they mix. Products of two signals, as in linear attention, give half to each.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_clrp.engine.fixed_maps import mixing_map
from captum_clrp.engine.handlers.elementwise import passing
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.marks import depends_on_input
from captum_clrp.engine.nodes import Bilinear, Shared, TaylorSoftmax
from captum_clrp.errors import ModelStateError


def product_of_signals(op: Operation, a: Tensor, b: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """A product ``multiply(a, b)``, linear in both, of which both depend on the inputs."""
    ranks = tuple(info.gate + info.attention for info in (op.trace.info(a), op.trace.info(b)))  # what gates what
    op.trace.note(attention=f"{op.name} of two activations in '{op.module}'")
    if ranks[0] == ranks[1] or op.trace.settings.rules.softmax == "taylor":
        node = Bilinear(
            op.record("half to each", "a product of two signals"),
            op.save(a),
            op.save(b),
            multiply,
            conserve=op.trace.settings.conserve,
        )
        return op.propagate(node, [a, b], op.info(monotone=False)._replace(bounds=None))
    if ranks[0] > ranks[1]:
        return mixing(op, b, a, lambda values, weights: multiply(weights, values), positive=op.nonnegative(a))
    return mixing(op, a, b, multiply, positive=op.nonnegative(b))


def mixing(
    op: Operation,
    values: Tensor,
    weights: Tensor,
    product: Callable[[Tensor, Tensor], Tensor],
    *,
    positive: bool = True,
) -> Any:
    """Values mixed by weights that count as constants: ``product(values, weights)``.

    Args:
        op: The operation.
        values: What receives relevance.
        weights: The weights.
        product: Linear in both.
        positive: Whether no weight is negative.
    """
    nonnegative = op.nonnegative(values)
    node = Shared(
        op.record("", "values mixed by attention, whose weights count as constants"),
        op.save(values),
        op.in_chosen_precision(mixing_map(weights, product)),
        lambda composite: composite.mixing,
        nonnegative=nonnegative,
        conserve=op.trace.settings.conserve,
    )
    info = op.info(nonnegative=nonnegative and positive, gate=False)
    return op.propagate(node, [values], info._replace(attention=False, bounds=None))


def softmax(op: Operation) -> Any:
    """The result counts as a gate in products; relevance passes, or goes by the Taylor rule of the composite."""
    if op.trace.settings.rules.softmax == "gate":
        weights = passing(op, nonnegative=True, gate=True, monotone=False)
    else:
        node = TaylorSoftmax(op.record("Taylor", "softmax"), op.save(op.signal), op.get("dim", -1))
        weights = op.propagate(node, [op.signal], op.info(nonnegative=True, gate=True, monotone=False))
    return op.trace.describe(weights, op.trace.info(weights)._replace(attention=True))


def scaled_dot_product_attention(op: Operation) -> Any:
    """``softmax(Q K^T) V`` in one function: relevance follows the values."""
    query, key, values = op.get("query"), op.get("key"), op.get("value")
    if op.get("dropout_p", 0.0) > 0:
        raise ModelStateError(
            f"{op.name} in module '{op.module}' would drop attention weights at random; call model.eval() first, and "
            "pass dropout_p=0.0 in evaluation"
        )
    scores = _Scores(op, key)
    if op.trace.settings.rules.softmax == "taylor":
        with op.trace:  # its steps are recorded one by one
            return scores.weights(query, key) @ scores.repeated(values)
    if not depends_on_input(values):
        return op.refuse("attention over values that do not depend on the inputs; no rule says how the weights share")
    op.trace.note(attention=f"{op.name} in '{op.module}'")
    weights = scores.weights(query.detach(), key.detach())
    return mixing(op, values, weights, lambda v, w: w @ scores.repeated(v))


class _Scores:
    """The arguments of ``scaled_dot_product_attention`` that decide its weights."""

    def __init__(self, op: Operation, key: Tensor) -> None:
        self.mask = op.get("attn_mask")
        self.causal = bool(op.get("is_causal", False))
        self.scale = op.get("scale")
        self.grouped = bool(op.get("enable_gqa", False))
        self.heads = op.get("query").size(-3) if self.grouped else 0

    def repeated(self, values: Tensor) -> Tensor:
        """Keys or values, each for all query heads that share it."""
        return values.repeat_interleave(self.heads // values.size(-3), -3) if self.grouped else values

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """Attention weights, ``(..., L, S)``; a row that is masked throughout is zero."""
        scale = query.size(-1) ** -0.5 if self.scale is None else self.scale
        scores = (query * scale) @ self.repeated(key).transpose(-2, -1)
        if self.causal:
            allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            scores = scores.masked_fill(~allowed, float("-inf"))
        if self.mask is not None:
            mask = self.mask.detach()
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        weights = scores.softmax(-1)
        if self.mask is None:
            return weights.nan_to_num_(nan=0.0)
        return weights.masked_fill((scores == float("-inf")).all(-1, keepdim=True), 0.0)


def multi_head_attention_forward(op: Operation) -> Any:
    """``F.multi_head_attention_forward``: its own Python code runs, and each of its operations is recorded."""
    with op.trace:
        return _FOLLOWED(*op.call.args, **op.call.kwargs)


_FOLLOWED = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.__dict__, "has_torch_function": lambda tensors: False},  # it would hand over to the recording once more
    argdefs=F.multi_head_attention_forward.__defaults__,
)
_FOLLOWED.__kwdefaults__ = F.multi_head_attention_forward.__kwdefaults__
