#!/usr/bin/env python3

# pyre-strict

import typing
from collections import defaultdict
from typing import Callable, cast, Dict, List, Literal, Optional, Tuple, Union

import torch
import torch.nn as nn
from captum._utils.common import _reduce_list, _select_targets, _sort_key_list
from captum._utils.typing import TargetType, TensorOrTupleOfTensorsGeneric
from captum.attr._core.lrp import LRP
from captum.attr._utils.lrp_rules import (
    _divide,
    _positive_contributions,
    PropagationRule,
    ZBetaRule,
    ZPlusRule,
)
from captum.log import log_usage
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.conv import _ConvNd


class _ContrastiveLRP(LRP):
    r"""
    What both contrastive variants of LRP share: their rules, and a difference that is
    formed at the output of the model. Since propagation is linear in relevance for
    given activations, a single pass propagates the difference of two concepts.
    """

    def __init__(
        self,
        model: Module,
        low: Union[None, int, float, Tensor] = None,
        high: Union[None, int, float, Tensor] = None,
    ) -> None:
        r"""
        Args:

            model (Module): The forward function of the model or any modification of
                it. If no rule is set for a linear or convolutional module as
                attribute `module.rule`, ZBetaRule is used for the one that is
                executed first and ZPlusRule for the others. For modules of other
                types, the rules of LRP are used.

            low (int, float, or Tensor, optional): Lowest value of the domain of the
                first layer's input, in the units of the (normalized) input. If None,
                the minimum of each example and channel is used.
                Default: None

            high (int, float, or Tensor, optional): Highest value of the domain,
                likewise.
                Default: None
        """
        LRP.__init__(self, model)
        self.low = low
        self.high = high

    @typing.overload  # type: ignore
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: Optional[object] = None,
        *,
        return_convergence_delta: Literal[True],
        verbose: bool = False,
        relu_attributions: bool = True,
    ) -> Tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @typing.overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: Optional[object] = None,
        return_convergence_delta: Literal[False] = False,
        verbose: bool = False,
        relu_attributions: bool = True,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: Optional[object] = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
        relu_attributions: bool = True,
    ) -> Union[
        TensorOrTupleOfTensorsGeneric, Tuple[TensorOrTupleOfTensorsGeneric, Tensor]
    ]:
        r"""
        Args:

            inputs (Tensor or tuple[Tensor, ...]): Input for which relevance is
                        propagated, as for LRP.

            target (int, tuple, Tensor, or list, optional): Output index of the class
                        that is contrasted, as for LRP. Classes are in dimension 1 of
                        the output.
                        Default: None

            additional_forward_args (tuple, optional): Further arguments of the
                        forward function, as for LRP.
                        Default: None

            return_convergence_delta (bool, optional): Indicates whether to return
                        convergence delta or not.
                        Default: False

            verbose (bool, optional): Indicates whether information on application
                        of rules is printed during propagation.
                        Default: False

            relu_attributions (bool, optional): Indicates whether to return the
                        positive part of the difference, as in the paper, or the
                        difference with its sign.
                        Default: True

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**
            or 2-element tuple of **attributions**, **delta**:

              - **attributions** (*Tensor* or *tuple[Tensor, ...]*):
                        Relevance of each input feature for the target, minus its
                        relevance for the dual concept. Attributions will always be
                        the same size as the provided inputs.

              - **delta** (*Tensor*, returned if return_convergence_delta=True):
                        Per example, what the signed attributions lack to zero, which
                        they sum to if no relevance is absorbed.

        Examples::

                >>> # ImageClassifier takes a single input tensor of images Nx3x32x32,
                >>> # and returns an Nx10 tensor of scores. It has one Conv2D and a
                >>> # ReLU layer.
                >>> net = ImageClassifier()
                >>> clrp = ContrastiveLRP1(net)
                >>> input = torch.randn(3, 3, 32, 32)
                >>> # Attribution size matches input size: 3x3x32x32
                >>> attribution = clrp.attribute(input, target=5)

        """

        def initial_relevance(output: Tensor) -> Tensor:
            return self._contrast(output, _target_scores(output, target))

        attributions, delta = LRP.attribute.__wrapped__(  # type: ignore
            self,
            inputs,
            None,
            additional_forward_args,
            return_convergence_delta=True,
            verbose=verbose,
            initial_relevance=initial_relevance,
        )
        if relu_attributions:
            if isinstance(attributions, tuple):
                attributions = tuple(attr.clamp(min=0) for attr in attributions)
            else:
                attributions = attributions.clamp(min=0)
        return (attributions, delta) if return_convergence_delta else attributions

    def compute_convergence_delta(
        self, attributions: Union[Tensor, Tuple[Tensor, ...]], output: Tensor
    ) -> Tensor:
        """
        The target and its dual concept have the same relevance in total, therefore the
        difference of their attributions sums to zero, unless relevance is absorbed.

        Args:

            attributions (Tensor or tuple[Tensor, ...]): Signed attributions.

            output (Tensor): A tensor with an element for each example.

        Returns:
            *Tensor*:
            - **delta** Zero minus the sum of attributions, for each example.
        """
        return super().compute_convergence_delta(attributions, torch.zeros_like(output))

    def _contrast(self, output: Tensor, scores: Tensor) -> Tensor:
        """Initial relevance, given the output and the magnitude of the score at the
        target (zero elsewhere)."""
        raise NotImplementedError

    def _check_and_attach_rules(self) -> None:
        self._without_rule: List[Module] = [
            layer
            for layer in self.layers
            if isinstance(layer, (nn.Linear, _ConvNd)) and not hasattr(layer, "rule")
        ]
        for layer in self._without_rule:
            layer.rule = ZPlusRule()  # type: ignore
        try:
            super()._check_and_attach_rules()
        except TypeError:
            for layer in self._without_rule:
                del layer.rule
            raise

    def _compute_output_and_change_weights(
        self,
        inputs: Tuple[Tensor, ...],
        target: TargetType,
        additional_forward_args: Optional[object],
    ) -> Tensor:
        """Besides, finds out in which order linear and convolutional modules are
        executed, to set rules for the first and the last one, which are applied in
        the second forward pass."""
        executed: Dict[Module, Dict[torch.device, Tensor]] = {}

        def record(layer: Module) -> Callable[[Module, object, Tensor], None]:
            def hook(module: Module, inputs: object, output: Tensor) -> None:
                # With DataParallel, module is a replica of layer.
                executed.setdefault(layer, {})[output.device] = output.detach()

            return hook

        handles = [
            layer.register_forward_hook(record(layer))
            for layer in self.layers
            if isinstance(layer, (nn.Linear, _ConvNd))
        ]
        try:
            output = super()._compute_output_and_change_weights(
                inputs, target, additional_forward_args
            )
        finally:
            for handle in handles:
                handle.remove()
        if executed:
            first = next(iter(executed))
            if first in self._without_rule:
                _set_rule(first, ZBetaRule(self.low, self.high))
        self._set_output_rule(executed, output)
        return output

    def _set_output_rule(
        self, executed: Dict[Module, Dict[torch.device, Tensor]], output: Tensor
    ) -> None:
        """Sets the rule of the output layer, if it is not that of the other layers.
        Executed modules are given in their order, with their outputs by device."""


