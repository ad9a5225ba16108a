"""Sums and products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_clrp.engine.calls import Call, depends_on_input
from captum_clrp.engine.handlers.common import info_of, record_of, refuse
from captum_clrp.engine.handlers.moving import route
from captum_clrp.engine.nodes import Node, Pass, Product, Sum
from captum_clrp.engine.numerics import is_nonnegative
from captum_clrp.engine.trace import Trace

_REFLECTED = ("__radd__", "__rsub__", "rsub", "__rmul__", "__rtruediv__", "__rdiv__")


def _operands(call: Call) -> tuple[Any, Any]:
    a, b = call.args[0], call.get(1, "other")
    return (b, a) if call.name in _REFLECTED else (a, b)


def _is_nonnegative(trace: Trace, value: Any) -> bool:
    if depends_on_input(value):
        return trace.info(value).nonnegative
    if isinstance(value, Tensor):
        return value.numel() <= 4096 and is_nonnegative(value)
    return isinstance(value, float | int) and value >= 0


def _overwritten(call: Call, signals: list[Tensor]) -> Tensor | None:
    """The tensor that the call works on in place, unless it is one of the signals."""
    first = call.args[0]
    others = call.overwrites and isinstance(first, Tensor) and all(first is not s for s in signals)
    return first if others else None


def add(trace: Trace, call: Call) -> Any:
    """Sum or difference: shares of the positive parts; constants are bypassed like biases."""
    call = call.without_parameters()
    a, b = _operands(call)
    scale = float(call.get(2, "alpha", 1)) * (-1.0 if "sub" in call.name else 1.0)
    nonnegative = scale > 0 and _is_nonnegative(trace, a) and _is_nonnegative(trace, b)
    if len(call.tracked) == 1:
        signal = call.tracked[0]
        info = info_of(trace, call, nonnegative=nonnegative)
        node: Node = Pass(record_of(trace, call, "pass", "sum with a constant, bypassed like a bias"), signal.shape)
        return trace.propagate(node, call.run, [signal], info, _overwritten(call, [signal]))
    info = info_of(trace, call, nonnegative=nonnegative, monotone=scale > 0)
    record = record_of(trace, call, "sum", "shares of the positive parts")
    node = Sum(record, trace.save(a), trace.save(b), scale, nonnegative=nonnegative)
    if call.overwrites:
        trace.before_overwriting(call.args[0])
    return trace.propagate(node, call.run, [a, b], info)


def add_product(trace: Trace, call: Call) -> Any:
    """``addcmul`` and ``addcdiv``: a sum whose second term is a product or quotient."""
    if call.overwrites:
        return refuse(trace, call, "in place; write it as a product and a sum")
    base, a, b = call.get(0, "input"), call.get(1, "tensor1"), call.get(2, "tensor2")
    value = call.kwargs.get("value", 1)
    times = torch.div if call.name == "addcdiv" else torch.mul
    scaled = Call(torch.mul, (a, value), {})
    a = multiply(trace, scaled) if depends_on_input(a) and value != 1 else scaled.run() if value != 1 else a
    product = Call(times, (a, b), {})
    term = multiply(trace, product) if product.tracked else product.run()
    return add(trace, Call(torch.add, (base, term), {}))


def multiply(trace: Trace, call: Call) -> Any:
    """Product or quotient: relevance follows the signal; gates, constants and denominators get none."""
    call = call.without_parameters()
    a, b = _operands(call)
    divides = "div" in call.name
    if divides and not depends_on_input(a):
        return refuse(trace, call, "a constant divided by an activation; no rule says how it shares relevance")
    if len(call.tracked) == 1:
        signals, why = call.tracked, "product with a constant"
    elif divides:
        signals, why = [a], "follows the numerator"
    else:
        signals, why = signals_of_product(trace, a, b)
    nonnegative = _is_nonnegative(trace, a) and _is_nonnegative(trace, b)
    info = info_of(trace, call, nonnegative=nonnegative, monotone=len(call.tracked) == 1)
    if len(signals) == 2:
        node: Node = Product(record_of(trace, call, "half to each", why), (a.shape, b.shape))
    else:
        node = Pass(record_of(trace, call, "pass", why), signals[0].shape)
    return trace.propagate(node, call.run, signals, info, _overwritten(call, signals))


def signals_of_product(trace: Trace, a: Tensor, b: Tensor) -> tuple[list[Tensor], str]:
    """Which factors carry the signal: not a gate, not the one that is broadcast; otherwise both."""
    gate_a, gate_b = trace.info(a).gate, trace.info(b).gate
    if gate_a != gate_b:
        return [b if gate_a else a], "follows the signal, not the gate"
    if a.numel() != b.numel():
        return [a if a.numel() > b.numel() else b], "follows the signal, not the broadcast gate"
    return [a, b], "two signals of one shape"


def gated_linear_unit(trace: Trace, call: Call) -> Any:
    """``a * sigmoid(b)`` of two halves: relevance follows ``a``."""
    signal, dim = call.get(0, "input"), call.get(1, "dim", -1)
    half = route(trace, Call(torch.Tensor.chunk, (signal, 2, dim), {}))[0]
    node = Pass(record_of(trace, call, "pass", "follows the signal, not the gate"), half.shape)
    return trace.propagate(node, call.run, [half], info_of(trace, call)._replace(bounds=None))
