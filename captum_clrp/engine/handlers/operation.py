"""One operation of the model while it is handled: what a handler may ask and do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from captum_clrp.bounds import Bounds, own_range
from captum_clrp.composites import Composite
from captum_clrp.engine._captum import EpsilonRule
from captum_clrp.engine.calls import Call
from captum_clrp.engine.linear_maps import LinearMap
from captum_clrp.engine.marks import Info, depends_on_input
from captum_clrp.engine.nested import flatten, replace
from captum_clrp.engine.nodes import Jacobian, Node, Record, Saved
from captum_clrp.engine.numerics import is_nonnegative
from captum_clrp.engine.trace import Trace
from captum_clrp.rules import Epsilon, Identity, RelevanceRule, rule_of


class Choice(NamedTuple):
    """How the rule of an operation is found, and why it is this one."""

    choose: Callable[[Composite], RelevanceRule]
    reason: str


class Operation:
    """A call within the pass that is recorded."""

    def __init__(self, trace: Trace, call: Call) -> None:
        self.trace = trace
        self.call = call

    # -- what is asked ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.call.name

    @property
    def signal(self) -> Tensor:
        """The first tensor that depends on the inputs."""
        return self.call.tracked[0]

    @property
    def module(self) -> str:
        """Name of the module that runs it."""
        return self.trace.scope.name

    def get(self, name: str, default: Any = None) -> Any:
        """The argument of a name."""
        return self.call.get(name, default)

    def weighted_rule(self, signal: Tensor, kind: Literal["convolution", "linear"], weight: Tensor) -> Choice:
        """The rule of a weighted operation: the user's, or what the composite says when the network has run.

        Args:
            signal: The tensor that receives relevance.
            kind: Whose rule of the composite it has unless it is the first weighted operation.
            weight: Its weight: the module that holds it may carry a rule without running as a module.
        """
        chosen = self.trace.scope.rule(weight)
        bounds = self.trace.info(signal).bounds
        if chosen is not None:
            rule = rule_of(*chosen, self.module)
            return Choice(lambda composite: rule, "set by the user as module.rule")
        if bounds is not None:  # which rounding on the way may have moved across the signal
            low, high = signal.detach().minimum(bounds.low), signal.detach().maximum(bounds.high)
            return Choice(lambda c: c.first_rule(low, high) or getattr(c, kind), "first weighted operation")
        return Choice(lambda composite: getattr(composite, kind), "weighted operation on activations")

    def in_chosen_precision(self, layer: LinearMap) -> LinearMap:
        """A linear map in the precision that the user chose for relevance."""
        return layer.in_low_precision() if self.trace.low_precision else layer

    def own_epsilon(self) -> Epsilon | None:
        """The epsilon rule, if the user set it on the very module that runs this operation without weights."""
        chosen = self.trace.scope.rule()
        if chosen is None or chosen[1] is not self.trace.scope.innermost:
            return None
        rule, module = chosen
        if isinstance(rule, EpsilonRule) and not isinstance(rule_of(rule, module, self.module), Identity):
            return Epsilon(rule.STABILITY_FACTOR)
        return rule if isinstance(rule, Epsilon) else None

    def nonnegative(self, value: Any) -> bool:
        """Whether no value is known to be negative."""
        if depends_on_input(value):
            return self.trace.info(value).nonnegative
        if isinstance(value, Tensor):
            return value.numel() <= 4096 and is_nonnegative(value)
        return isinstance(value, float | int) and value >= 0

    # -- what is known of the result -------------------------------------------------------------------------------

    @property
    def here(self) -> str:
        """The operation and its module, for reports."""
        return f"{self.name} in '{self.module}'"

    def info(self, *, nonnegative: bool = False, gate: bool | None = None, monotone: bool = True) -> Info:
        """Flags of the result, and its bounds as long as it lies before the first weighted operation."""
        first, *others = [self.trace.info(t) for t in self.call.tracked] or [Info()]
        for other in others:
            first = Info(
                gate=first.gate and other.gate,
                attention=first.attention and other.attention,
                bounds=first.bounds and other.bounds,
                signed=first.signed or other.signed,
            )
        return Info(
            nonnegative,
            first.gate if gate is None else gate,
            first.attention,
            self._follow_bounds(monotone) if first.bounds is not None else None,
            None if nonnegative else first.signed,
        )

    def _follow_bounds(self, monotone: bool) -> Bounds | None:
        """Bounds of a result of tensors that have bounds.

        Monotone operations run on the bounds as they run on the tensor, in place and on views as well; otherwise the
        result's own range per channel serves, which is always a valid domain.
        """
        call = self.call
        overwritten: object = call.overwritten

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
            return on_bounds.overwritten if result is None else result

        if monotone:
            low = run_on(lambda t: self.trace.info(t).bounds.low)  # type: ignore[union-attr]
            high = run_on(lambda t: self.trace.info(t).bounds.high)  # type: ignore[union-attr]
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

    # -- what is done ----------------------------------------------------------------------------------------------

    def of(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Operation:
        """Another operation in the same place, as part of this one."""
        return Operation(self.trace, Call(func, args, kwargs))

    def with_constants_detached(self) -> Operation:
        """The same operation without a path to what constants were made from."""
        return Operation(self.trace, self.call.without_parameters())

    def record(self, rule: object, reason: str) -> Record:
        """What a report says of it."""
        return Record(self.name, self.module, str(rule), reason)

    def save(self, tensor: Tensor) -> Saved:
        """Keep a tensor for the backward pass, safe from being overwritten in place."""
        return self.trace.save(tensor)

    def propagate(self, node: Node, receivers: Sequence[Tensor], info: Info) -> Tensor:
        """Run it as ``node``; ``receivers`` get the shares of its backward."""
        first = self.call.overwritten
        if isinstance(first, Tensor):
            self.trace.before_overwriting(first)  # the node may keep it
        elsewhere = isinstance(first, Tensor) and all(first is not r for r in receivers)
        return self.trace.propagate(node, self.call.run, receivers, info, first if elsewhere else None)

    def propagate_epsilon(self, rule: Epsilon) -> Tensor:
        """Run it with the epsilon rule, which a user assigned to it although it has no weights."""
        signal = self.signal
        record = self.record(rule, "set by the user as module.rule")
        node = Jacobian(record, self.save(signal), self.call.as_function_of(signal), rule.epsilon)
        return self.propagate(node, [signal], self.info())

    def refuse(self, reason: str) -> Any:
        """Note the refusal and let the model run on, so that one error can name all refused operations."""
        trace, call = self.trace, self.call
        if carries_values(call.overwritten):
            refusal = trace.refuse(self.name, reason, linked=True)
            return trace.link(refusal, self._overwritten, call.tracked, call.overwritten)
        result = call.run()
        linked = not call.overwrites and any(carries_values(value) for value in flatten(result))
        refusal = trace.refuse(self.name, reason, linked=linked)

        def link(value: Any) -> Any:
            if not carries_values(value):
                return value
            plain = value.dequantize() if value.is_quantized else value.detach().clone()
            return trace.link(refusal, lambda: plain, call.tracked)

        return replace(result, link)

    def _overwritten(self) -> Tensor:
        self.call.run()
        overwritten: Tensor = self.call.overwritten
        return overwritten


def carries_values(value: Any) -> bool:
    """Whether ``value`` is a tensor of real, complex or quantised numbers, not of indices or truth values."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex() or value.is_quantized)
