"""LRP with z^beta and z+, and the contrastive variants, as Captum attributions.

The classes hold what a user sees: signatures and what they mean. The steps of the method are those of
:class:`captum_clrp.explanation.Explanation`. The contrastive classes differ from :class:`LRPZBeta` only in the dual concept
that they name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from torch import Tensor, nn

from captum_clrp.bounds import BoundType, InputDomain, Outside
from captum_clrp.composites import RulesType, composite_of
from captum_clrp.contrast import DualConcept, NegatedWeights, OtherClasses
from captum_clrp.engine._captum import LRP, TargetType, TensorOrTupleOfTensorsGeneric, log_usage
from captum_clrp.engine.settings import AveragePooling, Precision, Settings
from captum_clrp.explanation import Explainer
from captum_clrp.targets import InitialRelevance

__all__ = ["ContrastiveLRP", "ContrastiveLRP1", "ContrastiveLRP2", "LRPZBeta"]


class LRPZBeta(Explainer, LRP):
    r"""Layer-wise relevance propagation with the z^beta rule in the first layer and z+ in the others.

    The setting of Gu, Yang and Tresp (ACCV 2018), section 3.1, on any convolutional network as it comes: maximum pooling
    hands relevance to the winner, biases, normalisation and activations are bypassed. The model runs once, unmodified.

    A rule set as ``module.rule`` wins for the weighted operations of that module (Captum's convention); see
    :mod:`captum_clrp.rules`.

    Args:
        model: The model in evaluation mode. Compiled and data-parallel wrappers are unwrapped.
        low: Lowest value of the input domain, in the units of the input: for photographs *normalised* pixels. A number,
            a tensor that broadcasts to the input, a tuple of these for several inputs, or ``None`` for each example's
            own minimum per channel. Default: ``None``.
        high: Highest value, likewise.
        outside: What happens to inputs outside their bounds, such as noisy copies: ``"error"`` (default) refuses them,
            ``"clip"`` explains the input clipped to its bounds, ``"widen"`` moves the bounds of an example as far per
            channel as its values need.
        avg_pool: How average pooling shares relevance: ``"proportional"`` to positive activations, or ``"even"``, the
            paper's rule, which forgets where the evidence was under a global average pool. Both agree where pooling is
            the identity, as in AlexNet and VGG16 at 224x224. Default: ``"proportional"``.
        conserve: What happens to relevance at outputs without positive contributions: absorbed and accounted for
            (``False``, default), or spread by the size of all contributions, else evenly over the receptive field
            (``True``), so that relevance at the input sums to the score on any network.
        rules: Which rule goes where: a :class:`captum_clrp.composites.Composite` or the name of one: ``"auto"``
            (default), ``"paper"``, ``"gamma"``, ``"epsilon-plus"``, ``"epsilon-plus-flat"``, ``"epsilon-gamma-box"``,
            ``"cp-lrp"`` or ``"attnlrp"``. ``"auto"`` takes the paper's rules, and ``"gamma"`` where features have both
            signs: with attention, a normalisation over channels, or a mean of features that no activation rectified.
        precision: Arithmetic of relevance: ``"float32"`` (default), ``"bfloat16"`` or ``"auto"``, which takes bfloat16
            where the device computes fast in it. In bfloat16 sums of contributions of one sign (z+, z^beta, the sizes in
            gamma) are formed; nothing cancels in them, and maps differ by less than 1 % (relative L2) on the networks that
            were tried. The model's own pass, signed sums, grouped convolutions and the contrast at the output layer stay
            as they are.

    Raises:
        InvalidInputError: for an unknown ``outside``, ``avg_pool``, ``rules`` or ``precision``.
        TypeError: if some ``module.rule`` is not a ``PropagationRule``, or ``model`` is no ``nn.Module``.

    Example::

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> model, images = resnet18().eval(), torch.rand(2, 3, 64, 64)
        >>> lrp = LRPZBeta(model, low=0.0, high=1.0, conserve=True)
        >>> relevance = lrp.attribute(images, target=340)
        >>> relevance.shape
        torch.Size([2, 3, 64, 64])
        >>> torch.allclose(relevance.sum((1, 2, 3)), model(images)[:, 340], rtol=1e-3)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        outside: Outside = "error",
        avg_pool: AveragePooling = "proportional",
        conserve: bool = False,
        rules: RulesType = "auto",
        precision: Precision = "float32",
    ) -> None:
        settings = Settings(avg_pool, conserve, composite_of(rules), precision)
        super().__init__(model, InputDomain(low, high, outside), settings)

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: Literal[False] = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        internal_batch_size: int | None = None,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        return_convergence_delta: Literal[True],
        verbose: bool = False,
        initial_relevance: InitialRelevance = None,
        internal_batch_size: int | None = None,
    ) -> tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

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
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
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
            Relevance of the same shape, type and device as ``inputs``, as plain tensors without a graph (also for
            subclasses of tensors). With ``return_convergence_delta`` also a tensor of shape ``(N,)``, the initial relevance
            minus the sum of relevance, which is what was absorbed on the way.

        Raises:
            InvalidInputError: for inputs or bounds that cannot be used.
            InvalidTargetError: for a target or initial relevance that does not fit the output.
            ModelStateError: for a model in training mode, scripted, or without a path from input to output.
            UnsupportedOperationError: naming each operation for which no rule is known.
        """
        return self.explanation.of_target(
            inputs,
            target,
            additional_forward_args,
            initial_relevance=initial_relevance,
            with_delta=return_convergence_delta,
            verbose=verbose,
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
    ) -> TensorOrTupleOfTensorsGeneric:
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
        return self.explanation.of_targets(
            inputs, classes, additional_forward_args, internal_batch_size=internal_batch_size
        )


class ContrastiveLRP(LRPZBeta):
    r"""Relevance of a class minus that of a dual concept with the same score (CLRP; paper, section 4, eq. 2).

    One pass: relevance is linear, so the difference is formed at the output. The contrast compares amounts of evidence,
    hence the *magnitude* of the score is propagated, also where the logit is negative.

    Args:
        model, low, high, outside: As for :class:`LRPZBeta`.
        dual: The dual concept; see :mod:`captum_clrp.contrast`.
        strength: How much of the dual's relevance is subtracted: :math:`\max(0, R - s R_{dual})` with ``s`` from 0 to 1, in
            the same single pass. 1 is the paper's contrast; 0 leaves LRP of the score's magnitude with z+ at the output
            layer. A little less than 1 keeps an order where the contrast is silent. Default: ``1.0``.
        avg_pool, rules, precision: As for :class:`LRPZBeta`.
        conserve: As for :class:`LRPZBeta`. If set, the signed contrast sums to ``1 - s`` of the score, by default to 0.

    Raises:
        InvalidInputError: also for a ``strength`` that is no number from 0 to 1.
        InvalidInputError, TypeError: as for :class:`LRPZBeta`.

    Example::

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> model, images = resnet18().eval(), torch.rand(2, 3, 64, 64)
        >>> from captum_clrp.contrast import TheseClasses
        >>> rather_than = ContrastiveLRP(model, dual=TheseClasses([386]))
        >>> rather_than.attribute(images, target=340).shape  # why zebra rather than elephant
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        dual: DualConcept,
        strength: float = 1.0,
        outside: Outside = "error",
        avg_pool: AveragePooling = "proportional",
        conserve: bool = False,
        rules: RulesType = "auto",
        precision: Precision = "float32",
    ) -> None:
        settings = Settings(avg_pool, conserve, composite_of(rules), precision)
        Explainer.__init__(self, model, InputDomain(low, high, outside), settings, dual=dual, strength=strength)

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: Literal[False] = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        return_convergence_delta: Literal[True],
        verbose: bool = False,
        initial_relevance: InitialRelevance = None,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

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
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
        r"""Relevance by which the target exceeds its dual concept.

        Args:
            inputs, target, additional_forward_args, return_convergence_delta: As for :meth:`LRPZBeta.attribute`.
            verbose, initial_relevance, internal_batch_size: As for :meth:`LRPZBeta.attribute`.
            relu_attributions: Whether to return :math:`\max(0, R - R_{dual})` as the paper (default), or the signed
                difference.

        Returns:
            As :meth:`LRPZBeta.attribute`; the delta is that of the signed difference.

        Raises:
            InvalidTargetError: also if the output has no other class to contrast with.
            UnsupportedOperationError: also if CLRP2 finds no output layer that it could negate.
            ContrastiveLRPError: otherwise as for :meth:`LRPZBeta.attribute`.
        """
        return self.explanation.of_target(
            inputs,
            target,
            additional_forward_args,
            initial_relevance=initial_relevance,
            with_delta=return_convergence_delta,
            verbose=verbose,
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
    ) -> TensorOrTupleOfTensorsGeneric:
        """Relevance by which each of K classes exceeds its dual concept, from one forward pass.

        Args:
            inputs, classes, additional_forward_args: As for :meth:`LRPZBeta.attribute_classes`.
            relu_attributions, internal_batch_size: As for :meth:`attribute`.

        Returns:
            Tensor of shape ``(N, K, *input_shape)`` (a tuple of these for a tuple of inputs).

        Raises:
            ContrastiveLRPError: as for :meth:`attribute` and :meth:`LRPZBeta.attribute_classes`.
        """
        return self.explanation.of_targets(
            inputs,
            classes,
            additional_forward_args,
            positive_part=relu_attributions,
            internal_batch_size=internal_batch_size,
        )


