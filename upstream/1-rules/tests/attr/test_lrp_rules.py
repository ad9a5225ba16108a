#!/usr/bin/env python3

# pyre-strict

from typing import Any, List, Tuple

import torch
import torch.nn as nn
from captum.attr import LayerLRP, LRP
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import (
    Alpha1_Beta0_Rule,
    EpsilonRule,
    PropagationRule,
    ZBetaRule,
    ZPlusRule,
)
from captum.testing.helpers import BaseTest
from captum.testing.helpers.basic import assertTensorAlmostEqual
from captum.testing.helpers.basic_models import SimpleLRPModel
from torch import Tensor


def _lrp(model: nn.Module) -> Any:
    return LRP(model)


def _dense(module: nn.Module, shape: Tuple[int, ...]) -> Tensor:
    """The matrix of a linear map, (#outputs, #inputs), one unit vector at a time."""
    units = torch.eye(torch.Size(shape).numel(), dtype=torch.float64)
    bias = module.bias
    module.bias = None  # type: ignore
    columns = module(units.reshape(-1, *shape)).flatten(1)
    module.bias = bias
    return columns.T.detach()


def _share(contributions: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of inputs from contributions (#examples, #outputs, #inputs), each of
    which is not negative."""
    total = contributions.sum(2)
    per_total = torch.where(total == 0, torch.zeros_like(total), relevance / total)
    return (contributions * per_total.unsqueeze(2)).sum(1)


def _z_plus(weight: Tensor, input: Tensor, relevance: Tensor) -> Tensor:
    return _share((weight * input.unsqueeze(1)).clamp(min=0), relevance)


def _z_beta(
    weight: Tensor, input: Tensor, relevance: Tensor, low: Any, high: Any
) -> Tensor:
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    low = torch.as_tensor(low).to(input).expand_as(input).unsqueeze(1)
    high = torch.as_tensor(high).to(input).expand_as(input).unsqueeze(1)
    contributions = weight * input.unsqueeze(1) - positive * low - negative * high
    return _share(contributions, relevance)


def _linear_models() -> List[Tuple[nn.Module, Tuple[int, ...]]]:
    models: List[Tuple[nn.Module, Tuple[int, ...]]] = [
        (nn.Linear(6, 5), (6,)),
        (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 7)),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 4, 5)),
        (nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 3, 3)),
        (nn.Conv3d(1, 2, 2, dilation=2), (1, 3, 4, 3)),
    ]
    return [(model.double(), shape) for model, shape in models]


class Test(BaseTest):
    def _assert_rule(
        self,
        module: nn.Module,
        rule: PropagationRule,
        input: Tensor,
        expected: Any,
    ) -> None:
        model = nn.Sequential(module)
        module.rule = rule  # type: ignore
        weight = _dense(module, tuple(input.shape[1:]))
        output = model(input).flatten(1).detach()
        target = 1
        relevance = torch.zeros_like(output)
        relevance[:, target] = output[:, target]
        indices = torch.unravel_index(torch.tensor(target), model(input).shape[1:])
        attributions = _lrp(model).attribute(
            input, target=tuple(int(index) for index in indices)
        )
        assertTensorAlmostEqual(
            self,
            attributions.flatten(1),
            expected(weight, input.flatten(1), relevance),
            delta=1e-10,
            mode="max",
        )

    def test_zplus_dense(self) -> None:
        for module, shape in _linear_models():
            for shift in (-0.5, 0.0, 0.5):
                input = torch.rand(3, *shape, dtype=torch.float64) + shift
                self._assert_rule(module, ZPlusRule(), input, _z_plus)

    def test_zbeta_dense(self) -> None:
        for module, shape in _linear_models():
            input = torch.rand(3, *shape, dtype=torch.float64) - 0.4
            self._assert_rule(
                module,
                ZBetaRule(-0.5, 1.0),
                input,
                lambda weight, x, r: _z_beta(weight, x, r, -0.5, 1.0),
            )

    def test_zbeta_own_bounds(self) -> None:
        module = nn.Conv2d(2, 2, 2).double()
        input = torch.randn(3, 2, 3, 3, dtype=torch.float64)
        low = input.amin((2, 3), keepdim=True).expand_as(input).flatten(1)
        high = input.amax((2, 3), keepdim=True).expand_as(input).flatten(1)
        self._assert_rule(
            module,
            ZBetaRule(),
            input,
            lambda weight, x, r: _z_beta(weight, x, r, low, high),
        )

    def test_network(self) -> None:
        # All layers by hand: z+, skipped activation, z+ and z^beta for the first.
        model = nn.Sequential(
            nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)
        ).double()
        layers: List[Any] = list(model)
        first, relu, second, tanh, third = layers
        first.rule = ZBetaRule(-2.0, 2.0)
        second.rule = third.rule = ZPlusRule()
        input = 4 * torch.rand(7, 5, dtype=torch.float64) - 2
        hidden1 = relu(first(input))
        hidden2 = tanh(second(hidden1))
        relevance = torch.zeros(7, 3, dtype=torch.float64)
        relevance[:, 2] = model(input)[:, 2]
        relevance = _z_plus(third.weight, hidden2, relevance)
        relevance = _z_plus(second.weight, hidden1, relevance)
        relevance = _z_beta(first.weight, input, relevance, -2.0, 2.0)
        attributions = _lrp(model).attribute(input, target=2)
        assertTensorAlmostEqual(
            self, attributions, relevance.detach(), delta=1e-10, mode="max"
        )

    def test_zplus_both_signs(self) -> None:
        # Contributions are 1 * 2 = 2 and (-3) * (-2) = 6, the third one is negative.
        model = nn.Linear(3, 1, bias=False)
        model.weight.data = torch.tensor([[2.0, -2.0, 1.0]])
        model = nn.Sequential(model)
        input = torch.tensor([[1.0, -3.0, -4.0]])
        model[0].rule = ZPlusRule()  # type: ignore
        attributions, delta = _lrp(model).attribute(
            input, target=0, return_convergence_delta=True
        )
        # The output is 2 + 6 - 4 = 4.
        assertTensorAlmostEqual(self, attributions, torch.tensor([[1.0, 3.0, 0.0]]))
        assertTensorAlmostEqual(self, delta, torch.tensor([0.0]))
        model[0].rule = Alpha1_Beta0_Rule()  # type: ignore
        clamped = _lrp(model).attribute(input, target=0)
        self.assertGreater((clamped - attributions).abs().max().item(), 1.0)

    def test_zplus_equals_alpha1_beta0_for_positive_input(self) -> None:
        model = SimpleLRPModel(inplace=False).eval()
        model.linear.weight.data[0][0] = -2.0
        input = torch.tensor([[1.0, 2.0, 3.0]])
        relevance = []
        for rule in (ZPlusRule, Alpha1_Beta0_Rule):
            model.linear.rule, model.linear2.rule = rule(), rule()  # type: ignore
            relevance.append(_lrp(model).attribute(input))
        assertTensorAlmostEqual(self, relevance[0], relevance[1])
        assertTensorAlmostEqual(self, relevance[0], torch.tensor([[12, 33.6, 50.4]]))

    def test_without_positive_contribution(self) -> None:
        # The only output is active by its bias alone.
        module = nn.Linear(2, 1)
        module.weight.data.fill_(-1.0)
        module.bias.data.fill_(9.0)
        model = nn.Sequential(module)
        module.rule = ZPlusRule()  # type: ignore
        attributions, delta = _lrp(model).attribute(
            torch.ones(1, 2), target=0, return_convergence_delta=True
        )
        assertTensorAlmostEqual(self, attributions, torch.zeros(1, 2))
        assertTensorAlmostEqual(self, delta, torch.tensor([7.0]))

    def test_zbeta_zero_input_is_relevant(self) -> None:
        module = nn.Linear(2, 1, bias=False)
        module.weight.data = torch.tensor([[1.0, 1.0]])
        module.rule = ZBetaRule(low=-1.0, high=1.0)  # type: ignore
        attributions = _lrp(nn.Sequential(module)).attribute(
            torch.tensor([[0.0, 0.5]]), target=0
        )
        # Contributions are (0 + 1) * 1 and (0.5 + 1) * 1, and the score is 0.5.
        assertTensorAlmostEqual(self, attributions, torch.tensor([[0.2, 0.3]]))

    def test_zbeta_out_of_bounds(self) -> None:
        module = nn.Linear(2, 1)
        model = nn.Sequential(module)
        for low, high in ((0.0, 1.0), (-1.0, 0.5), (2.0, None)):
            module.rule = ZBetaRule(low, high)  # type: ignore
            with self.assertRaisesRegex(ValueError, "domain"):
                _lrp(model).attribute(torch.tensor([[0.9, -0.1]]), target=0)
        self.assertEqual(len(module._forward_hooks), 0)
        self.assertEqual(len(module._forward_pre_hooks), 0)

    def test_other_modules(self) -> None:
        for rule in (ZPlusRule(), ZBetaRule()):
            model = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()).eval()
            model[0].rule = rule  # type: ignore
            with self.assertRaisesRegex(TypeError, "linear and convolutional"):
                _lrp(model).attribute(torch.rand(1, 2, 2, 2), target=(0, 0, 0))

    def test_layer_lrp(self) -> None:
        model = SimpleLRPModel(inplace=True).eval()
        input = torch.tensor([[1.0, 2.0, -3.0]])
        layers: List[Tuple[nn.Module, bool]] = [
            (model.linear, True),
            (model.linear, False),
            (model.linear2, True),
        ]
        model.linear.weight.data[0] = torch.tensor([1.0, 2.0, -1.0])
        for layer, to_input in layers:
            model.linear.rule = ZBetaRule(-4, 4)  # type: ignore
            model.linear2.rule = ZPlusRule()  # type: ignore
            relevance = LayerLRP(model, layer).attribute(
                input, attribute_to_layer_input=to_input
            )
            # Only the first neuron is active, with 1 + 4 + 3 = 8; the score is 24.
            hidden = torch.tensor([[24.0, 0.0, 0.0]])
            # Contributions are (1 + 4) * 1, (2 + 4) * 2 and (-3 - 4) * (-1).
            expected = torch.tensor([[5.0, 12.0, 7.0]])
            if layer is model.linear2 or not to_input:
                expected = hidden
            assertTensorAlmostEqual(self, relevance, expected)

    def test_skip_connection(self) -> None:
        # ZPlusRule and EpsilonRule share an input.
        class SkipConnection(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(2, 2, bias=False)
                self.linear.weight.data = torch.tensor([[5.0, -1.0], [-5.0, 5.0]])
                self.add = Addition_Module()

            def forward(self, input: Tensor) -> Tensor:
                return self.add(self.linear(input), input)

        model = SkipConnection()
        input = torch.tensor([[2.0, 3.0]])
        model.linear.rule = ZPlusRule()  # type: ignore
        # The sum is -10 + 15 + 3 = 8: 5 from the linear module, 3 directly.
        attributions = _lrp(model).attribute(input, target=1)
        assertTensorAlmostEqual(self, attributions, torch.tensor([[0.0, 8.0]]))
        # Relevance of z^beta is not a multiple of the input, so that it is refused.
        model.linear.rule = ZBetaRule()  # type: ignore
        with self.assertRaisesRegex(RuntimeError, "shares its input"):
            _lrp(model).attribute(input, target=1)

    def test_parallel_zbeta(self) -> None:
        class Parallel(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one = nn.Linear(2, 1, bias=False)
                self.two = nn.Linear(2, 1, bias=False)
                self.add = Addition_Module()

            def forward(self, input: Tensor) -> Tensor:
                return self.add(self.one(input), self.two(input))

        model = Parallel()
        model.one.weight.data = torch.tensor([[1.0, 1.0]])
        model.two.weight.data = torch.tensor([[2.0, 0.0]])
        input = torch.tensor([[1.0, 0.0]])
        model.one.rule = ZBetaRule(-1, 1)  # type: ignore
        model.two.rule = ZBetaRule(-1, 1)  # type: ignore
        attributions = _lrp(model).attribute(input, target=0)
        # One: score 1 by contributions 2 and 1. Two: score 2 by contribution 4.
        assertTensorAlmostEqual(self, attributions, torch.tensor([[2 / 3 + 2, 1 / 3]]))
        for first, second in (
            (ZBetaRule(), EpsilonRule()),
            (EpsilonRule(), ZBetaRule()),
        ):
            model.one.rule, model.two.rule = first, second  # type: ignore
            with self.assertRaisesRegex(RuntimeError, "shares its input"):
                _lrp(model).attribute(input, target=0)

    def test_model_is_unchanged(self) -> None:
        model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 1, 2))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model[0].rule, model[2].rule = ZBetaRule(), ZPlusRule()  # type: ignore
        input = torch.randn(2, 1, 3, 3)
        output = model(input)
        _lrp(model).attribute(input, target=(0, 0, 0))
        self.assertEqual(list(before), list(model.state_dict()))
        for name, value in model.state_dict().items():
            self.assertTrue(torch.equal(value, before[name]))
        self.assertTrue(torch.equal(model(input), output))
