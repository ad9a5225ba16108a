"""Relevance of the inputs for neurons of a hidden layer (paper, section 5.3), after Captum's neuron attributions.

The forward pass stops behind the layer. Of the duals only CLRP2 makes sense here: the layer's other neurons are not the
opposite of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_clrp.attribution import ContrastiveLRP2
from captum_clrp.engine._captum import NeuronAttribution, TensorOrTupleOfTensorsGeneric, log_usage
from captum_clrp.engine.propagation import Place
from captum_clrp.errors import InvalidTargetError
from captum_clrp.layer import AtLayer

__all__ = ["NeuronContrastiveLRP2", "NeuronLRPZBeta"]

NeuronSelector = int | tuple[int | slice, ...] | Callable[[Tensor], Tensor]


class _NeuronExplanation(AtLayer):
    """What the neuron variants share: relevance that starts at chosen activations of a layer."""

    def _explain_neurons(
        self,
        inputs: Any,
        selectors: Sequence[NeuronSelector],
        additional_forward_args: object | None,
        at_input: bool,
        positive_part: bool,
        stack: bool,
    ) -> Any:
        place = Place(self.layer, at_input, stop=True)
        started = [_Selected(s, self._score) for s in selectors]
        result = self._explain_classes(
            inputs, started, additional_forward_args, place=place, positive_part=positive_part
        )
        if stack:
            return result
        return tuple(r[:, 0] for r in result) if isinstance(result, tuple) else result[:, 0]


class _Selected:
    """Initial relevance of chosen neurons: their own activations, or their magnitudes for a contrast."""

    def __init__(self, selector: NeuronSelector, score: Callable[[Tensor], Tensor]) -> None:
        self.selector = selector
        self.score = score

    def __call__(self, activations: Any) -> Tensor:
        if not isinstance(activations, Tensor):
            raise InvalidTargetError(
                f"the layer takes or returns {len(activations)} values where one tensor is needed; choose another layer"
            )
        selector = self.selector
        if not callable(selector):
            chosen = _chosen(activations, selector if isinstance(selector, tuple) else (selector,))
        else:
            with torch.inference_mode(False), torch.enable_grad():
                variable = activations.detach().clone().requires_grad_()
                value = selector(variable)
                if not isinstance(value, Tensor) or not value.requires_grad:
                    raise InvalidTargetError("neuron_selector does not return a tensor computed from the activations")
                (chosen,) = torch.autograd.grad(value.sum(), variable)
        return self.score(chosen * activations.detach())


def _chosen(activations: Tensor, index: tuple[int | slice, ...]) -> Tensor:
    if len(index) != activations.dim() - 1:
        raise InvalidTargetError(
            f"neuron_selector {index} has {len(index)} entries for a layer of shape {tuple(activations.shape)}; give "
            f"{activations.dim() - 1} of them (dimension 0 counts examples), e.g. (channel, row, column)"
        )
    for position, size in zip(index, activations.shape[1:], strict=True):
        if not isinstance(position, slice) and not 0 <= position < size:
            raise InvalidTargetError(
                f"neuron_selector {index} is out of range for a layer of shape {tuple(activations.shape)}"
            )
    chosen = torch.zeros_like(activations)
    chosen[(slice(None), *index)] = 1
    return chosen


class NeuronLRPZBeta(_NeuronExplanation, NeuronAttribution):
    """Relevance of the inputs for a neuron's activation (see :class:`captum_clrp.LRPZBeta`).

    Args:
        model: The model in evaluation mode.
        layer: A module of ``model``; the forward pass stops behind it.
        low, high, avg_pool, conserve: As for :class:`captum_clrp.LRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.LRPZBeta`.

    Example::

        >>> NeuronLRPZBeta(vgg16, vgg16.classifier[1]).attribute(images, neuron_selector=17)      # a neuron of fc1
    """

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        neuron_selector: NeuronSelector,
        additional_forward_args: object | None = None,
        attribute_to_neuron_input: bool = False,
    ) -> Any:
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
        return self._explain_neurons(
            inputs, [neuron_selector], additional_forward_args, attribute_to_neuron_input, False, False
        )

    @log_usage()
    def attribute_neurons(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        neuron_selectors: Sequence[NeuronSelector],
        additional_forward_args: object | None = None,
        attribute_to_neuron_input: bool = False,
    ) -> Any:
        """Relevance of each input value for K neurons, which share the forward pass.

        Args:
            inputs, additional_forward_args, attribute_to_neuron_input: As for :meth:`attribute`.
            neuron_selectors: K selectors, each as for :meth:`attribute`.

        Returns:
            Tensor of shape ``(N, K, *input_shape)`` (a tuple of these for a tuple of inputs).

        Raises:
            InvalidTargetError: if a selector does not fit the layer; otherwise as for :meth:`attribute`.
        """
        return self._explain_neurons(
            inputs, neuron_selectors, additional_forward_args, attribute_to_neuron_input, False, True
        )


class NeuronContrastiveLRP2(_NeuronExplanation, ContrastiveLRP2, NeuronAttribution):
    """CLRP2 for a neuron of a hidden layer: what it saw that its opposite did not (paper, section 5.3).

    The dual concept negates the weights of the weighted operation that makes the neuron. As for classes, the magnitude
    of the activation is propagated, also where it is negative.

    Args:
        model, layer, low, high, avg_pool, conserve: As for :class:`NeuronLRPZBeta`.

    Raises:
        InvalidInputError, TypeError: as for :class:`captum_clrp.LRPZBeta`.
    """

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        neuron_selector: NeuronSelector,
        additional_forward_args: object | None = None,
        attribute_to_neuron_input: bool = False,
        *,
        relu_attributions: bool = True,
    ) -> Any:
        """Relevance by which the neuron exceeds its opposite.

        Args:
            inputs, neuron_selector, additional_forward_args: As for :meth:`NeuronLRPZBeta.attribute`.
            attribute_to_neuron_input: As there.
            relu_attributions: As for :meth:`captum_clrp.ContrastiveLRP.attribute`.

        Returns:
            Relevance shaped as ``inputs``.

        Raises:
            InvalidTargetError: as for :meth:`NeuronLRPZBeta.attribute`.
        """
        return self._explain_neurons(
            inputs, [neuron_selector], additional_forward_args, attribute_to_neuron_input, relu_attributions, False
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
    ) -> Any:
        """Relevance by which each of K neurons exceeds its opposite; they share the forward pass.

        Args:
            inputs, additional_forward_args, attribute_to_neuron_input, relu_attributions: As for :meth:`attribute`.
            neuron_selectors: K selectors, each as for :meth:`attribute`.

        Returns:
            Tensor of shape ``(N, K, *input_shape)`` (a tuple of these for a tuple of inputs).

        Raises:
            InvalidTargetError: if a selector does not fit the layer; otherwise as for :meth:`attribute`.
        """
        return self._explain_neurons(
            inputs, neuron_selectors, additional_forward_args, attribute_to_neuron_input, relu_attributions, True
        )
