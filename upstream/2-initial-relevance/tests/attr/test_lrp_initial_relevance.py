#!/usr/bin/env python3

# pyre-strict

from typing import Any, Tuple

import torch
import torch.nn as nn
from captum.attr import InputXGradient, LayerLRP, LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule
from captum.testing.helpers import BaseTest
from captum.testing.helpers.basic import assertTensorAlmostEqual
from captum.testing.helpers.basic_models import (
    BasicModel_MultiLayer,
    BasicModel_MultiLayer_MultiInput,
)
from torch import Tensor


def _lrp(model: nn.Module) -> Any:
    return LRP(model)


def _get_model() -> Tuple[nn.Sequential, Tensor]:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5)).double().eval()
    return model, torch.randn(3, 4, dtype=torch.float64)


def _set_rules(model: nn.Sequential) -> None:
    # LRP removes rules after each call.
    model[2].rule = Alpha1_Beta0_Rule(set_bias_to_zero=True)  # type: ignore


class Test(BaseTest):
    def test_score_at_target(self) -> None:
        # The score at the target is what LRP propagates without initial relevance.
        model, input = _get_model()
        _set_rules(model)
        expected, expected_delta = _lrp(model).attribute(
            input, target=[3, 0, 1], return_convergence_delta=True
        )
        initial = torch.zeros(3, 5, dtype=torch.float64)
        rows, targets = torch.arange(3), torch.tensor([3, 0, 1])
        initial[rows, targets] = model(input)[rows, targets].detach()
        _set_rules(model)
        actual, delta = _lrp(model).attribute(
            input, initial_relevance=initial, return_convergence_delta=True
        )
        assertTensorAlmostEqual(self, actual, expected, delta=1e-12)
        assertTensorAlmostEqual(self, delta, expected_delta, delta=1e-12)

    def test_linear_in_relevance(self) -> None:
        # One pass for several outputs equals a pass for each of them, in sum.
        model, input = _get_model()
        factors = torch.tensor([2.0, -1.0, 0.5, 0.0, -3.0], dtype=torch.float64)
        _set_rules(model)
        actual = _lrp(model).attribute(
            input, initial_relevance=lambda output: factors * output
        )
        expected = torch.zeros_like(actual)
        for target, factor in enumerate(factors):
            _set_rules(model)
            expected += factor * _lrp(model).attribute(input, target=target)
        assertTensorAlmostEqual(self, actual, expected, delta=1e-12)

    def test_by_hand(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2, bias=False))
        model[0].weight.data = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
        input = torch.tensor([[1.0, 1.0]])
        # Outputs are 1 + 3 and 2 - 1.
        attributions, delta = _lrp(model).attribute(
            input,
            initial_relevance=torch.tensor([[8.0, -1.0]]),
            return_convergence_delta=True,
        )
        assertTensorAlmostEqual(self, attributions, torch.tensor([[2 - 2.0, 6 + 1.0]]))
        assertTensorAlmostEqual(self, delta, torch.tensor([0.0]))

    def test_delta_is_what_is_absorbed(self) -> None:
        layer = nn.Linear(1, 1)
        layer.weight.data.fill_(1.0)
        layer.bias.data.fill_(3.0)
        model = nn.Sequential(layer)
        attributions, delta = _lrp(model).attribute(
            torch.ones(2, 1),
            initial_relevance=torch.tensor([[4.0], [8.0]]),
            return_convergence_delta=True,
        )
        assertTensorAlmostEqual(self, attributions, torch.tensor([[1.0], [2.0]]))
        assertTensorAlmostEqual(self, delta, torch.tensor([3.0, 6.0]))

    def test_output_of_more_dimensions(self) -> None:
        model = nn.Sequential(nn.Conv2d(1, 2, 2, bias=False))
        input = torch.rand(2, 1, 4, 4)
        region = torch.zeros(2, 2, 3, 3)
        region[:, 1, :2, 1:] = 1.0
        attributions = _lrp(model).attribute(
            input, initial_relevance=lambda output: output * region
        )
        ixg = InputXGradient(lambda input: (model(input) * region).flatten(1).sum(1))
        assertTensorAlmostEqual(self, attributions, ixg.attribute(input))

    def test_several_inputs(self) -> None:
        model = BasicModel_MultiLayer_MultiInput()
        inputs = (torch.randn(4, 3), torch.randn(4, 3))
        arguments = (torch.randn(4, 3), 5)
        initial = torch.zeros(4, 2)
        initial[:, 1] = model(*inputs, *arguments)[:, 1].detach()
        actual = _lrp(model).attribute(
            inputs, additional_forward_args=arguments, initial_relevance=initial
        )
        expected = _lrp(model).attribute(
            inputs, target=1, additional_forward_args=arguments
        )
        for tensor, other in zip(actual, expected):
            assertTensorAlmostEqual(self, tensor, other)

    def test_layer(self) -> None:
        model, input = _get_model()
        initial = torch.randn(3, 5, dtype=torch.float64)
        relevance, delta = LayerLRP(model, model[2]).attribute(
            input, initial_relevance=initial, return_convergence_delta=True
        )
        assertTensorAlmostEqual(self, relevance, initial, delta=1e-12)
        assertTensorAlmostEqual(
            self, delta, torch.zeros(3, dtype=torch.float64), delta=1e-12
        )
        hidden, z = model[1](model[0](input)), model(input)
        expected = hidden * ((initial / z) @ model[2].weight)
        relevance = LayerLRP(model, model[2]).attribute(
            input, initial_relevance=initial, attribute_to_layer_input=True
        )
        assertTensorAlmostEqual(self, relevance, expected.detach(), delta=1e-5)

    def test_several_layers(self) -> None:
        model, input = _get_model()
        initial = torch.randn(3, 5, dtype=torch.float64)
        relevance, delta = LayerLRP(model, [model[0], model[2]]).attribute(
            input, initial_relevance=initial, return_convergence_delta=True
        )
        self.assertEqual(len(relevance), 2)
        self.assertEqual(len(delta), 2)
        assertTensorAlmostEqual(self, relevance[1], initial, delta=1e-12)

    def test_refused(self) -> None:
        model, input = _get_model()
        for lrp in (_lrp(model), LayerLRP(model, model[2])):
            with self.assertRaisesRegex(AssertionError, "both are provided"):
                lrp.attribute(input, target=1, initial_relevance=torch.ones(3, 5))
            with self.assertRaisesRegex(AssertionError, r"\(3, 1\).*\(3, 5\)"):
                lrp.attribute(input, initial_relevance=torch.ones(3, 1))
            self.assertTrue(all(not layer._forward_hooks for layer in model))
            with self.assertRaisesRegex(AssertionError, "Target not provided"):
                lrp.attribute(input)

    def test_next_call_is_not_affected(self) -> None:
        model = BasicModel_MultiLayer()
        input = torch.randn(2, 3)
        lrp = _lrp(model)
        before = lrp.attribute(input, target=1)
        lrp.attribute(input, initial_relevance=torch.ones(2, 2))
        self.assertTrue(torch.equal(lrp.attribute(input, target=1), before))