class ContrastiveLRP1(ContrastiveLRP):
    """CLRP1: the dual concept is all other classes, which share the target's score uniformly (paper, section 4).

    Args:
        model, low, high, outside, avg_pool, conserve, rules, precision: As for :class:`LRPZBeta`.
        strength: As for :class:`ContrastiveLRP`.

    Raises:
        InvalidInputError, TypeError: as for :class:`ContrastiveLRP`. A model with one output has no other class: ``attribute`` says so.

    Example::

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> model, images = resnet18().eval(), torch.rand(2, 3, 64, 64)
        >>> zebra_only = ContrastiveLRP1(model).attribute(images, target=340)
        >>> zebra_only.shape, bool((zebra_only >= 0).all())
        (torch.Size([2, 3, 64, 64]), True)
    """

    dual = OtherClasses()

    def __init__(
        self,
        model: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        strength: float = 1.0,
        outside: Outside = "error",
        avg_pool: AveragePooling = "proportional",
        conserve: bool = False,
        rules: RulesType = "auto",
        precision: Precision = "float32",
    ) -> None:
        settings = Settings(avg_pool, conserve, composite_of(rules), precision)
        Explainer.__init__(self, model, InputDomain(low, high, outside), settings, strength=strength)


class ContrastiveLRP2(ContrastiveLRP):
    """CLRP2: the dual concept is the target with negated weights of the output layer (paper, section 4).

    Args:
        model, low, high, outside, avg_pool, conserve, rules, precision: As for :class:`LRPZBeta`.
        strength: As for :class:`ContrastiveLRP`.

    Raises:
        InvalidInputError, TypeError: as for :class:`ContrastiveLRP`.

    Example::

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> model, images = resnet18().eval(), torch.rand(2, 3, 64, 64)
        >>> zebra_only = ContrastiveLRP2(model).attribute(images, target=340)
        >>> zebra_only.shape, bool((zebra_only >= 0).all())
        (torch.Size([2, 3, 64, 64]), True)
    """

    dual = NegatedWeights()
    __init__ = ContrastiveLRP1.__init__
