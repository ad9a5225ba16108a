"""Weighted operations: convolutions, fully connected layers, products with constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from captum_clrp.engine.handlers.arithmetic import add, multiply
from captum_clrp.engine.handlers.attention import product_of_signals
from captum_clrp.engine.handlers.means import pooling
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.linear_maps import Convolution, FullyConnected, LinearMap, ProductMap
from captum_clrp.engine.marks import Info, depends_on_input
from captum_clrp.engine.nodes import Weighted
from captum_clrp.engine.numerics import is_nonnegative
from captum_clrp.errors import InvalidInputError


def weighted(op: Operation, signal: Tensor, layer: LinearMap, kind: Literal["convolution", "linear"] = "linear") -> Any:
    """Any weighted operation: find its rule, run it, record it."""
    choose, reason = op.weighted_rule(signal, kind, layer.weight)
    layer = op.in_chosen_precision(layer)
    node = Weighted(
        op.record("", reason),
        op.save(signal),
        layer,
        choose,
        nonnegative=op.nonnegative(signal) or is_nonnegative(signal.detach()),
        conserve=op.trace.settings.conserve,
    )
    node.fixed = op.trace.scope.rule(layer.weight) is not None
    node.weights = op.save(layer.weight)
    info = op.trace.info(signal)
    result = op.propagate(node, [signal], Info(signed=op.here, attention=info.gate and info.attention))
    if op.trace.takes_signed_rules and result.dtype == layer.compute_dtype:
        node.output = op.save(result)
    return result


def _constant_weight(weight: Tensor) -> Tensor:
    """Weights that the model computes from its input (dynamic convolution) act like gates: they get no relevance."""
    return weight.detach() if depends_on_input(weight) else weight


_WEIGHTS_ONLY = "its weights depend on the input and its operand does not"


def linear(op: Operation) -> Any:
    """``F.linear``: a fully connected layer."""
    signal = op.get("input")
    if not depends_on_input(signal):
        return op.refuse(_WEIGHTS_ONLY)
    return weighted(op, signal, FullyConnected(_constant_weight(op.get("weight")), op.get("bias")))


def convolution(op: Operation, *, transposed: bool = False) -> Any:
    """Convolutions and transposed convolutions of 1 to 3 dimensions."""
    signal, weight = op.get("input"), op.get("weight")
    if not depends_on_input(signal):
        return op.refuse(_WEIGHTS_ONLY)
    spatial = weight.dim() - 2
    if signal.dim() != spatial + 2:
        raise InvalidInputError(
            f"{op.name} in module '{op.module}' got a tensor of shape {tuple(signal.shape)}; it needs "
            f"{spatial + 2} dimensions of which the first counts examples: if the inputs lack it, add it with "
            "inputs.unsqueeze(0); a model that takes examples one by one must leave it to each (x[i : i + 1])"
        )
    padding, dilation = op.get("padding", 0), per_dimension(op.get("dilation", 1), spatial)
    uneven: list[int] = []
    if isinstance(padding, str):
        totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(total % 2 for total in totals):  # one side gets one more
            uneven = [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
            totals = [0] * spatial
        padding = [total // 2 for total in totals]
    layer = Convolution(
        _constant_weight(weight),
        op.get("bias"),
        stride=per_dimension(op.get("stride", 1), spatial),
        padding=per_dimension(padding, spatial),
        dilation=dilation,
        groups=op.get("groups", 1),
        transposed=transposed,
        output_padding=per_dimension(op.get("output_padding", 0), spatial) if transposed else None,
        uneven_padding=uneven,
    )
    return weighted(op, signal, layer, "convolution")


def per_dimension(value: Any, dimensions: int) -> list[int]:
    """An argument such as ``stride`` as one number for each spatial dimension."""
    values = list(value) if isinstance(value, tuple | list) else [value]
    return [int(v) for v in (values * dimensions if len(values) == 1 else values)]


def product_with_constant(op: Operation, operands: Sequence[Any], multiply: Callable[..., Tensor]) -> Any:
    """``matmul`` or ``einsum``: a linear map if one operand is constant, attention if neither is."""
    dependent = [depends_on_input(t) for t in operands]
    if len(operands) != 2:
        return op.refuse(f"a product of {len(operands)} tensors; write it as products of two")
    if all(dependent):
        return product_of_signals(op, operands[0], operands[1], multiply)
    if dependent[0]:
        return weighted(op, operands[0], ProductMap(operands[1], multiply))
    return weighted(op, operands[1], ProductMap(operands[0], lambda a, w: multiply(w, a)))


def matmul(op: Operation, *, reflected: bool = False) -> Any:
    """``matmul`` and its kin with a constant matrix; ``reflected``: the second operand is the one that stands first."""
    a, b = op.get("input"), op.get("other")
    return product_with_constant(op, (b, a) if reflected else (a, b), torch.matmul)


def add_matmul(op: Operation) -> Any:
    """``addmm``: a matrix product, then a sum with the base."""
    if op.call.overwrites:
        return op.refuse("in place; write it as a product and a sum")
    base, a, b, beta, alpha = (op.get(name) for name in ("input", "mat1", "other", "beta", "alpha"))

    def scaled(value: Tensor, factor: float | None) -> Tensor:
        if factor in (None, 1):
            return value
        return multiply(op.of(torch.mul, value, factor)) if depends_on_input(value) else value * factor

    a, b = (scaled(a, alpha), b) if depends_on_input(b) else (a, scaled(b, alpha))
    product = op.of(torch.matmul, a, b)
    return add(op.of(torch.add, scaled(base, beta), matmul(product) if product.call.tracked else product.call.run()))


def tensordot(op: Operation) -> Any:
    """``tensordot`` with a constant tensor."""
    dims = op.get("dims", 2)
    return product_with_constant(op, (op.get("a"), op.get("b")), lambda a, b: torch.tensordot(a, b, dims))


def einsum(op: Operation) -> Any:
    """``einsum`` with a constant tensor."""
    equation = op.get("equation")
    if len(op.get("operands")) == 1:  # it only sums (or moves) values
        return pooling(op, contributions="proportional")
    return product_with_constant(op, op.get("operands"), lambda a, b: torch.einsum(equation, a, b))
