"""Sums and products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_clrp.engine.fixed_maps import ShiftMap
from captum_clrp.engine.graph import made_of
from captum_clrp.engine.handlers.moving import route
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.marks import Info, depends_on_input
from captum_clrp.engine.nodes import PassThrough, Product, Shared, Sum

_DEPRECATED = "its arguments stand in a deprecated order; give them by name"


def _operands(op: Operation, reflected: bool) -> tuple[Any, Any]:
    a, b = op.get("input"), op.get("other")
    return (b, a) if reflected else (a, b)


def add(op: Operation, *, sign: int = 1, reflected: bool = False) -> Any:
    """Sum or difference: shares of the positive parts; constants are bypassed like biases.

    Args:
        op: The operation.
        sign: -1 for a difference.
        reflected: Whether the second operand is the one that stands first.
    """
    if op.get("*"):
        return op.refuse(_DEPRECATED)
    op = op.with_constants_detached()
    a, b = _operands(op, reflected)
    scale = float(op.get("alpha", 1)) * sign
    nonnegative = scale >= 0 and op.nonnegative(a) and op.nonnegative(b)
    if len(op.call.tracked) == 1 and scale != 0:
        shift = b * scale if depends_on_input(a) else a / scale  # in the units of the signal
        return add_constant(op, shift, op.info(nonnegative=nonnegative))
    record = op.record("sum", "shares of the positive parts")
    node = Sum(record, op.save(a), op.save(b), scale, nonnegative=nonnegative)
    info = op.info(nonnegative=nonnegative, monotone=scale > 0)
    if info.signed is not None or scale < 0:
        info = info._replace(signed=op.here)
    return op.propagate(node, [a, b], info)


def add_constant(op: Operation, shift: Any, info: Info) -> Any:
    """A sum with a constant, which is bypassed like a bias unless the composite gives constants their share."""
    signal, rule = op.signal, op.trace.settings.rules.shifts
    if rule is None:
        record = op.record("pass", "sum with a constant, bypassed like a bias")
        return op.propagate(PassThrough(record, signal.shape), [signal], info)
    layer = ShiftMap(torch.as_tensor(shift, dtype=signal.dtype, device=signal.device), signal)
    node = Shared(op.record("", "a sum with a constant, which takes its share"), op.save(signal), layer, lambda c: rule)
    return op.propagate(node, [signal], info)


def add_product(op: Operation, *, times: Callable[..., Any] = torch.mul) -> Any:
    """``addcmul`` and ``addcdiv``: a sum whose second term is a product or a quotient (``times``)."""
    if op.call.overwrites:
        return op.refuse("in place; write it as a product and a sum")
    if op.get("*"):
        return op.refuse(_DEPRECATED)
    base, a, b, value = op.get("input"), op.get("tensor1"), op.get("tensor2"), op.get("value", 1)
    if value != 1:
        a = _product(op.of(torch.mul, a, value))
    return add(op.of(torch.add, base, _product(op.of(times, a, b), divides=times is torch.div)))


def _product(op: Operation, *, divides: bool = False) -> Any:
    return multiply(op, divides=divides) if op.call.tracked else op.call.run()


def multiply(op: Operation, *, divides: bool = False, reflected: bool = False) -> Any:
    """Product or quotient: relevance follows the signal; gates, constants and denominators get none.

    Args:
        op: The operation.
        divides: Whether it is a quotient.
        reflected: Whether the second operand is the one that stands first.
    """
    op = op.with_constants_detached()
    a, b = _operands(op, reflected)
    if divides and not depends_on_input(a):
        return op.refuse("a constant divided by an activation; no rule says how it shares relevance")
    if len(op.call.tracked) == 1:
        signals, why = op.call.tracked, "product with a constant"
    elif divides:
        signals, why = [a], "follows the numerator"
    else:
        signals, why = signals_of_product(op, a, b)
    info = op.info(nonnegative=op.nonnegative(a) and op.nonnegative(b), monotone=len(op.call.tracked) == 1)
    if len(signals) == 1 and any(gate is not signals[0] and made_of(gate, signals[0]) for gate in op.call.tracked):
        info = info._replace(signed=None)  # x * sigmoid(x) is an activation
    if len(signals) == 2:
        return op.propagate(Product(op.record("half to each", why), (a.shape, b.shape)), signals, info)
    return op.propagate(PassThrough(op.record("pass", why), signals[0].shape), signals, info)


def signals_of_product(op: Operation, a: Tensor, b: Tensor) -> tuple[list[Tensor], str]:
    """Which factors carry the signal: not a gate, not the one that is broadcast; otherwise both."""
    gate_a, gate_b = op.trace.info(a).gate, op.trace.info(b).gate
    if gate_a != gate_b:
        return [b if gate_a else a], "follows the signal, not the gate"
    if a.numel() != b.numel():
        return [a if a.numel() > b.numel() else b], "follows the signal, not the broadcast gate"
    return [a, b], "two signals of one shape"


def gated_linear_unit(op: Operation) -> Any:
    """``a * sigmoid(b)`` of two halves: relevance follows ``a``."""
    half = route(op.of(torch.Tensor.chunk, op.signal, 2, op.get("dim", -1)))[0]
    node = PassThrough(op.record("pass", "follows the signal, not the gate"), half.shape)
    return op.propagate(node, [half], op.info()._replace(bounds=None))


def interpolate_linearly(op: Operation) -> Any:
    """``lerp``: ``a + weight (b - a)`` as the sum of ``(1 - weight) a`` and ``weight b``."""
    a, b, weight = op.get("input"), op.get("end"), op.get("weight")
    if op.call.overwrites or depends_on_input(weight):
        return op.refuse("in place, or by a weight that depends on the inputs; write it as products and a sum")
    first, second = (_product(op.of(torch.mul, value, share)) for value, share in ((a, 1 - weight), (b, weight)))
    return add(op.of(torch.add, first, second))