class ContrastiveLRP1(_ContrastiveLRP):
    r"""
    Contrastive layer-wise relevance propagation, type 1. LRP attributions of different
    classes resemble each other. Here the relevance of a dual concept is subtracted,
    which shares the same score :math:`S` uniformly among all other classes:

    .. math::
        R_{CLRP} = \max(0, R - R_{dual})

    Since propagation is linear in relevance, both are propagated in one pass: the
    initial relevance is :math:`S` at the target and :math:`-S / (m - 1)` at each other
    of :math:`m` classes. The magnitude of the score is used, also for a negative one.
    The output of the model should be scores before a softmax.

    Details can be found in Gu, Yang and Tresp
    [https://doi.org/10.1007/978-3-030-20893-6_8].
    """

    def _contrast(self, output: Tensor, scores: Tensor) -> Tensor:
        assert output.dim() > 1 and output.shape[1] > 1, (
            f"An output of shape {tuple(output.shape)} has no other class to contrast "
            "with. Please use ContrastiveLRP2, which needs a single output only."
        )
        total = scores.sum(1, keepdim=True)
        others = (scores == 0) & (total != 0)
        return scores - others * total / (output.shape[1] - 1)


class ContrastiveLRP2(_ContrastiveLRP):
    r"""
    Contrastive layer-wise relevance propagation, type 2. LRP attributions of different
    classes resemble each other. Here the relevance of a dual concept is subtracted,
    which is the same output with the weights of the output layer negated:

    .. math::
        R_{CLRP} = \max(0, R - R_{dual})

    Since propagation is linear in relevance, both are propagated in one pass: the rule
    of the output layer returns the difference. The magnitude of the score is used,
    also for a negative one. The output of the model has to be the output of a linear
    or convolutional module, i.e. scores before a softmax.

    Details can be found in Gu, Yang and Tresp
    [https://doi.org/10.1007/978-3-030-20893-6_8].
    """

    def _contrast(self, output: Tensor, scores: Tensor) -> Tensor:
        return scores

    def _set_output_rule(
        self, executed: Dict[Module, Dict[torch.device, Tensor]], output: Tensor
    ) -> None:
        last = list(executed)[-1] if executed else None
        if last is None or not self._is_output(executed[last], output):
            raise ValueError(
                "ContrastiveLRP2 negates the weights of the output layer, therefore "
                "the output of the model has to be the output of a linear or "
                "convolutional module, but is not the output of the one that is "
                f"executed last: {last}. Please use ContrastiveLRP1 or remove what "
                "follows that module, e.g. a softmax."
            )
        if last not in self._without_rule and type(last.rule) is not ZPlusRule:
            raise ValueError(
                "ContrastiveLRP2 needs ZPlusRule for the output layer, but "
                f"{type(last.rule).__name__} is set for {last}."
            )
        _set_rule(last, _NegatedWeightsRule())

    def _is_output(
        self, last_output: Dict[torch.device, Tensor], output: Tensor
    ) -> bool:
        device_ids = cast(Optional[List[int]], getattr(self.model, "device_ids", None))
        keys = _sort_key_list(list(last_output), device_ids)
        last = _reduce_list([last_output[key].to(output.device) for key in keys])
        return torch.equal(last.flatten(), output.flatten())


