"""Relevance at hidden layers: the layer variants, after Captum's ``LayerLRP``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from torch import Tensor, nn

from captum_clrp.bounds import BoundType, InputDomain, Outside
from captum_clrp.composites import RulesType, composite_of
from captum_clrp.contrast import DualConcept, NegatedWeights, OtherClasses
from captum_clrp.engine._captum import LRP, LayerAttribution, TargetType, TensorOrTupleOfTensorsGeneric, log_usage
from captum_clrp.engine.places import Place
from captum_clrp.engine.settings import AveragePooling, Precision, Settings
from captum_clrp.explanation import Explainer, Explanation
from captum_clrp.targets import InitialRelevance

__all__ = ["LayerContrastiveLRP", "LayerContrastiveLRP1", "LayerContrastiveLRP2", "LayerLRPZBeta"]

LayerRelevance = Tensor | tuple[Tensor, ...] | list[Tensor | tuple[Tensor, ...]]
"""A tensor; a tuple where a layer returns (or takes) several; a list of these for a list of layers."""


class LayerLRPZBeta(Explainer, LRP, LayerAttribution):
    """Relevance of a layer's output or input for the score of a target (see :class:`captum_clrp.LRPZBeta`).

    Args:
        model: The model in evaluation mode.
        layer: A module of ``model`` that runs exactly once in its forward pass, or a list of such modules, which share
            the pass.
        low, high, outside, avg_pool, conserve, rules, precision: As for :class:`captum_clrp.LRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.LRPZBeta`, and for a layer that is no module.

    Example::

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> model, images = resnet18().eval(), torch.rand(2, 3, 64, 64)
        >>> LayerLRPZBeta(model, model.layer3).attribute(images, target=340).shape
        torch.Size([2, 256, 4, 4])
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | list[nn.Module],
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
        super().__init__(model, InputDomain(low, high, outside), settings, layer)

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        internal_batch_size: int | None = None,
    ) -> LayerRelevance: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        return_convergence_delta: Literal[True],
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        initial_relevance: InitialRelevance = None,
        internal_batch_size: int | None = None,
    ) -> tuple[LayerRelevance, Tensor | list[Tensor]]: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        internal_batch_size: int | None = None,
    ) -> LayerRelevance | tuple[LayerRelevance, Tensor | list[Tensor]]:
        """Relevance of each value of the layer.

        It is what passes through the layer; what goes around it, by a skip connection, is not among it.

        Args:
            inputs, target, additional_forward_args: As for :meth:`captum_clrp.LRPZBeta.attribute`.
            return_convergence_delta, verbose, initial_relevance, internal_batch_size: As for :meth:`captum_clrp.LRPZBeta.attribute`.
            attribute_to_layer_input: Whether to read the layer's input instead of its output.

        Returns:
            Relevance shaped as the layer's output (or input), and the delta if asked for. A tuple where the layer
            returns (or takes) several tensors; for a list of layers a list with an entry for each, of deltas as well.

        Raises:
            ModelStateError: if the layer does not run, or runs several times; otherwise as
                :meth:`captum_clrp.LRPZBeta.attribute`.
        """
        return self._at(attribute_to_layer_input).of_target(
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
        attribute_to_layer_input: bool = False,
        *,
        internal_batch_size: int | None = None,
    ) -> LayerRelevance:
        """Relevance of each value of the layer for each of K classes, from one forward pass.

        Args:
            inputs, classes, additional_forward_args: As for :meth:`captum_clrp.LRPZBeta.attribute_classes`.
            attribute_to_layer_input, internal_batch_size: As for :meth:`attribute`.

        Returns:
            As :meth:`attribute`, each tensor of shape ``(N, K, *layer_shape)``.

        Raises:
            InvalidTargetError: if there is no class or one does not fit the output; otherwise as :meth:`attribute`.
        """
        return self._at(attribute_to_layer_input).of_targets(
            inputs, classes, additional_forward_args, internal_batch_size=internal_batch_size
        )

    def _at(self, at_input: bool) -> Explanation:
        return self.explanation.at(Place(self.layer, at_input))


