"""Relevance of the inputs for neurons of a hidden layer (paper, section 5.3), after Captum's neuron attributions.

The forward pass stops behind the layer. Of the duals only CLRP2 makes sense here: the layer's other neurons are not the
opposite of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from captum_clrp.bounds import BoundType, InputDomain, Outside
from captum_clrp.composites import RulesType, composite_of
from captum_clrp.contrast import NegatedWeights
from captum_clrp.engine._captum import NeuronAttribution, TensorOrTupleOfTensorsGeneric, log_usage
from captum_clrp.engine.places import Place
from captum_clrp.engine.settings import AveragePooling, Precision, Settings
from captum_clrp.explanation import Explainer, Explanation
from captum_clrp.targets import NeuronSelector

__all__ = ["NeuronContrastiveLRP2", "NeuronLRPZBeta"]


class NeuronLRPZBeta(Explainer, NeuronAttribution):
    """Relevance of the inputs for a neuron's activation (see :class:`captum_clrp.LRPZBeta`).

    Args:
        model: The model in evaluation mode.
        layer: A module of ``model``; the forward pass stops behind it.
        low, high, outside, avg_pool, conserve, rules, precision: As for :class:`captum_clrp.LRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.LRPZBeta`.

    Example::

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> model, images = resnet18().eval(), torch.rand(2, 3, 64, 64)
        >>> neuron = NeuronLRPZBeta(model, model.layer3)
        >>> neuron.attribute(images, neuron_selector=(17, 2, 2)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
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

    @property
    def multiplies_by_inputs(self) -> bool:
        return True

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        neuron_selector: NeuronSelector,
        additional_forward_args: object | None = None,
        attribute_to_neuron_input: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Relevance of each input value for the activation of one neuron (or the sum of several).

        Args:
            inputs, additional_forward_args: As for :meth:`captum_clrp.LRPZBeta.attribute`.
            neuron_selector: An int for a fully connected layer; a tuple of ints or slices, e.g. (channel, row, column)
                or ``(channel, slice(None), slice(None))``; or a function of the layer's output to one value per example.
            attribute_to_neuron_input: Whether the neuron belongs to the layer's input instead of its output.

        Returns:
            Relevance shaped as ``inputs``.

        Raises:
            InvalidTargetError: if the selector does not fit the layer; otherwise as
                :meth:`captum_clrp.LRPZBeta.attribute`.
        """
        return self._at(attribute_to_neuron_input).of_neuron(inputs, neuron_selector, additional_forward_args)

    @log_usage()
    def attribute_neurons(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        neuron_selectors: Sequence[NeuronSelector],
        additional_forward_args: object | None = None,
        attribute_to_neuron_input: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Relevance of each input value for K neurons, which share the forward pass.

        Args:
            inputs, additional_forward_args, attribute_to_neuron_input: As for :meth:`attribute`.
            neuron_selectors: K selectors, each as for :meth:`attribute`.

        Returns:
            Tensor of shape ``(N, K, *input_shape)`` (a tuple of these for a tuple of inputs).

        Raises:
            InvalidTargetError: if a selector does not fit the layer; otherwise as for :meth:`attribute`.
        """
        return self._at(attribute_to_neuron_input).of_neurons(inputs, neuron_selectors, additional_forward_args)

    def _at(self, at_input: bool) -> Explanation:
        return self.explanation.at(Place(self.layer, at_input, stop=True))


class NeuronContrastiveLRP2(NeuronLRPZBeta):
    """CLRP2 for a neuron of a hidden layer: what it saw that its opposite did not (paper, section 5.3).

    The dual concept negates the weights of the weighted operation that makes the neuron. As for classes, the magnitude
    of the activation is propagated, also where it is negative.

    Args:
        model, layer, low, high, outside, avg_pool, conserve, rules, precision: As for :class:`NeuronLRPZBeta`.
        strength: As for :class:`captum_clrp.ContrastiveLRP`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.ContrastiveLRP`.
    """

    dual = NegatedWeights()

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
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

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        neuron_selector: NeuronSelector,
        additional_forward_args: object | None = None,
        attribute_to_neuron_input: bool = False,
        *,
        relu_attributions: bool = True,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Relevance by which the neuron exceeds its opposite.

        Args:
            inputs, neuron_selector: As for :meth:`NeuronLRPZBeta.attribute`.
            additional_forward_args, attribute_to_neuron_input: As for :meth:`NeuronLRPZBeta.attribute`.
            relu_attributions: As for :meth:`captum_clrp.ContrastiveLRP.attribute`.

        Returns:
            Relevance shaped as ``inputs``.

        Raises:
            InvalidTargetError: as for :meth:`NeuronLRPZBeta.attribute`.
        """
        return self._at(attribute_to_neuron_input).of_neuron(
            inputs, neuron_selector, additional_forward_args, positive_part=relu_attributions
        )

    @log_usage()
    def attribute_neurons(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        neuron_selectors: Sequence[NeuronSelector],
        additional_forward_args: object | None = None,
        attribute_to_neuron_input: bool = False,
        *,
        relu_attributions: bool = True,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Relevance by which each of K neurons exceeds its opposite; they share the forward pass.

        Args:
            inputs, additional_forward_args, attribute_to_neuron_input, relu_attributions: As for :meth:`attribute`.
            neuron_selectors: K selectors, each as for :meth:`attribute`.

        Returns:
            Tensor of shape ``(N, K, *input_shape)`` (a tuple of these for a tuple of inputs).

        Raises:
            InvalidTargetError: if a selector does not fit the layer; otherwise as for :meth:`attribute`.
        """
        return self._at(attribute_to_neuron_input).of_neurons(
            inputs, neuron_selectors, additional_forward_args, positive_part=relu_attributions
        )
