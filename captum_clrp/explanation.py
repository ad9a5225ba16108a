"""The steps of the method, top to bottom: run the model once, name what is explained, send relevance down, read it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.bounds import InputDomain
from captum_clrp.contrast import DualConcept, checked_strength
from captum_clrp.engine._captum import (
    GradientAttribution,
    InternalAttribution,
    NeuronAttribution,
    format_additional_forward_args,
    format_output,
    is_tuple,
)
from captum_clrp.engine.batching import in_batches
from captum_clrp.engine.borrowed import tuple_of_inputs
from captum_clrp.engine.numerics import at_least_single, has_double_precision
from captum_clrp.engine.places import Place
from captum_clrp.engine.propagation import OutputLayer, Propagation, run_model, tensors_of
from captum_clrp.engine.settings import Settings
from captum_clrp.errors import InvalidInputError, warn
from captum_clrp.targets import (
    Given,
    InitialRelevance,
    NeuronSelector,
    OfNeurons,
    OfTarget,
    Start,
    plain_target,
    targets_of,
)

Relevance = tuple[tuple[Tensor, ...], ...]
"""Relevance at each place that is read, and there of each tensor."""


@dataclasses.dataclass(frozen=True)
class Seed:
    """Where relevance starts.

    Attributes:
        output: The tensor that is explained, with its graph.
        sent: What is sent down: initial relevance, minus that of the dual concept. Shaped as ``output``.
        output_layer: The operations that make ``output``, and what they are to do.
    """

    output: Tensor
    sent: Tensor
    output_layer: OutputLayer

    @property
    def total(self) -> Tensor:
        """What relevance sums to, example by example, where nothing is absorbed: ``(N,)``."""
        total = _sum_examples(self.sent)
        return total - self.output_layer.role.negate * total


class Pass:
    """One recorded forward pass, from which any number of concepts can be explained.

    Attributes:
        propagation: The recorded pass.
    """

    def __init__(self, propagation: Propagation) -> None:
        self.propagation = propagation

    def seed(self, start: Start, dual: DualConcept | None, strength: float = 1.0) -> Seed:
        """Initial relevance of what ``start`` names, by a contrast.

        Args:
            start: What is explained.
            dual: The dual concept; ``None`` for plain relevance.
            strength: How much of the dual's relevance is subtracted.
        """
        try:
            output, initial = start.start(self.propagation.output, magnitude=dual is not None)
        except Exception:
            self.propagation.check(tensors_of(self.propagation.output))  # a refused operation is the likely cause
            raise
        negated = strength if dual is not None and dual.negates_output_layer else None
        output_layer = self.propagation.output_layer(output, contrast=dual is not None, negate_weights=negated)
        if dual is not None:
            if has_double_precision(initial):
                initial = initial.double()
            scores = output.detach().to(initial.dtype)  # a user's dual need not know of strengths
            initial = dual.signed(scores, initial) if strength == 1 else dual.signed(scores, initial, strength)
        return Seed(output, initial, output_layer)

    def print_rules(self) -> None:
        """The rule of every operation: Captum's meaning of verbose."""
        for operation, module, rule, reason in (node.record for node in self.propagation.trace.nodes):
            print(f"{module}: {operation} -> {rule}, {reason}")  # noqa: T201

    def relevance(self, seeds: Sequence[Seed]) -> Iterator[Relevance]:
        """Relevance for one seed after the other; memory is freed on the way of the last.

        Args:
            seeds: Seeds of this pass. It can be used once.
        """
        for position, seed in enumerate(seeds):
            yield self.propagation.relevance(seed.output, seed.sent, seed.output_layer, last=position == len(seeds) - 1)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What is explained, and how.

    Attributes:
        model: The model.
        domain: The domain of its inputs.
        settings: Settings of the propagation.
        dual: The dual concept of a contrast; ``None`` for plain relevance.
        strength: How much of the dual's relevance is subtracted, from 0 to 1.
        place: Where relevance is read or starts, if it is not the input.
    """

    model: nn.Module
    domain: InputDomain = dataclasses.field(default_factory=InputDomain)
    settings: Settings = dataclasses.field(default_factory=Settings)
    dual: DualConcept | None = None
    strength: float = 1.0
    place: Place | None = None

    def at(self, place: Place) -> Explanation:
        """The same at another place."""
        return dataclasses.replace(self, place=place)

    @contextlib.contextmanager
    def run(self, inputs: Any, additional_forward_args: object | None = None) -> Iterator[Pass]:
        """Run the model once; relevance can be sent down within the ``with``.

        Args:
            inputs: A tensor of shape ``(N, ...)`` or a tuple of such tensors.
            additional_forward_args: Further arguments of the model.
        """
        propagation = run_model(
            self.model,
            tuple_of_inputs(inputs),
            format_additional_forward_args(additional_forward_args) or (),
            domain=self.domain,
            settings=self.settings,
            place=self.place,
        )
        try:
            yield Pass(propagation)
        finally:
            propagation.close()

    def of_target(
        self,
        inputs: Any,
        target: Any,
        additional_forward_args: object | None,
        *,
        initial_relevance: InitialRelevance = None,
        with_delta: bool = False,
        verbose: bool = False,
        positive_part: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Relevance for one target, or for initial relevance that is given; with the delta if it is asked for."""

        def explain(inputs: Any, target: Any, additional: Any, initial: Any, bounds: Any) -> tuple[Relevance, Any]:
            with self._within(bounds).run(inputs, additional) as passed:
                if verbose:
                    passed.print_rules()
                start = OfTarget(target) if initial is None else Given(initial)
                seed = passed.seed(start, self.dual, self.strength)
                (relevance,) = passed.relevance([seed])
            return relevance, tuple(_delta(seed, r) for r in relevance) if with_delta else ()

        relevance, deltas = in_batches(
            explain,
            inputs,
            internal_batch_size,
            plain_target(target),
            additional_forward_args,
            initial_relevance,
            self.domain.by_example(inputs),
        )
        attributions = self._formatted(inputs, _positive_part(relevance, 1) if positive_part else relevance)
        if not with_delta:
            return attributions
        return attributions, list(deltas) if self._reads_list else deltas[0]

    def of_targets(
        self,
        inputs: Any,
        classes: Any,
        additional_forward_args: object | None,
        *,
        positive_part: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Relevance for each of several targets, stacked in dimension 1."""
        targets = targets_of(classes)
        return self._of_several(inputs, targets, OfTarget, additional_forward_args, positive_part, internal_batch_size)

    def of_neurons(
        self,
        inputs: Any,
        selectors: Sequence[NeuronSelector],
        additional_forward_args: object | None,
        *,
        positive_part: bool = False,
    ) -> Any:
        """Relevance for each of several neurons of the layer at :attr:`place`, stacked in dimension 1."""
        return self._of_several(
            inputs, [OfNeurons(s) for s in selectors], lambda s: s, additional_forward_args, positive_part, None
        )

    def of_neuron(
        self,
        inputs: Any,
        selector: NeuronSelector,
        additional_forward_args: object | None,
        *,
        positive_part: bool = False,
    ) -> Any:
        """Relevance for one neuron of the layer at :attr:`place`."""
        relevance = self.of_neurons(inputs, [selector], additional_forward_args, positive_part=positive_part)
        return tuple(r[:, 0] for r in relevance) if isinstance(relevance, tuple) else relevance[:, 0]

    def _of_several(
        self,
        inputs: Any,
        named: Sequence[Any],
        start_at: Callable[[Any], Start],
        additional_forward_args: object | None,
        positive_part: bool,
        internal_batch_size: int | None,
    ) -> Any:
        def explain(inputs: Any, additional: Any, bounds: Any, *named: Any) -> Relevance:
            with self._within(bounds).run(inputs, additional) as passed:
                maps = list(passed.relevance([passed.seed(start_at(one), self.dual, self.strength) for one in named]))
            return tuple(
                tuple(torch.stack(of_tensor, dim=1) for of_tensor in zip(*of_place, strict=True))
                for of_place in zip(*maps, strict=True)
            )

        relevance = in_batches(
            explain, inputs, internal_batch_size, additional_forward_args, self.domain.by_example(inputs), *named
        )
        return self._formatted(inputs, _positive_part(relevance, 2) if positive_part else relevance)

    def _within(self, bounds: tuple[Any, Any]) -> Explanation:
        return dataclasses.replace(self, domain=dataclasses.replace(self.domain, low=bounds[0], high=bounds[1]))

    @property
    def _reads_list(self) -> bool:
        return self.place is not None and isinstance(self.place.layer, list)

    def _formatted(self, inputs: Any, relevance: Relevance) -> Any:
        """A tuple as the inputs, or as what a layer returns; a list for a list of layers."""
        if self.place is None or self.place.stop:
            return format_output(is_tuple(inputs), relevance[0])
        formatted = [format_output(len(of_place) > 1, of_place) for of_place in relevance]
        return formatted if self._reads_list else formatted[0]


class Explainer(GradientAttribution):
    """What every public class holds: a model, and how it is explained; see :class:`Explanation`."""

    model: nn.Module
    domain: InputDomain
    settings: Settings
    dual: DualConcept | None = None
    strength: float = 1.0

    def __init__(
        self,
        model: nn.Module,
        domain: InputDomain,
        settings: Settings,
        layer: Any = None,
        dual: DualConcept | None = None,
        strength: float = 1.0,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a {type(model).__name__}; pass the nn.Module whose decision is to be explained")
        if isinstance(self, NeuronAttribution) and isinstance(layer, list):
            raise InvalidInputError("layer is a list; neurons are of one layer: pass a module of the model")
        at_layer = isinstance(self, InternalAttribution)
        for one in layer if isinstance(layer, list) and layer else [layer]:
            if at_layer and not isinstance(one, nn.Module):
                given = f"{one!r}" if isinstance(one, str) else f"a {type(one).__name__}"
                raise InvalidInputError(
                    f"layer is {given}, which is no module; pass a module of the model, e.g. "
                    "model.get_submodule('features.28')"
                )
        self.model, self.domain, self.settings, self.strength = model, domain, settings, checked_strength(strength)
        if dual is not None:
            self.dual = dual
        super().__init__(model)
        if at_layer:
            InternalAttribution.__init__(self, model, layer)

    def __repr__(self) -> str:
        shown: dict[str, Any] = {} if self.dual is None else {"dual": self.dual, "strength": self.strength}
        shown |= {field.name: getattr(self.settings, field.name) for field in dataclasses.fields(self.settings)}
        return (
            f"{type(self).__name__}({type(self.model).__name__}, {', '.join(f'{k}={v!r}' for k, v in shown.items())})"
        )

    @property
    def explanation(self) -> Explanation:
        """The explanation that this object hands its calls to."""
        return Explanation(self.model, self.domain, self.settings, self.dual, self.strength)


def _delta(seed: Seed, relevance: Iterable[Tensor]) -> Tensor:
    """What was absorbed of each example: what was sent minus what arrived, ``(N,)``."""
    relevance = tuple(relevance)
    arrived: Any = sum(_sum_examples(r) for r in relevance)
    return seed.total.to(at_least_single(relevance[0])).flatten() - arrived.flatten()


def _sum_examples(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1).sum(1)


def _positive_part(relevance: Relevance, leading: int) -> Relevance:
    """``max(0, R - R_dual)``, with a warning where nothing is left of an example.

    Args:
        relevance: The signed contrast.
        leading: How many dimensions count maps: examples, and classes.
    """
    positive = tuple(tuple(r.clamp(min=0) for r in of_place) for of_place in relevance)
    for of_place in positive:
        left: Any = sum(r.flatten(leading).sum(leading) if r.dim() > leading else r for r in of_place)
        nothing = left == 0
        if bool(nothing.any()):
            examples = nothing.flatten(1).any(1) if leading > 1 else nothing
            warn(
                f"the contrast of example(s) {examples.nonzero().flatten().tolist()} is zero everywhere: no value has more "
                "relevance for the target than for its dual concept. If relevance is absorbed on the way (see "
                "check_conservation), conserve=True compares equal totals; relu_attributions=False shows the signed "
                "difference"
            )
    return positive
