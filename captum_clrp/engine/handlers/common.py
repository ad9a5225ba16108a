"""What handlers of all kinds use: what a result is known to be, what a report says, how an operation is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_clrp.bounds import Bounds, own_range
from captum_clrp.engine._captum import EpsilonRule
from captum_clrp.engine.calls import Call, depends_on_input, replace
from captum_clrp.engine.nodes import Jacobian, Record
from captum_clrp.engine.trace import Info, Trace
from captum_clrp.rules import Epsilon, Identity, RelevanceRule, rule_of


def info_of(
    trace: Trace, call: Call, *, nonnegative: bool = False, gate: bool | None = None, monotone: bool = True
) -> Info:
    """Flags of a result, and its bounds as long as it lies before the first weighted operation."""
    infos = [trace.info(t) for t in call.tracked]
    in_input_domain = all(i.bounds is not None for i in infos)
    return Info(
        nonnegative=nonnegative,
        gate=all(i.gate for i in infos) if gate is None else gate,
        bounds=follow_bounds(trace, call, monotone) if in_input_domain else None,
    )


def follow_bounds(trace: Trace, call: Call, monotone: bool) -> Bounds | None:
    """Bounds of a result of tensors that have bounds.

    Monotone operations run on the bounds as they run on the tensor, in place and on views as well; otherwise the
    result's own range per channel serves, which is always a valid domain.
    """
    overwritten: object = call.args[0] if call.overwrites else None

    def run_on(side: Callable[[Tensor], Tensor]) -> Any:
        def stand_in(value: Any) -> Any:
            if depends_on_input(value):
                return side(value)
            if isinstance(value, Tensor):
                plain: Tensor = value.detach()
                return plain.clone() if value is overwritten else plain
            return value

        on_bounds = call.changed(stand_in)
        result = on_bounds.run()
        return on_bounds.args[0] if result is None and call.overwrites else result

    if monotone:
        low = run_on(lambda t: trace.info(t).bounds.low)  # type: ignore[union-attr]
        high = run_on(lambda t: trace.info(t).bounds.high)  # type: ignore[union-attr]
        if not isinstance(low, Tensor) or not isinstance(high, Tensor):
            return None
        if bool((low > high).any()):
            lower, upper = torch.minimum(low, high), torch.maximum(low, high)
            if call.overwrites:  # views of these bounds see it, as views of the tensor do
                return Bounds(low.copy_(lower), high.copy_(upper))
            return Bounds(lower, upper)
        return Bounds(low, high)
    own = run_on(lambda t: t.detach().clone())
    return own_range(own) if isinstance(own, Tensor) and own.dim() >= 2 else None


def record_of(trace: Trace, call: Call, rule: object, reason: str) -> Record:
    """What a report says of the operation."""
    return Record(call.name, trace.module_name, str(rule), reason)


def carries_values(value: Any) -> bool:
    """Whether ``value`` is a tensor of real, complex or quantised numbers, not of indices or truth values."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex() or value.is_quantized)


def refuse(trace: Trace, call: Call, reason: str) -> Any:
    """Note the refusal and let the model run on, so that one error can name all refused operations."""
    trace.refuse(call.name, reason)
    result = call.run()
    if call.overwrites:
        return result

    def link(value: Any) -> Any:
        if not carries_values(value):
            return value
        value = value.dequantize() if value.is_quantized else value.detach()
        return value + anchor.to(value.dtype)

    with torch.enable_grad():
        anchor = call.tracked[0].flatten()[:1].sum() * 0
    return trace.route(lambda: replace(result, link), Info())


def unweighted_rule(trace: Trace) -> RelevanceRule | None:
    """A rule that the user set on the very module that runs an operation without weights."""
    chosen = trace.user_rule()
    if chosen is None or not trace.scope or chosen[1] is not trace.scope[-1]:
        return None
    rule, module = chosen
    if isinstance(rule, EpsilonRule) and not isinstance(rule_of(rule, module, trace.module_name), Identity):
        return Epsilon(rule.STABILITY_FACTOR)
    return rule if isinstance(rule, RelevanceRule) else None


def by_epsilon(trace: Trace, call: Call, rule: Epsilon) -> Any:
    """The epsilon rule where a user assigned it to an operation without weights."""
    signal = call.tracked[0]
    node = Jacobian(
        record_of(trace, call, rule, "set by the user as module.rule"),
        trace.save(signal),
        call.as_function_of(signal),
        rule.epsilon,
    )
    return trace.propagate(node, call.run, [signal], info_of(trace, call))