class _NegatedWeightsRule(ZPlusRule):
    """
    z+ rule minus z+ rule with negated weights, for the output layer. To negate the
    weights is to negate the input, as far as contributions are concerned.
    """

    # pyre-fixme[3]: Return type must be annotated.
    # pyre-fixme[2]: Parameter must be annotated.
    def forward_hook(self, module, inputs, outputs):
        outputs = super().forward_hook(module, inputs, outputs)
        negated = -(inputs[0] if isinstance(inputs, tuple) else inputs)
        dual = _positive_contributions(
            module, negated.clamp(min=0), negated.clamp(max=0)
        )
        contributions = dual.data
        dual.register_hook(lambda grad: _divide(grad, contributions))
        return outputs - dual


def _set_rule(layer: Module, rule: PropagationRule) -> None:
    """Exchanges the rule of a layer between the first and second forward pass."""
    rule.relevance_input = defaultdict(list)
    rule.relevance_output = {}
    layer.rule = rule  # type: ignore


def _target_scores(output: Tensor, target: TargetType) -> Tensor:
    """Magnitudes of the scores at the target, zero elsewhere; of the output's shape."""
    with torch.enable_grad():
        scores = output.detach().requires_grad_()
        selected = _select_targets(scores, target)
        assert selected.numel() == output.shape[0], (
            "Target not provided when necessary, cannot contrast multiple outputs of an"
            " example."
        )
        (at_target,) = torch.autograd.grad(selected.sum(), scores)
    return at_target * output.abs()
