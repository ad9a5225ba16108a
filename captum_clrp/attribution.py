"""LRP with z^beta and z+, and the contrastive variants, as Captum attributions.

``attribute`` reads as the steps of the method and holds no mathematics: run the model once under a trace, form the
initial relevance, send it back, read it at the inputs. The contrastive classes differ from :class:`LRPZBeta` only in
the dual concept that they name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.bounds import BoundType, by_example
from captum_clrp.contrast import DualConcept, NegatedWeights, OtherClasses, plain_target, target_scores
from captum_clrp.engine._captum import (
    LRP,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_clrp.engine.batching import in_batches
from captum_clrp.engine.numerics import all_finite, has_double_precision
from captum_clrp.engine.propagation import Place, Propagation, run_model
from captum_clrp.engine.trace import Settings
from captum_clrp.errors import InvalidInputError, InvalidTargetError, ModelStateError

__all__ = ["ContrastiveLRP", "ContrastiveLRP1", "ContrastiveLRP2", "InitialRelevance", "LRPZBeta"]

InitialRelevance = Tensor | Callable[[Any], Any] | None
"""A tensor shaped as the model's output, or a function from the output to such a tensor."""


class LRPZBeta(LRP):
    r"""Layer-wise relevance propagation with the z^beta rule in the first layer and z+ in the others.

    The setting of Gu, Yang and Tresp (ACCV 2018), section 3.1, on any convolutional network as it comes: maximum pooling
    hands relevance to the winner, biases, normalisation and activations are bypassed. The model runs once, unmodified.

    A rule set as ``module.rule`` wins for the weighted operations of that module (Captum's convention); see
    :mod:`captum_clrp.rules`.

    Args:
        model: The model in evaluation mode. Compiled and data-parallel wrappers are looked through.
        low: Lowest value of the input domain, in the units of the input: for photographs *normalised* pixels. A number,
            a tensor that broadcasts to the input, a tuple of these for several inputs, or ``None`` for each example's
            own minimum per channel. Default: ``None``.
        high: Highest value, likewise.
        avg_pool: How average pooling shares relevance: ``"proportional"`` to positive activations, or ``"even"``, the
            paper's rule, which forgets where the evidence was under a global average pool. Both agree where pooling is
            the identity, as in AlexNet and VGG16 at 224x224. Default: ``"proportional"``.
        conserve: What happens to relevance at outputs without positive contributions: absorbed and accounted for
            (``False``, default), or spread by the size of all contributions, else evenly over the receptive field
            (``True``), so that relevance at the input sums to the score on any network.

    Raises:
        InvalidInputError: for an unknown ``avg_pool``.
        TypeError: if some ``module.rule`` is not a ``PropagationRule``, or ``model`` is no ``nn.Module``.

    Example::

        >>> lrp = LRPZBeta(model.eval(), *normalized_bounds(mean, std))
        >>> relevance = lrp.attribute(images, target=340)      # (N, 3, H, W), sums to the logit
    """

    def __init__(
        self,
        model: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        avg_pool: str = "proportional",
        conserve: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a {type(model).__name__}; pass the nn.Module whose decision is to be explained")
        if avg_pool not in ("proportional", "even"):
            raise InvalidInputError(f"avg_pool={avg_pool!r} is not known; choose 'proportional' or 'even'")
        super().__init__(model)
        self.low = low
        self.high = high
        self.avg_pool = avg_pool
        self.conserve = conserve

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        internal_batch_size: int | None = None,
    ) -> Any:
        r"""Relevance of each input value for the score of the target.

        Args:
            inputs: Tensor of shape ``(N, ...)`` or a tuple of such tensors, floating point.
            target: Which output is explained, in any of Captum's forms: an int, a list or tensor of N ints, for outputs
                of more than two dimensions a tuple of indices or a list of N such tuples; ``None`` for one output. If
                the model returns several tensors, a tuple whose first element names one of them (its key or position).
            additional_forward_args: Further arguments of the model, which get no relevance.
            return_convergence_delta: Whether to return the delta as well.
            verbose: Whether to print the rule of every operation.
            initial_relevance: Instead of the target's score: a tensor shaped as the output, or a function from the
                output to it, e.g. ``class_scores([340, 386])`` or a region of a segmentation.
            internal_batch_size: Explain at most so many examples at a time, to bound memory. Default: all at once.

        Returns:
            Relevance, shaped, typed and placed as ``inputs``, without a graph; with ``return_convergence_delta`` also a
            tensor of shape ``(N,)``: initial relevance minus the sum of relevance, i.e. what was absorbed on the way.

        Raises:
            InvalidInputError: for inputs or bounds that cannot be used.
            InvalidTargetError: for a target or initial relevance that does not fit the output.
            ModelStateError: for a model in training mode, scripted, or without a path from input to output.
            UnsupportedOperationError: naming each operation for which no rule is known.
        """
        return self._explain(
            inputs,
            target,
            additional_forward_args,
            return_convergence_delta,
            verbose,
            initial_relevance,
            internal_batch_size=internal_batch_size,
        )

    @log_usage()
    def attribute_classes(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        classes: Sequence[Any] | Tensor,
        additional_forward_args: object | None = None,
        *,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Relevance for each of K classes of the same inputs, from one forward pass and one set of denominators.

        Args:
            inputs: As for :meth:`attribute`.
            classes: K classes (ints, or tuples for outputs of more than two dimensions) for all examples, or K classes
                for each example as a tensor of shape ``(N, K)`` or a list of N lists.
            additional_forward_args, internal_batch_size: As for :meth:`attribute`.

        Returns:
            Tensor of shape ``(N, K, *input_shape)`` (a tuple of these for a tuple of inputs).

        Raises:
            InvalidTargetError: if there is no class or one does not fit the output; otherwise as :meth:`attribute`.
        """
        return self._explain_classes(
            inputs, _targets_of(classes), additional_forward_args, internal_batch_size=internal_batch_size
        )

    # -- the steps -------------------------------------------------------------------------------------------------

    def _explain(
        self,
        inputs: Any,
        target: TargetType,
        additional_forward_args: object | None,
        return_convergence_delta: bool,
        verbose: bool,
        initial_relevance: InitialRelevance,
        *,
        place: Place | None = None,
        positive_part: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Run once, form the initial relevance, send it back, read it."""

        def explain(inputs: Any, target: Any, additional: Any, initial: Any, bounds: Any) -> Any:
            propagation = self._run(inputs, additional, place, bounds)
            output, seed = self._seed(propagation, target, initial)
            if verbose:
                for node in propagation.trace.nodes:
                    print(  # noqa: T201 (Captum's meaning of verbose)
                        "{module}: {operation} -> {rule}, {reason}".format(**node.record._asdict())
                    )
            relevance = propagation.relevance(output, seed)
            delta = (
                self.compute_convergence_delta(relevance, self._total(seed).to(_at_least_single(relevance[0])))
                if return_convergence_delta
                else None
            )
            if positive_part:
                relevance = _positive_part(relevance)
            attributions = format_output(_is_tuple(inputs, relevance, place), relevance)
            return attributions if delta is None else (attributions, delta)

        return in_batches(
            explain,
            inputs,
            internal_batch_size,
            target,
            additional_forward_args,
            initial_relevance,
            self._bounds(inputs),
        )

    def _explain_classes(
        self,
        inputs: Any,
        targets: Sequence[Any],
        additional_forward_args: object | None,
        *,
        place: Place | None = None,
        positive_part: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """The same for several targets (or functions to initial relevance) of one pass, stacked in dimension 1."""

        def explain(inputs: Any, additional: Any, bounds: Any, *targets: Any) -> Any:
            propagation = self._run(inputs, additional, place, bounds)
            seeds = [
                self._seed(propagation, None, t) if callable(t) else self._seed(propagation, t, None) for t in targets
            ]
            maps = []
            for k, (output, seed) in enumerate(seeds):
                relevance = propagation.relevance(output, seed, last=k == len(seeds) - 1)
                maps.append(_positive_part(relevance) if positive_part else relevance)
            stacked = tuple(torch.stack(of_input, dim=1) for of_input in zip(*maps, strict=True))
            return format_output(_is_tuple(inputs, stacked, place), stacked)

        return in_batches(explain, inputs, internal_batch_size, additional_forward_args, self._bounds(inputs), *targets)

    def _bounds(self, inputs: Any) -> tuple[BoundType, BoundType]:
        return by_example(self.low, inputs), by_example(self.high, inputs)

    def _run(
        self,
        inputs: Any,
        additional_forward_args: object | None,
        place: Place | None,
        bounds: tuple[BoundType, BoundType],
    ) -> Propagation:
        additional = format_additional_forward_args(additional_forward_args)
        if inputs is None:
            raise InvalidInputError(
                "no input was given: inputs is None (NoneType); pass a tensor or a tuple of tensors"
            )
        return run_model(
            self.model,
            format_tensor_into_tuples(inputs),
            additional if additional is not None else (),
            low=bounds[0],
            high=bounds[1],
            settings=Settings(self.avg_pool, self.conserve),
            place=place,
        )

    def _seed(
        self, propagation: Propagation, target: TargetType, initial_relevance: InitialRelevance
    ) -> tuple[Tensor, Tensor]:
        """The output tensor that is explained, and the relevance it starts with."""
        output, target, initial_relevance = choose_output(propagation.output, target, initial_relevance)
        if not all_finite(output):
            raise ModelStateError(
                f"the model's output of shape {tuple(output.shape)} holds NaN or infinite values for finite inputs; "
                "check the weights, and the range of half-precision activations"
            )
        if initial_relevance is not None:
            seed = checked_initial_relevance(output, initial_relevance)
        else:
            seed = self._score(target_scores(output.detach().to(_at_least_single(output)), target))
        return output, self._start(propagation, output, seed)

    def _score(self, score: Tensor) -> Tensor:
        """The score as it is, so that relevance sums to the logit."""
        return score

    def _start(self, propagation: Propagation, output: Tensor, seed: Tensor) -> Tensor:
        """Prepare the output layer; what is sent down instead of ``seed``."""
        propagation.set_output_layer(output)
        return seed

    def _total(self, seed: Tensor) -> Tensor:
        """What relevance sums to, example by example, where nothing is absorbed."""
        return _sum_examples(seed)


class ContrastiveLRP(LRPZBeta):
    r"""Relevance of a class minus that of a dual concept with the same score (CLRP; paper, section 4, eq. 2).

    One pass: relevance is linear, so the difference is formed at the output. The contrast compares amounts of evidence,
    hence the *magnitude* of the score is propagated, also where the logit is negative.

    Args:
        model, low, high: As for :class:`LRPZBeta`.
        dual: The dual concept; see :mod:`captum_clrp.contrast`.
        avg_pool, conserve: As for :class:`LRPZBeta`. Under ``conserve=True`` the signed contrast sums to 0.

    Raises:
        InvalidInputError, TypeError: as for :class:`LRPZBeta`.

    Example::

        >>> rather_than = ContrastiveLRP(model, dual=TheseClasses([386]))
        >>> rather_than.attribute(images, target=340)          # why zebra rather than elephant
    """

    def __init__(
        self,
        model: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        dual: DualConcept,
        avg_pool: str = "proportional",
        conserve: bool = False,
    ) -> None:
        super().__init__(model, low, high, avg_pool=avg_pool, conserve=conserve)
        self.dual = dual

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> Any:
        r"""Relevance by which the target exceeds its dual concept.

        Args:
            inputs, target, additional_forward_args, return_convergence_delta: As for :meth:`LRPZBeta.attribute`.
            verbose, initial_relevance, internal_batch_size: As there.
            relu_attributions: Whether to return :math:`\max(0, R - R_{dual})` as the paper (default), or the signed
                difference.

        Returns:
            As :meth:`LRPZBeta.attribute`; the delta is that of the signed difference.

        Raises:
            InvalidTargetError: also if the output has no other class to contrast with.
            UnsupportedOperationError: also if CLRP2 finds no output layer that it could negate.
            ContrastiveLRPError: otherwise as for :meth:`LRPZBeta.attribute`.
        """
        return self._explain(
            inputs,
            target,
            additional_forward_args,
            return_convergence_delta,
            verbose,
            initial_relevance,
            positive_part=relu_attributions,
            internal_batch_size=internal_batch_size,
        )

    @log_usage()
    def attribute_classes(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        classes: Sequence[Any] | Tensor,
        additional_forward_args: object | None = None,
        *,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Relevance by which each of K classes exceeds its dual concept, from one forward pass.

        Args:
            inputs, classes, additional_forward_args: As for :meth:`LRPZBeta.attribute_classes`.
            relu_attributions, internal_batch_size: As for :meth:`attribute`.

        Returns:
            Tensor of shape ``(N, K, *input_shape)`` (a tuple of these for a tuple of inputs).

        Raises:
            ContrastiveLRPError: as for :meth:`attribute` and :meth:`LRPZBeta.attribute_classes`.
        """
        return self._explain_classes(
            inputs,
            _targets_of(classes),
            additional_forward_args,
            positive_part=relu_attributions,
            internal_batch_size=internal_batch_size,
        )

    def _score(self, score: Tensor) -> Tensor:
        return score.abs()

    def _start(self, propagation: Propagation, output: Tensor, seed: Tensor) -> Tensor:
        negates = self.dual.negates_output_layer
        propagation.set_output_layer(output, contrast=True, negate_weights=negates)
        if has_double_precision(seed):
            seed = seed.double()
        return self.dual.signed(output.detach().to(seed.dtype), seed)

    def _total(self, seed: Tensor) -> Tensor:
        total = super()._total(seed)
        return torch.zeros_like(total) if self.dual.negates_output_layer else total


class ContrastiveLRP1(ContrastiveLRP):
    """CLRP1: the dual concept is all other classes, which share the target's score uniformly (paper, section 4).

    Args:
        model, low, high, avg_pool, conserve: As for :class:`LRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`LRPZBeta`. A model with one output has no other class: ``attribute`` says so.

    Example::

        >>> zebra_only = ContrastiveLRP1(model).attribute(images, target=340)
    """

    def __init__(
        self,
        model: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        avg_pool: str = "proportional",
        conserve: bool = False,
    ) -> None:
        super().__init__(model, low, high, dual=OtherClasses(), avg_pool=avg_pool, conserve=conserve)


class ContrastiveLRP2(ContrastiveLRP):
    """CLRP2: the dual concept is the target with negated weights of the output layer (paper, section 4).

    Args:
        model, low, high, avg_pool, conserve: As for :class:`LRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`LRPZBeta`.

    Example::

        >>> zebra_only = ContrastiveLRP2(model).attribute(images, target=340)
    """

    def __init__(
        self,
        model: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        avg_pool: str = "proportional",
        conserve: bool = False,
    ) -> None:
        super().__init__(model, low, high, dual=NegatedWeights(), avg_pool=avg_pool, conserve=conserve)


# -- outputs, targets, initial relevance ------------------------------------------------------------------------


def choose_output(
    output: Any, target: TargetType, initial_relevance: InitialRelevance
) -> tuple[Tensor, TargetType, InitialRelevance]:
    """One tensor of what the model returned, with the target or initial relevance that goes with it.

    A dictionary, list or tuple with a single tensor needs no choice. Otherwise a tuple target names the tensor first
    (``("out", class, row, column)``, ``(0, class)``); an initial relevance chooses by holding ``None`` elsewhere.

    Raises:
        InvalidTargetError: if the choice is missing or ambiguous.
    """
    if isinstance(output, Tensor):
        return output, target, initial_relevance
    tensors = _named_tensors(output)
    if not tensors:
        raise InvalidTargetError(f"the model returned a {type(output).__name__} without floating-point tensors")
    if initial_relevance is not None:
        chosen = initial_relevance(output) if callable(initial_relevance) else initial_relevance
        if isinstance(chosen, Tensor) and len(tensors) == 1:
            return next(iter(tensors.values())), target, chosen
        given = {} if isinstance(chosen, Tensor) else _named_tensors(chosen)
        if len(given) == 1 and (key := next(iter(given))) in tensors:
            return tensors[key], target, given[key]
        raise InvalidTargetError(
            f"the model returned tensors {list(tensors)}; initial_relevance must hold relevance for exactly one of them "
            "(the same structure with None, or no entry, for the others)"
        )
    target = plain_target(target)
    named = isinstance(target, tuple) and bool(target) and target[0] in tensors
    if len(tensors) == 1 and not (named and isinstance(target[0], str)):
        return next(iter(tensors.values())), target, None
    if named:
        rest: Any = target[1:]
        return tensors[target[0]], rest[0] if len(rest) == 1 else (rest or None), None
    raise InvalidTargetError(
        f"the model returned tensors {list(tensors)} and target {target!r} does not say which one to explain; "
        f"give a tuple that starts with one of them, e.g. target=({next(iter(tensors))!r}, class)"
    )


def _named_tensors(output: Any) -> dict[Any, Tensor]:
    if isinstance(output, dict):
        pairs = list(output.items())
    elif isinstance(output, tuple | list):
        pairs = list(enumerate(output))
    elif hasattr(output, "__dict__"):
        pairs = list(vars(output).items())
    else:
        pairs = []
    return {key: value for key, value in pairs if isinstance(value, Tensor) and value.is_floating_point()}


def checked_initial_relevance(output: Tensor, initial_relevance: Tensor | Callable[[Any], Any]) -> Tensor:
    """Initial relevance as a tensor shaped as ``output``.

    Raises:
        InvalidTargetError: if it is no such tensor or holds NaN or infinite values.
    """
    plain = output.detach().to(_at_least_single(output))
    given = initial_relevance(plain) if callable(initial_relevance) else initial_relevance
    if not isinstance(given, Tensor) or given.shape != output.shape:
        what = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"type {type(given).__name__}"
        raise InvalidTargetError(
            f"initial_relevance of {what} does not fit the output of shape {tuple(output.shape)}; "
            "give a tensor of exactly that shape, or a function from the output to it"
        )
    if not all_finite(given):
        raise InvalidTargetError("initial_relevance holds NaN or infinite values; give finite ones")
    return given.detach().to(plain)


def _targets_of(classes: Sequence[Any] | Tensor) -> list[Any]:
    """The K targets of ``attribute_classes``, each for all examples."""
    if isinstance(classes, Tensor) and classes.dim() == 1:
        classes = classes.tolist()
    if not isinstance(classes, Tensor) and len(classes) and isinstance(classes[0], list):
        try:
            classes = torch.tensor(classes)
        except (TypeError, ValueError) as error:
            raise InvalidTargetError(f"classes={classes!r} must hold as many classes for each example") from error
    if isinstance(classes, Tensor):
        if classes.dim() != 2 or classes.numel() == 0:
            raise InvalidTargetError(
                f"classes of shape {tuple(classes.shape)} are not K classes for all examples nor (N, K) of them"
            )
        return list(classes.unbind(1))
    if not len(classes):
        raise InvalidTargetError("classes is empty; give at least one class")
    return list(classes)


def _at_least_single(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _sum_examples(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1).sum(1)


def _positive_part(relevance: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """``max(0, R - R_dual)``, with a warning where nothing is left of an example."""
    positive = tuple(r.clamp(min=0) for r in relevance)
    nothing_left = sum(_sum_examples(r) for r in positive) == 0
    if bool(nothing_left.any()):  # type: ignore[union-attr]
        examples = nothing_left.nonzero().flatten().tolist()  # type: ignore[union-attr]
        warnings.warn(
            f"the contrast of example(s) {examples} is zero everywhere: no value speaks more for the target than for its "
            "dual concept. If relevance is absorbed on the way (see check_conservation), conserve=True compares equal "
            "totals; relu_attributions=False shows the signed difference",
            stacklevel=7,  # past our own frames and Captum's log, to the caller of attribute
        )
    return positive


def _is_tuple(inputs: Any, relevance: tuple[Tensor, ...], place: Place | None) -> bool:
    """Whether a tuple is returned: as the inputs, or as what a layer returns."""
    return is_tuple(inputs) if place is None or place.stop else len(relevance) > 1
