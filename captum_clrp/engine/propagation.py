"""The only file that runs a user's model: forward once under a trace, then relevance back through its graph.

Nothing of the model is written: no weight, attribute, hook, flag or ``.grad``; so there is nothing to restore, whatever
happens on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_clrp.bounds import Bounds, BoundType, domain_of
from captum_clrp.engine.calls import depends_on_input, flatten
from captum_clrp.engine.nodes import Role, Weighted
from captum_clrp.engine.numerics import all_finite, is_nonnegative
from captum_clrp.engine.operations import run_operation
from captum_clrp.engine.trace import Info, Settings, Trace
from captum_clrp.errors import ContrastiveLRPError, InvalidInputError, ModelStateError, UnsupportedOperationError
from captum_clrp.rules import RelevanceRule

__all__ = ["Place", "Propagation", "propagate_module", "run_model"]


class Place(NamedTuple):
    """A layer at which relevance is read, or at which it starts.

    Attributes:
        layer: The module.
        at_input: Read at the layer's input instead of its output.
        stop: End the forward pass behind the layer (relevance starts there).
    """

    layer: nn.Module
    at_input: bool = False
    stop: bool = False


class _LayerReached(BaseException):
    """Ends a forward pass behind the layer of interest; not an ``Exception``, so that no model swallows it."""


class Propagation:
    """One recorded forward pass; relevance can be sent back through it once for each class.

    Attributes:
        output: What the model returned (or the output of the layer at which the pass stopped).
        trace: The recorded operations.
    """

    def __init__(self, output: Any, receivers: tuple[Tensor, ...], inputs: tuple[Tensor, ...], trace: Trace) -> None:
        self.output = output
        self.trace = trace
        self._receivers = receivers
        self._inputs = inputs

    def set_output_layer(self, output: Tensor, *, contrast: bool = False, negate_weights: bool = False) -> None:
        """Tell the weighted operations nearest to ``output`` what they are to compute.

        Args:
            output: One tensor of :attr:`output`.
            contrast: Whether the relevance that arrives is a contrast; they compute it in double precision.
            negate_weights: Whether they return relevance by ``W`` minus relevance by ``-W``.

        Raises:
            ModelStateError: if there is no such operation.
            UnsupportedOperationError: if weights are to be negated and some path goes around them, or their rule cannot
                tell ``W`` from ``-W``.
        """
        nearest = nearest_weighted(output)
        if not nearest:
            raise ModelStateError(
                "there is no weighted operation (convolution or fully connected layer) between the input and this "
                "output; there is nothing that a relevance rule could explain"
            )
        if negate_weights:
            self._check_negatable(output, nearest)
        for function in nearest:
            node = function.node
            node.take(Role(output=True, contrast=contrast, negate=negate_weights))

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

    def relevance(self, output: Tensor, initial: Tensor, *, last: bool = True) -> tuple[Tensor, ...]:
        """Relevance at the inputs (or at the place) for relevance ``initial`` of ``output``.

        Args:
            output: One tensor of :attr:`output`.
            initial: Shaped as ``output``.
            last: Whether this is the last class, so that memory is freed on the way.
        """
        for node in self.trace.nodes:
            node.keep = not last
        scale = _carrying_scale(output, initial)
        output_layer = getattr(output.grad_fn, "node", None)
        if isinstance(output_layer, Weighted) and output_layer.role.contrast:
            output_layer.unrounded = initial * scale
        with torch.inference_mode(False), torch.autocast(output.device.type, enabled=False):
            received = torch.autograd.grad(
                output, self._receivers, (initial * scale).to(output.dtype), retain_graph=not last, allow_unused=True
            )
        relevance = tuple(
            torch.zeros_like(x) if r is None else (r / scale if scale != 1 else r).detach()
            for r, x in zip(received, self._receivers, strict=True)
        )
        if not all(all_finite(r) for r in relevance):
            raise ModelStateError(
                "relevance became NaN or infinite on its way to the inputs; check the weights for NaN, and the range of "
                "half-precision activations"
            )
        return relevance


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
    low: BoundType,
    high: BoundType,
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
    with torch.inference_mode(False), torch.no_grad():
        inputs = tuple(x.detach().clone() for x in inputs)
        domain = domain_of(inputs, low, high)
        trace = Trace(names, settings, run_operation)
        started = start(inputs, domain, trace)
        additional_args = tuple(a.clone() if isinstance(a, Tensor) and a.is_inference() else a for a in additional_args)
        reader = _Reader(trace, place)
        output: Any = None
        try:
            with trace.watching_modules(reader.before, reader.after), trace:
                output = model(*started, *additional_args)
        except _LayerReached:
            output = reader.reached()
        except ContrastiveLRPError:
            raise
        except Exception:
            trace.raise_refusals()  # the refused operation is the likely cause
            raise
        trace.raise_refusals()
        trace.settle()
    if place is not None and place.stop:
        reader.check_runs()
    held = output if isinstance(output, Tensor | tuple | list | dict) else getattr(output, "__dict__", output)
    tensors = [t for t in flatten(held) if isinstance(t, Tensor)]
    if not any(depends_on_input(t) for t in tensors):
        raise ModelStateError(
            "the output does not depend on the inputs, as far as torch functions tell; if the model leaves PyTorch "
            "(numpy, scripted functions, custom kernels), rewrite that part with torch functions"
        )
    if not any(depends_on_input(t) and nearest_weighted(t) for t in tensors):
        raise ModelStateError(
            "the model has no weighted operation (convolution or fully connected layer) between input and output; "
            "there is nothing that a relevance rule could explain"
        )
    receivers = reader.receivers() if place is not None and not place.stop else started
    return Propagation(output, receivers, inputs, trace)


def plain_model(model: nn.Module) -> nn.Module:
    """The module that computes: unwraps ``DataParallel`` and compiled models, whose parameters are the same objects."""
    while True:
        parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
        wrapped = getattr(model, "module" if parallel else "_orig_mod", None)
        if not isinstance(wrapped, nn.Module):
            return model
        model = wrapped


def checked_modules(model: nn.Module) -> dict[nn.Module, str]:
    """Name of each module; refuses models whose operations cannot be seen, or whose forward pass would change them.

    Raises:
        ModelStateError: for scripted modules, for lazy ones without weights, and for normalisation or dropout in
            training mode.
    """
    names, training = {}, []
    for name, module in model.named_modules():
        names[module] = name
        lazy: Any = module
        if isinstance(module, nn.modules.lazy.LazyModuleMixin) and lazy.has_uninitialized_params():
            raise ModelStateError(
                f"module '{name}' ({type(module).__name__}) has no weights yet; run the model once on such inputs first"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelStateError(
                f"module '{name or type(module).__name__}' is scripted or traced, so that its operations cannot be "
                "seen; explain the nn.Module that it was made from"
            )
        if module.training and _acts_differently_in_training(module):
            training.append(f"{name or '(model)'} ({type(module).__name__})")
    if training:
        listed = ", ".join(training[:5]) + (", ..." if len(training) > 5 else "")
        raise ModelStateError(
            f"{len(training)} module(s) are in training mode and would change their statistics or drop values: "
            f"{listed}; call model.eval() first"
        )
    return names


def _acts_differently_in_training(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return bool(module.track_running_stats)
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.utils.parametrizations._SpectralNorm) or any(
        type(hook).__name__ == "SpectralNorm" for hook in module._forward_pre_hooks.values()
    ):
        return True  # iterates its estimate
    probability = getattr(module, "drop_prob", None)  # stochastic depth of timm
    if type(module).__name__ == "StochasticDepth":
        probability = getattr(module, "p", None)
    return isinstance(probability, float) and probability > 0


def check_inputs(inputs: Sequence[Tensor]) -> None:
    """Refuse inputs that cannot be explained.

    Raises:
        InvalidInputError: saying which input, where and what is accepted.
    """
    if not inputs:
        raise InvalidInputError("no input tensors were given; pass a tensor or a tuple of tensors")
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise InvalidInputError(f"input {i} is a {type(x).__name__}; pass a tensor or a tuple of tensors")
        if not x.is_floating_point():
            raise InvalidInputError(
                f"input {i} has dtype {x.dtype}; relevance needs floating-point inputs: convert it, e.g. x.float() / 255"
            )
        if x.dim() == 0 or x.numel() == 0:
            raise InvalidInputError(
                f"input {i} of shape {tuple(x.shape)} is empty; dimension 0 counts examples and must be at least 1"
            )
        if not all_finite(x):
            where = (~x.isfinite()).nonzero()[0].tolist()
            count = int((~x.isfinite()).sum())
            raise InvalidInputError(
                f"input {i} has {count} value(s) that are NaN or infinite, the first at index {tuple(where)}; "
                "relevance needs finite inputs"
            )


def start(inputs: Sequence[Tensor], domain: Sequence[Bounds], trace: Trace) -> tuple[Tensor, ...]:
    """Inputs with a graph, not leaves, so that even operations in place on them are recorded."""
    with torch.enable_grad():
        started = tuple(x.requires_grad_().view_as(x) for x in inputs)
        started = tuple(x.clone() for x in started)
    for x, bounds in zip(started, domain, strict=True):
        trace.origins.add(x.grad_fn)
        trace.describe(x, Info(nonnegative=is_nonnegative(x), bounds=bounds))
    return started


class _Reader:
    """Finds the tensors at a place while the model runs."""

    def __init__(self, trace: Trace, place: Place | None) -> None:
        self.trace = trace
        self.place = place
        self.found: list[Any] = []

    def before(self, module: nn.Module, inputs: Any) -> Any:
        if self.place is None or module is not self.place.layer or not self.place.at_input:
            return None
        kept = self._keep(inputs)
        if self.place.stop:
            raise _LayerReached
        return kept

    def after(self, module: nn.Module, output: Any) -> Any:
        if self.place is None or module is not self.place.layer or self.place.at_input:
            return None
        kept = self._keep(output)
        if self.place.stop:
            raise _LayerReached
        return kept

    def _keep(self, tensors: Any) -> Any:
        """Remember the tensors and let the model go on with copies, which it may overwrite."""
        self.found.append(tensors)
        if self.place is not None and not self.place.stop:
            self.trace.refusals.clear()  # relevance that is read here does not pass what ran before

        def copy(value: Any) -> Any:
            return self.trace.describe(value.clone(), self.trace.info(value)) if depends_on_input(value) else value

        with torch.enable_grad():
            if isinstance(tensors, tuple | list):
                return type(tensors)(copy(t) for t in tensors)
            return copy(tensors)

    def reached(self) -> Any:
        """What the layer at which the pass ended returns (or takes); one tensor without the tuple around it."""
        (tensors,) = self.found
        return tensors[0] if isinstance(tensors, tuple) and len(tensors) == 1 else tensors

    def check_runs(self) -> None:
        if len(self.found) != 1:
            times = "does not run" if not self.found else f"runs {len(self.found)} times"
            raise ModelStateError(
                f"the layer {type(self.place.layer).__name__} {times} in the forward pass; choose a layer that runs "  # type: ignore[union-attr]
                "exactly once"
            )

    def receivers(self) -> tuple[Tensor, ...]:
        self.check_runs()
        tensors = tuple(t for t in flatten(self.found[0]) if depends_on_input(t))
        if not tensors:
            raise ModelStateError("no tensor at this layer depends on the inputs; choose another layer")
        return tensors


def nearest_weighted(output: Tensor) -> list[Any]:
    """Autograd functions of the weighted operations nearest to ``output``: usually one, several where branches meet."""
    return [f for f in _functions_behind([output.grad_fn], _is_weighted) if _is_weighted(f)]


def form_output_layer(output: Tensor, nearest: Sequence[Any]) -> bool:
    """Whether every path from ``output`` to the inputs goes through exactly one of these operations first."""
    in_front = _functions_behind([output.grad_fn], _is_weighted)
    goes_around = any(not _is_weighted(f) and not _followers(f) for f in in_front)
    behind = _functions_behind([f for function in nearest for f in _followers(function)])
    return not goes_around and behind.isdisjoint(nearest)


def _is_weighted(function: Any) -> bool:
    return isinstance(getattr(function, "node", None), Weighted)


def _followers(function: Any) -> list[Any]:
    return [f for f, _ in function.next_functions if f is not None]


def _functions_behind(start: Sequence[Any], ends_at: Callable[[Any], bool] = lambda function: False) -> Set[Any]:
    """The functions of the graph from ``start`` on; what ``ends_at`` accepts is the last of its path."""
    seen: dict[Any, None] = {}
    stack = list(start)
    while stack:
        function = stack.pop()
        if function is None or function in seen:
            continue
        seen[function] = None
        if not ends_at(function):
            stack.extend(_followers(function))
    return seen.keys()


def propagate_module(rule: RelevanceRule, module: nn.Module, inputs: Any) -> Tensor:
    """``module(*inputs)`` with ``rule`` for a backward: how our rules work inside ``captum.attr.LRP``."""
    names = {part: name for name, part in module.named_modules()}
    trace = Trace(names, Settings(), run_operation, forced_rule=(rule, module))
    with torch.enable_grad():
        started = tuple(x.view_as(x) if isinstance(x, Tensor) else x for x in inputs)
    for x in started:
        if isinstance(x, Tensor) and x.requires_grad:
            trace.describe(x, Info())
    with torch.no_grad(), trace:
        result: Tensor = module.forward(*started)
    trace.raise_refusals()
    trace.settle()
    if not depends_on_input(result):
        raise ModelStateError(f"the output of {type(module).__name__} does not depend on its input")

    def remember_input(relevance: Tensor) -> None:
        rule.relevance_input[relevance.device] = relevance

    def remember_output(relevance: Tensor) -> None:
        rule.relevance_output[relevance.device] = relevance

    started[0].register_hook(remember_input)
    result.register_hook(remember_output)
    return result
