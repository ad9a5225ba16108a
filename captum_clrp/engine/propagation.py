"""The only file that runs a user's model: forward once under a trace, then relevance back through its graph.

Nothing of the model is written: no weight, attribute, hook, flag or ``.grad``; so there is nothing to restore, whatever
happens on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_clrp.bounds import Bounds, InputDomain
from captum_clrp.engine.borrowed import check_inputs, checked_modules, plain_model
from captum_clrp.engine.graph import form_output_layer, nearest_weighted, refused_between, up_to_weighted
from captum_clrp.engine.marks import Info, depends_on_input
from captum_clrp.engine.memory import keep_freed_memory
from captum_clrp.engine.nested import attributes_of, flatten, replace
from captum_clrp.engine.nodes import Record, Role, Weighted
from captum_clrp.engine.numerics import all_finite, is_nonnegative
from captum_clrp.engine.operations import run_operation
from captum_clrp.engine.places import LayerReached, Place, Reader
from captum_clrp.engine.precision import takes_bfloat16
from captum_clrp.engine.settings import Settings
from captum_clrp.engine.trace import Trace
from captum_clrp.errors import ContrastiveLRPError, ModelStateError, UnsupportedOperationError, warn
from captum_clrp.rules import Gamma


class OutputLayer(NamedTuple):
    """The weighted operations that make an output.

    Attributes:
        nodes: These operations: usually one, several where branches meet.
        role: What they are to do.
    """

    nodes: tuple[Weighted, ...]
    role: Role


class Propagation:
    """One recorded forward pass; relevance can be sent back through it once for each class.

    Attributes:
        output: What the model returned (or the output of the layer at which the pass stopped).
        trace: The recorded operations.
        receivers: The tensors at which relevance is read, place by place.
    """

    def __init__(self, output: Any, receivers: tuple[tuple[Tensor, ...], ...], trace: Trace) -> None:
        self.output = output
        self.trace = trace
        self.receivers = receivers

    def output_layer(
        self, output: Tensor, *, contrast: bool = False, negate_weights: float | None = None
    ) -> OutputLayer:
        """The weighted operations nearest to ``output``, with what they are to compute.

        Args:
            output: One tensor of :attr:`output`.
            contrast: Whether the relevance that arrives is a contrast; they compute it in double precision.
            negate_weights: How much of relevance by ``-W`` they subtract from that by ``W``; ``None`` for no such thing.

        Raises:
            ModelStateError: if there is no such operation.
            UnsupportedOperationError: naming the operations without a rule between ``output`` and what is explained; if
                weights are to be negated and some path goes around them, or their rule cannot tell ``W`` from ``-W``.
        """
        self.check([output])
        nearest = nearest_weighted(output)
        if not nearest:
            raise ModelStateError(
                "there is no weighted operation (convolution or fully connected layer) between the input and this "
                "output; there is nothing that a relevance rule could explain"
            )
        if negate_weights is not None:
            self._check_negatable(output, nearest)
        role = Role(output=True, contrast=contrast, negate=negate_weights or 0.0)
        return OutputLayer(tuple(function.node for function in nearest), role)

    def plan(self) -> tuple[Record, ...]:
        """What every operation does, the output layer of each tensor of :attr:`output` by its own rule.

        Raises:
            UnsupportedOperationError: naming the operations without a rule.
        """
        outputs = list(tensors_of(self.output))
        self.check(outputs)
        for function in {f for output in outputs for f in nearest_weighted(output)}:
            function.node.take(Role(output=True))
        return tuple(node.record for node in self.trace.nodes)

    def check(self, outputs: Iterable[Tensor]) -> None:
        """Refuse outputs whose relevance would meet an operation without a rule; others on the way of none do not matter.

        Args:
            outputs: Tensors of :attr:`output`.

        Raises:
            UnsupportedOperationError: naming every such operation.
        """
        receivers = [tensor for of_place in self.receivers for tensor in of_place]
        self.trace.refusals.raise_if_any({r for output in outputs for r in refused_between(output, receivers)})

    def close(self) -> None:
        """No more relevance is sent: what the model kept of this pass is a constant without a graph from now on."""
        self.trace.marks.clear()

    def _check_negatable(self, output: Tensor, nearest: Sequence[Any]) -> None:
        nodes = [function.node for function in nearest]
        if not form_output_layer(output, nearest):
            names = ", ".join(sorted({node.record.module for node in nodes}))
            raise UnsupportedOperationError(
                f"CLRP2 negates the weights of the output layer, but here ({names}) some path from the input to the "
                "output goes around it, so that the dual concept is not defined; use ContrastiveLRP1, or explain a "
                "layer in front of the skip connection"
            )
        for node in nodes:
            if not node.rule_as(Role(output=True, contrast=True)).distinguishes_negated_weights:
                raise UnsupportedOperationError(
                    f"the output layer '{node.record.module}' has rule {node.record.rule}, which gives the same "
                    "relevance for W and -W, so that CLRP2 would be zero everywhere; set another rule there "
                    "(captum_clrp.rules.ZPlus), or use ContrastiveLRP1"
                )

    def relevance(
        self, output: Tensor, initial: Tensor, output_layer: OutputLayer, *, last: bool = True
    ) -> tuple[tuple[Tensor, ...], ...]:
        """Relevance at each place that is read, for relevance ``initial`` of ``output``.

        Args:
            output: One tensor of :attr:`output`.
            initial: Shaped as ``output``.
            output_layer: What :meth:`output_layer` says of ``output``.
            last: Whether this is the last class, so that memory is freed on the way.
        """
        for node in self.trace.nodes:
            node.retain = not last
            if isinstance(node, Weighted):  # what another seed made of it is taken back
                node.take(output_layer.role if node in output_layer.nodes else Role())
        scale = _carrying_scale(output, initial)
        last_operation = getattr(output.grad_fn, "node", None)
        if isinstance(last_operation, Weighted) and last_operation.role.contrast:
            last_operation.unrounded = initial * scale
        with torch.inference_mode(False), torch.autocast(output.device.type, enabled=False):
            receivers = [tensor for of_place in self.receivers for tensor in of_place]
            received = torch.autograd.grad(
                output, receivers, (initial * scale).to(output.dtype), retain_graph=not last, allow_unused=True
            )
        relevance = [
            torch.zeros_like(x) if r is None else (r / scale if scale != 1 else r).detach()
            for r, x in zip(received, receivers, strict=True)
        ]
        if output_layer.role.negate:  # in front of the output layer the dual concept has the same relevance
            in_front = up_to_weighted(output)
            kept = 1 - output_layer.role.negate
            relevance = [r * kept if x.grad_fn in in_front else r for r, x in zip(relevance, receivers, strict=True)]
        if not all(all_finite(r) for r in relevance):
            raise ModelStateError(
                "relevance became NaN or infinite on its way to the inputs; check the weights for NaN, and the range of "
                "half-precision activations"
            )
        self._check_size(relevance, initial)
        remaining = iter(relevance)
        return tuple(tuple(next(remaining) for _ in of_place) for of_place in self.receivers)

    def _check_size(self, relevance: Sequence[Tensor], initial: Tensor) -> None:
        """Warn where relevance grew so much on its way that what is left of it may be rounding."""
        grown = [node for node in self.trace.nodes if node.growth is not None]
        if not grown:
            return
        times = float(sum(r.abs().sum(dtype=torch.float64) for r in relevance) / initial.abs().sum(dtype=torch.float64))
        if times > HUGE:
            most = max(grown, key=lambda node: float(node.growth[1] / node.growth[0]))  # type: ignore[index]
            factor = float(most.growth[1] / most.growth[0])  # type: ignore[index]
            remedy = (
                "a larger gamma bounds it more tightly: rules=Composite.gamma(0.5)"
                if isinstance(most.rule, Gamma)
                else "rules='gamma' bounds it"
            )
            warn(
                f"the sizes of relevance at the input sum to {times:.2g} times the score: positive and negative parts that "
                f"cancel. It grew most, {factor:.2g} times, at {most.record.operation} in module '{most.record.module}' "
                f"({most.record.rule}); {remedy}"
            )


HUGE = 1000.0
"""Sizes of relevance at the input, in units of those at the output, that call for a warning."""


def _carrying_scale(output: Tensor, initial: Tensor) -> float:
    """Half precision has few exponents: relevance is carried scaled so that the sum of an example fits well within.

    Rules are linear in relevance; a power of two rounds nothing.
    """
    if output.dtype != torch.float16:
        return 1.0
    total = float(initial.abs().reshape(len(initial), -1).sum(1).max())
    if total == 0:
        return 1.0
    return 2.0 ** min(24, 13 - math.ceil(math.log2(total)))


def run_model(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    additional_args: tuple[Any, ...],
    *,
    domain: InputDomain,
    settings: Settings,
    place: Place | None = None,
) -> Propagation:
    """Run ``model`` once and record it.

    Raises:
        InvalidInputError: for inputs that cannot be explained.
        ModelStateError: for a model in training mode, scripted, or without a path from input to output.
        UnsupportedOperationError: naming every operation that has no rule.
    """
    model = plain_model(model)
    names = checked_modules(model)
    check_inputs(inputs)
    keep_freed_memory()
    with torch.inference_mode(False), torch.no_grad():
        trace = Trace(names, settings, run_operation)
        trace.low_precision = takes_bfloat16(settings.precision, inputs[0].device)
        tracked = _with_graph(domain.of(tuple(x.detach().clone() for x in inputs)), trace)
        additional_args = tuple(a.clone() if isinstance(a, Tensor) and a.is_inference() else a for a in additional_args)
        reader = Reader(trace, place)
        output: Any = None
        try:
            with reader.watching_inputs(), trace.recording(reader.after):
                output = model(*tracked, *additional_args)
        except LayerReached:
            output = reader.reached()
        except BaseException as error:
            trace.marks.clear()
            if isinstance(error, Exception) and not isinstance(error, ContrastiveLRPError):
                trace.refusals.raise_if_any()  # the refused operation is the likely cause
            raise
    if isinstance(output, Tensor | tuple | list | dict):
        output = replace(output, trace.recognised)
    propagation = Propagation(output, (), trace)
    try:
        if trace.refusals.matter:
            trace.refusals.raise_if_any()
        trace.settle(tensors_of(output))
        propagation.receivers = _receivers(output, tracked, reader, place)
        if place is None or not place.stop:
            _check_rules(trace, names)
    except BaseException:
        propagation.close()
        raise
    return propagation


def _check_rules(trace: Trace, names: Mapping[nn.Module, str]) -> None:
    """Warn of rules that no operation took."""
    unused = [f"'{names[module]}'" for module in trace.scope.unused_rules]
    if unused:
        listed = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
        warn(
            f"the rule of module(s) {listed} was not used: the module did not run, or the model calls its forward (or "
            "computes its weight) itself; call the module instead"
        )


def _receivers(
    output: Any, tracked: tuple[Tensor, ...], reader: Reader, place: Place | None
) -> tuple[tuple[Tensor, ...], ...]:
    """The tensors at which relevance is read, place by place.

    Raises:
        ModelStateError: if there is none, or no path that could bring relevance there.
    """
    if place is not None and place.stop:
        reader.check_runs()
    tensors = tensors_of(output)
    if not any(nearest_weighted(t) for t in tensors):
        reader.trace.refusals.raise_if_any()  # which are the likely cause
    if not tensors:
        raise ModelStateError(
            "the output does not depend on the inputs, as far as torch functions tell; if the model leaves PyTorch "
            "(numpy, scripted functions, custom kernels), rewrite that part with torch functions"
        )
    if not any(nearest_weighted(t) for t in tensors):
        raise ModelStateError(
            "the model has no weighted operation (convolution or fully connected layer) between input and output; "
            "there is nothing that a relevance rule could explain"
        )
    return reader.receivers() if place is not None and not place.stop else (tracked,)


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors of what a model returned that depend on the inputs; also of objects with attributes or slots."""
    if not isinstance(output, Tensor | tuple | list | dict):
        output = attributes_of(output)
    return [value for value in flatten(output) if depends_on_input(value)]


def _with_graph(inputs: Sequence[tuple[Tensor, Bounds]], trace: Trace) -> tuple[Tensor, ...]:
    """Inputs with a graph, not leaves, so that even operations in place on them are recorded."""
    with torch.enable_grad():
        plain = [x.as_subclass(Tensor).requires_grad_() for x, _ in inputs]  # data loaders hand over types of their own
        tracked = tuple(x.view_as(x).clone() for x in plain)
    for x, (_, bounds) in zip(tracked, inputs, strict=True):
        trace.origins.add(x.grad_fn)
        trace.marks.roots.append(x)
        trace.describe(x, Info(nonnegative=is_nonnegative(x), bounds=bounds))
    return tracked