class LayerContrastiveLRP(LayerLRPZBeta):
    """Relevance of a layer's values by which a class exceeds a dual concept (see :class:`captum_clrp.ContrastiveLRP`).

    Args:
        model, layer, low, high, outside, avg_pool, conserve, rules, precision: As for :class:`LayerLRPZBeta`.
        dual, strength: As for :class:`captum_clrp.ContrastiveLRP`.

    Raises:
        InvalidInputError, TypeError: as for :class:`LayerLRPZBeta` and :class:`captum_clrp.ContrastiveLRP`.

    Example::

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> model, images = resnet18().eval(), torch.rand(2, 3, 64, 64)
        >>> from captum_clrp.contrast import TheseClasses
        >>> rather_than = LayerContrastiveLRP(model, model.layer3, dual=TheseClasses([386]))
        >>> rather_than.attribute(images, target=340).shape  # why zebra rather than elephant
        torch.Size([2, 256, 4, 4])
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | list[nn.Module],
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
        Explainer.__init__(self, model, InputDomain(low, high, outside), settings, layer, dual=dual, strength=strength)

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> LayerRelevance: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        return_convergence_delta: Literal[True],
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        initial_relevance: InitialRelevance = None,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> tuple[LayerRelevance, Tensor | list[Tensor]]: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
        *,
        initial_relevance: InitialRelevance = None,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> LayerRelevance | tuple[LayerRelevance, Tensor | list[Tensor]]:
        """Relevance of each value of the layer by which the target exceeds its dual concept.

        Args:
            inputs, target, additional_forward_args: As for :meth:`captum_clrp.ContrastiveLRP.attribute`.
            return_convergence_delta, verbose, initial_relevance: As for :meth:`captum_clrp.ContrastiveLRP.attribute`.
            relu_attributions, internal_batch_size: As for :meth:`captum_clrp.ContrastiveLRP.attribute`.
            attribute_to_layer_input: Whether to read the layer's input instead of its output.

        Returns:
            Relevance shaped as the layer's output (or input), as :meth:`LayerLRPZBeta.attribute`.

        Raises:
            ContrastiveLRPError: as for :meth:`LayerLRPZBeta.attribute` and :meth:`captum_clrp.ContrastiveLRP.attribute`.
        """
        return self._at(attribute_to_layer_input).of_target(
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
        attribute_to_layer_input: bool = False,
        *,
        relu_attributions: bool = True,
        internal_batch_size: int | None = None,
    ) -> LayerRelevance:
        """Relevance of each value of the layer by which each of K classes exceeds its dual concept.

        Args:
            inputs, classes, additional_forward_args: As for :meth:`captum_clrp.LRPZBeta.attribute_classes`.
            attribute_to_layer_input, relu_attributions, internal_batch_size: As for :meth:`attribute`.

        Returns:
            As :meth:`attribute`, each tensor of shape ``(N, K, *layer_shape)``.

        Raises:
            ContrastiveLRPError: as for :meth:`attribute` and :meth:`LayerLRPZBeta.attribute_classes`.
        """
        return self._at(attribute_to_layer_input).of_targets(
            inputs,
            classes,
            additional_forward_args,
            positive_part=relu_attributions,
            internal_batch_size=internal_batch_size,
        )


class LayerContrastiveLRP1(LayerContrastiveLRP):
    """CLRP1 at a hidden layer (see :class:`captum_clrp.ContrastiveLRP1`).

    Args:
        model, layer, low, high, outside, avg_pool, conserve, rules, precision: As for :class:`LayerLRPZBeta`.
        strength: As for :class:`captum_clrp.ContrastiveLRP`.

    Raises:
        InvalidInputError, TypeError: as for :class:`LayerContrastiveLRP`.
    """

    dual = OtherClasses()

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | list[nn.Module],
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
        Explainer.__init__(self, model, InputDomain(low, high, outside), settings, layer, strength=strength)


class LayerContrastiveLRP2(LayerContrastiveLRP):
    """CLRP2 at a hidden layer (see :class:`captum_clrp.ContrastiveLRP2`).

    Of what the output layer returns, and of all that follows it, the target and its dual concept have the same relevance:
    ``1 - strength`` of it is left there. Read the output layer's input instead.

    Args:
        model, layer, low, high, outside, avg_pool, conserve, rules, precision: As for :class:`LayerLRPZBeta`.
        strength: As for :class:`captum_clrp.ContrastiveLRP`.

    Raises:
        InvalidInputError, TypeError: as for :class:`LayerContrastiveLRP`.
    """

    dual = NegatedWeights()
    __init__ = LayerContrastiveLRP1.__init__
