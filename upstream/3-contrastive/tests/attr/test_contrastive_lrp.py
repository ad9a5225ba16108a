#!/usr/bin/env python3

# pyre-strict

from typing import Any, Callable, List, Tuple

import torch
import torch.nn as nn
from captum.attr import ContrastiveLRP1, ContrastiveLRP2, LRP, NoiseTunnel
from captum.attr._utils.lrp_rules import EpsilonRule, ZBetaRule, ZPlusRule
from captum.testing.helpers import BaseTest
from captum.testing.helpers.basic import assertTensorAlmostEqual
from captum.testing.helpers.basic_models import BasicModel_ConvNet
from torch import Tensor

CLRP1: Any = ContrastiveLRP1
CLRP2: Any = ContrastiveLRP2
BOTH = (CLRP1, CLRP2)


def _get_model() -> Tuple[nn.Sequential, Tensor]:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5)).double().eval()
    return model, 2 * torch.rand(8, 4, dtype=torch.float64) - 1


def _get_conv_model() -> Tuple[nn.Sequential, Tensor]:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(6, 5, 1),
    )
    return model.double().eval(), torch.randn(3, 2, 8, 8, dtype=torch.float64)


def _share(contributions: Tensor, relevance: Tensor) -> Tensor:
    total = contributions.sum(2)
    per_total = torch.where(total == 0, torch.zeros_like(total), relevance / total)
    return (contributions * per_total.unsqueeze(2)).sum(1)


def _z_plus(weight: Tensor, input: Tensor, relevance: Tensor) -> Tensor:
    return _share((weight * input.unsqueeze(1)).clamp(min=0), relevance)


