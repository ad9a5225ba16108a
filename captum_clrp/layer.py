"""Relevance at a hidden layer: the layer variants, after Captum's ``LayerLRP``."""

from __future__ import annotations

from typing import Any

from torch import nn

from captum_clrp.attribution import ContrastiveLRP1, ContrastiveLRP2, InitialRelevance, LRPZBeta
from captum_clrp.bounds import BoundType
from captum_clrp.engine._captum import LayerAttribution, TargetType, TensorOrTupleOfTensorsGeneric, log_usage
from captum_clrp.engine.propagation import Place

__all__ = ["LayerContrastiveLRP1", "LayerContrastiveLRP2", "LayerLRPZBeta"]


class AtLayer(LRPZBeta):
    """Constructor of the layer and neuron variants.

    Args:
        model, low, high, avg_pool, conserve: As for :class:`captum_clrp.LRPZBeta`.
        layer: A module of ``model`` that runs exactly once in its forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        avg_pool: str = "proportional",
        conserve: bool = False,
    ) -> None:
        super().__init__(model, low, high, avg_pool=avg_pool, conserve=conserve)
        self.layer = layer


class LayerLRPZBeta(AtLayer, LayerAttribution):
    """Relevance of a layer's output or input for the score of a target (see :class:`captum_clrp.LRPZBeta`).

    Args:
        model: The model in evaluation mode.
        layer: A module of ``model`` that runs exactly once in its forward pass.
        low, high, avg_pool, conserve: As for :class:`captum_clrp.LRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.LRPZBeta`.

    Example::

        >>> LayerLRPZBeta(model, model.features[28]).attribute(images, target=340)     # (N, 512, 14, 14)
    """

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
    ) -> Any:
        """Relevance of each value of the layer.

        Args:
            inputs, target, additional_forward_args: As for :meth:`captum_clrp.LRPZBeta.attribute`.
            return_convergence_delta, verbose, initial_relevance: As there.
            attribute_to_layer_input: Whether to read the layer's input instead of its output.

        Returns:
            Relevance shaped as the layer's output (or input), and the delta if asked for. A tuple where the layer
            returns (or takes) several tensors.

        Raises:
            ModelStateError: if the layer does not run, or runs several times; otherwise as
                :meth:`captum_clrp.LRPZBeta.attribute`.
        """
        return self._explain(
            inputs,
            target,
            additional_forward_args,
            return_convergence_delta,
            verbose,
            initial_relevance,
            place=Place(self.layer, attribute_to_layer_input),
        )


class _LayerContrastive(AtLayer):
    """What the contrastive layer variants share."""

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
    ) -> Any:
        """Relevance of each value of the layer by which the target exceeds its dual concept.

        Args:
            inputs, target, additional_forward_args: As for :meth:`captum_clrp.ContrastiveLRP.attribute`.
            return_convergence_delta, verbose, initial_relevance, relu_attributions: As there.
            attribute_to_layer_input: Whether to read the layer's input instead of its output.

        Returns:
            Relevance shaped as the layer's output (or input), as :meth:`LayerLRPZBeta.attribute`.

        Raises:
            ContrastiveLRPError: as for :meth:`LayerLRPZBeta.attribute` and :meth:`captum_clrp.ContrastiveLRP.attribute`.
        """
        return self._explain(
            inputs,
            target,
            additional_forward_args,
            return_convergence_delta,
            verbose,
            initial_relevance,
            place=Place(self.layer, attribute_to_layer_input),
            positive_part=relu_attributions,
        )


class LayerContrastiveLRP1(_LayerContrastive, ContrastiveLRP1, LayerAttribution):
    """CLRP1 at a hidden layer (see :class:`captum_clrp.ContrastiveLRP1`).

    Args:
        model, layer, low, high, avg_pool, conserve: As for :class:`LayerLRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.LRPZBeta`.
    """


class LayerContrastiveLRP2(_LayerContrastive, ContrastiveLRP2, LayerAttribution):
    """CLRP2 at a hidden layer (see :class:`captum_clrp.ContrastiveLRP2`).

    Args:
        model, layer, low, high, avg_pool, conserve: As for :class:`LayerLRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.LRPZBeta`.
    """
