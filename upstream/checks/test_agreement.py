"""The changed Captum and captum_clrp give the same numbers on sequential networks, though they share no code."""

from __future__ import annotations

from collections.abc import Callable

import captum.attr
import pytest
import torch
from captum.attr._utils.lrp_rules import ZBetaRule, ZPlusRule
from torch import Tensor, nn

import captum_clrp

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor . did not already require gradients")


def perceptron() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 7)), torch.randn(4, 6)


def convolutions() -> tuple[nn.Module, Tensor]:
    """As VGG: convolutions, maximum pooling, fully connected layers."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 10, 3, stride=2, groups=2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
    )
    return Classifier(model, nn.Sequential(nn.Dropout(), nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 7))), torch.randn(
        3, 3, 20, 20
    )


def signed() -> tuple[nn.Module, Tensor]:
    """Layers whose inputs have both signs."""
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Linear(9, 7)), torch.randn(4, 6)


class Classifier(nn.Module):
    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.features(x), 1))


NETWORKS = [perceptron, convolutions, signed]
BOUNDS = [(None, None), (-5.0, 6.0)]


def network(make: Callable[[], tuple[nn.Module, Tensor]], dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    model, inputs = make()
    return model.eval().to(dtype), inputs.to(dtype)


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    """To 1e-5 of the largest value."""
    scale = ours.abs().max()
    assert scale > 0
    torch.testing.assert_close(ours / scale, theirs.detach() / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("name", ["ContrastiveLRP1", "ContrastiveLRP2"])
def test_contrast(
    name: str, make: Callable[[], tuple[nn.Module, Tensor]], low: float | None, high: float | None, dtype: torch.dtype
) -> None:
    model, inputs = network(make, dtype)
    for relu in (True, False):
        ours = getattr(captum_clrp, name)(model, low, high, rules="paper")
        theirs = getattr(captum.attr, name)(model, low, high)
        for target in (2, [6, 0, 3, 1][: len(inputs)]):
            assert_equal(
                ours.attribute(inputs, target, relu_attributions=relu),
                theirs.attribute(inputs, target, relu_attributions=relu),
            )


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("make", NETWORKS)
def test_rules_and_initial_relevance(
    make: Callable[[], tuple[nn.Module, Tensor]], low: float | None, high: float | None
) -> None:
    model, inputs = network(make, torch.float64)
    initial = torch.randn(len(inputs), 7, dtype=torch.float64)
    ours = captum_clrp.LRPZBeta(model, low, high, rules="paper").attribute(inputs, initial_relevance=initial)
    weighted = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for module in weighted:
        module.rule = ZPlusRule()
    weighted[0].rule = ZBetaRule(low, high)
    assert_equal(ours, captum.attr.LRP(model).attribute(inputs, initial_relevance=initial))