class Test(BaseTest):
    def test_two_passes_by_hand(self) -> None:
        # The paper's definition: two complete passes, and then the difference.
        model, input = _get_model()
        layers: List[Any] = list(model)
        first, relu, last = layers
        hidden = relu(first(input)).detach()
        output = model(input).detach()
        weight, dense = first.weight.data, last.weight.data
        for target in range(5):
            score = output[:, target].abs()
            alone = torch.zeros_like(output)
            alone[:, target] = score
            others = (score / 4).unsqueeze(1).repeat(1, 5)
            others[:, target] = 0

            def to_input(relevance: Tensor) -> Tensor:
                low, high = torch.tensor(-1.0).double(), torch.tensor(1.0).double()
                contributions = (
                    weight * input.unsqueeze(1)
                    - low * weight.clamp(min=0)
                    - high * weight.clamp(max=0)
                )
                return _share(contributions, relevance)

            relevance = to_input(_z_plus(dense, hidden, alone))
            negated = dense.clone()
            negated[target] *= -1
            duals = (_z_plus(dense, hidden, others), _z_plus(negated, hidden, alone))
            for algorithm, dual in zip(BOTH, duals):
                signed = relevance - to_input(dual)
                clrp = algorithm(model, low=-1.0, high=1.0)
                actual = clrp.attribute(input, target, relu_attributions=False)
                assertTensorAlmostEqual(self, actual, signed, delta=1e-10, mode="max")
                actual = clrp.attribute(input, target)
                assertTensorAlmostEqual(
                    self, actual, signed.clamp(min=0), delta=1e-10, mode="max"
                )

    def test_clrp1_small(self) -> None:
        # Scores are 4, 2 and 1. Of the first class, all relevance goes to the first
        # input, of each other class to the second one.
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 3, bias=False))
        model[0].weight.data = torch.eye(2)
        model[1].weight.data = torch.tensor([[4.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
        input = torch.tensor([[1.0, 1.0]])
        clrp = CLRP1(model, low=0.0, high=1.0)
        signed = clrp.attribute(input, target=0, relu_attributions=False)
        assertTensorAlmostEqual(self, signed, torch.tensor([[4.0, -4.0]]))
        # Of the second class, half of the dual's relevance is the first input's.
        signed = clrp.attribute(input, target=1, relu_attributions=False)
        assertTensorAlmostEqual(self, signed, torch.tensor([[-1.0, 1.0]]))

    def test_clrp2_small(self) -> None:
        # The score is 3 - 1 = 2; the first input speaks for it, the second against.
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
        model[0].weight.data = torch.eye(2)
        model[1].weight.data = torch.tensor([[3.0, -1.0]])
        input = torch.tensor([[1.0, 1.0]])
        clrp = CLRP2(model, low=0.0, high=1.0)
        signed, delta = clrp.attribute(
            input, relu_attributions=False, return_convergence_delta=True
        )
        assertTensorAlmostEqual(self, signed, torch.tensor([[2.0, -2.0]]))
        assertTensorAlmostEqual(self, delta, torch.tensor([0.0]))
        assertTensorAlmostEqual(self, clrp.attribute(input), torch.tensor([[2.0, 0.0]]))

    def test_conv_linear_combination(self) -> None:
        # CLRP1 is a sum of LRP attributions with the same rules.
        model, input = _get_conv_model()
        model = nn.Sequential(*model, nn.Flatten())
        model[-1].rule = EpsilonRule()  # type: ignore

        def lrp(initial_relevance: Callable[[Tensor], Tensor]) -> Tensor:
            model[0].rule = ZBetaRule()  # type: ignore
            model[3].rule, model[6].rule = ZPlusRule(), ZPlusRule()  # type: ignore
            model[-1].rule = EpsilonRule()  # type: ignore
            lrp: Any = LRP(model)
            return lrp.attribute(input, initial_relevance=initial_relevance)

        score = model(input)[:, 2:3].detach().abs()
        one_hot = torch.eye(5, dtype=torch.float64)
        expected = lrp(lambda output: one_hot[2] * score)
        for other in (0, 1, 3, 4):
            expected = expected - lrp(lambda output: one_hot[other] * score / 4)
        model[-1].rule = EpsilonRule()  # type: ignore
        actual = CLRP1(model).attribute(input, target=2, relu_attributions=False)
        assertTensorAlmostEqual(self, actual, expected, delta=1e-10, mode="max")

    def test_targets(self) -> None:
        # Classes are in dimension 1, here at one position each.
        model, input = _get_conv_model()
        targets = [(3, 0, 0), (1, 0, 0), (4, 0, 0)]
        for algorithm in BOTH:
            together = algorithm(model).attribute(input, targets)
            for index, target in enumerate(targets):
                alone = algorithm(model).attribute(input[index : index + 1], target)
                assertTensorAlmostEqual(
                    self, together[index : index + 1], alone, delta=1e-10, mode="max"
                )

    def test_classes_differ(self) -> None:
        model, input = _get_model()
        for algorithm in BOTH:
            clrp = algorithm(model)
            one = clrp.attribute(input, 0, relu_attributions=False)
            two = clrp.attribute(input, 1, relu_attributions=False)
            self.assertGreater((one - two).abs().max().item(), 0.01)
            self.assertGreaterEqual(clrp.attribute(input, 0).min().item(), 0)

    def test_delta_is_zero_minus_sum(self) -> None:
        model, input = _get_conv_model()
        for algorithm in BOTH:
            signed, delta = algorithm(model).attribute(
                input,
                target=(1, 0, 0),
                relu_attributions=False,
                return_convergence_delta=True,
            )
            assertTensorAlmostEqual(self, delta, -signed.flatten(1).sum(1), delta=1e-12)

    def test_rules(self) -> None:
        # A rule of the user takes precedence, and no rule is left behind.
        model, input = _get_model()
        expected = CLRP1(model).attribute(input, 0)
        model[0].rule = ZPlusRule()  # type: ignore
        actual = CLRP1(model).attribute(input, 0)
        self.assertGreater((actual - expected).abs().max().item(), 0.001)
        self.assertFalse(any(hasattr(layer, "rule") for layer in model))
        model = nn.Sequential(model[0], nn.Sigmoid())
        with self.assertRaises(TypeError):
            CLRP1(model).attribute(input, 0)
        self.assertFalse(hasattr(model[0], "rule"))

    def test_order_of_execution(self) -> None:
        # Modules are registered in another order than they are executed.
        class Model(nn.Module):
            def __init__(self, layers: nn.Sequential) -> None:
                super().__init__()
                self.last, self.relu, self.first = layers[2], layers[1], layers[0]

            def forward(self, input: Tensor) -> Tensor:
                return self.last(self.relu(self.first(input)))

        model, input = _get_model()
        for algorithm in BOTH:
            assertTensorAlmostEqual(
                self,
                algorithm(Model(model)).attribute(input, 3),
                algorithm(model).attribute(input, 3),
                delta=1e-12,
            )

    def test_refused(self) -> None:
        model, input = _get_model()
        with self.assertRaisesRegex(AssertionError, "Target not provided"):
            CLRP1(model).attribute(input)
        one_output = nn.Sequential(nn.Linear(4, 1)).double()
        with self.assertRaisesRegex(AssertionError, "no other class"):
            CLRP1(one_output).attribute(input, 0)
        model[2].rule = EpsilonRule()  # type: ignore
        with self.assertRaisesRegex(ValueError, "EpsilonRule is set"):
            CLRP2(model).attribute(input, 0)
        followed = nn.Sequential(*model, nn.Tanh())
        with self.assertRaisesRegex(ValueError, "output of a linear"):
            CLRP2(followed).attribute(input, 0)
        with self.assertRaises(TypeError):
            softmax = BasicModel_ConvNet()
            CLRP1(softmax).attribute(torch.rand(1, 1, 10, 10), 0)
        with self.assertRaisesRegex(ValueError, "domain"):
            CLRP1(model, 0.0, 1.0).attribute(input, 0)
        for layer in model:
            self.assertEqual(len(layer._forward_hooks), 0)
            self.assertEqual(len(layer._forward_pre_hooks), 0)

    def test_noise_tunnel(self) -> None:
        model, input = _get_model()
        for algorithm in BOTH:
            tunnel = NoiseTunnel(algorithm(model))
            attributions = tunnel.attribute(input, nt_samples=2, stdevs=0.0, target=1)
            expected = algorithm(model).attribute(input, target=1)
            assertTensorAlmostEqual(self, attributions, expected, delta=1e-10)

    def test_futures_not_implemented(self) -> None:
        for algorithm in BOTH:
            with self.assertRaises(NotImplementedError):
                algorithm(_get_model()[0]).attribute_future()
