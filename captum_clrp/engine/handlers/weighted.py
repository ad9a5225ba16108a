"""Weighted operations: convolutions, fully connected layers, products with constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_clrp.engine.calls import Call, depends_on_input, flatten
from captum_clrp.engine.handlers.common import record_of, refuse
from captum_clrp.engine.linear_maps import Convolution, FullyConnected, LinearMap, ProductMap
from captum_clrp.engine.nodes import Weighted
from captum_clrp.engine.numerics import is_nonnegative
from captum_clrp.engine.trace import Info, Trace
from captum_clrp.errors import InvalidInputError
from captum_clrp.rules import RelevanceRule, ZBeta, ZPlus, rule_of


def weighted(trace: Trace, call: Call, signal: Tensor, layer: LinearMap) -> Any:
    """Any weighted operation: find its rule, run it, record it."""
    info = trace.info(signal)
    chosen = trace.user_rule()
    rule: RelevanceRule
    if chosen is not None:
        rule, reason = rule_of(*chosen, trace.module_name), "set by the user as module.rule"
    elif info.bounds is not None:
        low, high = info.bounds  # which rounding on the way may have moved across the signal
        rule, reason = (ZBeta(signal.detach().minimum(low), signal.detach().maximum(high)), "first weighted operation")
    else:
        rule, reason = ZPlus(), "weighted operation on activations"
    node = Weighted(
        record_of(trace, call, rule, reason),
        trace.save(signal),
        layer,
        rule,
        nonnegative=info.nonnegative or is_nonnegative(signal.detach()),
        conserve=trace.settings.conserve,
    )
    return trace.propagate(node, call.run, [signal], Info())


def _constant_weight(weight: Tensor) -> Tensor:
    """Weights that the model computes from its input (dynamic convolution) act like gates: they get no relevance."""
    return weight.detach() if depends_on_input(weight) else weight


_WEIGHTS_ONLY = "its weights depend on the input and its operand does not"


def linear(trace: Trace, call: Call) -> Any:
    """``F.linear``: a fully connected layer."""
    signal, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    if not depends_on_input(signal):
        return refuse(trace, call, _WEIGHTS_ONLY)
    return weighted(trace, call, signal, FullyConnected(_constant_weight(weight), bias))


def convolution(trace: Trace, call: Call) -> Any:
    """Convolutions and transposed convolutions of 1 to 3 dimensions."""
    signal, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    if not depends_on_input(signal):
        return refuse(trace, call, _WEIGHTS_ONLY)
    spatial = weight.dim() - 2
    if signal.dim() != spatial + 2:
        raise InvalidInputError(
            f"{call.name} in module '{trace.module_name}' got a tensor of shape {tuple(signal.shape)}; it needs "
            f"{spatial + 2} dimensions of which the first counts examples: add it with inputs.unsqueeze(0)"
        )
    transposed = "transpose" in call.name
    stride, padding = call.get(3, "stride", 1), call.get(4, "padding", 0)
    dilation = per_dimension(call.get(7 if transposed else 5, "dilation", 1), spatial)
    groups = call.get(6, "groups", 1)
    uneven: list[int] = []
    if isinstance(padding, str):
        totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(total % 2 for total in totals):  # one side gets one more
            uneven = [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
            totals = [0] * spatial
        padding = [total // 2 for total in totals]
    layer = Convolution(
        _constant_weight(weight),
        bias,
        stride=per_dimension(stride, spatial),
        padding=per_dimension(padding, spatial),
        dilation=dilation,
        groups=groups,
        transposed=transposed,
        output_padding=per_dimension(call.get(5, "output_padding", 0), spatial) if transposed else None,
        uneven_padding=uneven,
    )
    return weighted(trace, call, signal, layer)


def per_dimension(value: Any, dimensions: int) -> list[int]:
    """An argument such as ``stride`` as one number for each spatial dimension."""
    values = list(value) if isinstance(value, tuple | list) else [value]
    return [int(v) for v in (values * dimensions if len(values) == 1 else values)]


def product_with_constant(trace: Trace, call: Call, operands: Sequence[Any], multiply: Callable[..., Tensor]) -> Any:
    """``matmul`` or ``einsum``: a linear map if one operand is constant, attention if neither is."""
    dependent = [depends_on_input(t) for t in operands]
    if len(operands) != 2 or sum(dependent) != 1:
        return refuse(trace, call, "a product of two activations, as in attention; transformers are not supported")
    if dependent[0]:
        return weighted(trace, call, operands[0], ProductMap(operands[1], multiply))
    return weighted(trace, call, operands[1], ProductMap(operands[0], lambda a, w: multiply(w, a)))


def matmul(trace: Trace, call: Call) -> Any:
    """``matmul`` and its kin with a constant matrix."""
    operands = [t for t in flatten((call.args, call.kwargs)) if isinstance(t, Tensor)]
    if call.name == "addmm":
        operands = operands[1:]
    if call.name == "__rmatmul__":
        operands.reverse()
    return product_with_constant(trace, call, operands, torch.matmul)


def einsum(trace: Trace, call: Call) -> Any:
    """``einsum`` with a constant tensor."""
    equation = call.args[0]
    operands = [t for t in flatten(call.args[1:]) if isinstance(t, Tensor)]
    return product_with_constant(trace, call, operands, lambda a, b: torch.einsum(equation, a, b))
