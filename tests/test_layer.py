"""Relevance at hidden layers: the oracle's relevance of every layer, and what Captum's layer attributions accept."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import oracles
from helpers.nets import BOX, assert_same, distance, row, small_net, small_pictures, two_layer_net
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    LayerContrastiveLRP1,
    LayerContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    ModelStateError,
    UnsupportedOperationError,
)

LAYERED = {LayerLRPZBeta: LRPZBeta, LayerContrastiveLRP1: ContrastiveLRP1, LayerContrastiveLRP2: ContrastiveLRP2}
CONTRASTS = [LayerContrastiveLRP1, LayerContrastiveLRP2]


def stack() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 7),
        nn.ReLU(),
        nn.Linear(7, 5),
    )
    return model.double().eval()


def oracle_layers(method: type, model: nn.Sequential, x: Tensor, target: int) -> list[Tensor]:
    """Signed relevance at the input of every layer and at the output."""
    layers = oracles.layers_of(model)
    output = oracles.activations(layers, x)[-1]
    score = torch.zeros_like(output)
    score[:, target] = output[:, target]
    if method is LayerLRPZBeta:
        return oracles.relevance_layers(layers, x, score)
    score = score.abs()
    if method is LayerContrastiveLRP1:
        others = (score[:, target, None] / 4).repeat(1, 5)
        others[:, target] = 0
        dual = oracles.relevance_layers(layers, x, others)
    else:
        dual = oracles.relevance_layers(layers, x, score, output_rule="negated")
    return [r - d for r, d in zip(oracles.relevance_layers(layers, x, score), dual, strict=True)]


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize("method", LAYERED)
def test_relevance_of_every_layer_is_the_oracles(method: type, index: int, at_input: bool) -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    expected = oracle_layers(method, model, x, 3)[index if at_input else index + 1]
    options: dict[str, Any] = {} if method is LayerLRPZBeta else {"relu_attributions": False}
    explain = method(model, model[index])
    actual = explain.attribute(x, 3, attribute_to_layer_input=at_input, **options)
    assert actual.shape == expected.shape
    assert not actual.requires_grad
    assert distance(actual, expected) <= 1e-9


@pytest.mark.parametrize("method", CONTRASTS)
def test_contrasts_of_layers_keep_their_positive_part(method: Any) -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    signed = method(model, model[4]).attribute(x, 3, relu_attributions=False)
    assert (signed < 0).any()
    assert torch.equal(method(model, model[4]).attribute(x, 3), signed.clamp(min=0))


@pytest.mark.parametrize("method", LAYERED)
def test_the_input_of_the_first_layer_is_the_models_input(method: Any) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    at_layer = method(model, model.conv1).attribute(x, target=1, attribute_to_layer_input=True)
    assert_same(at_layer, LAYERED[method](model).attribute(x, target=1))


def test_layers_by_hand() -> None:
    model, x = two_layer_net(), torch.ones(1, 2).double()
    # Class 0 has its score 1 from hidden unit 1; its weights negated would have it from unit 2.
    assert_same(LayerLRPZBeta(model, model[1], *BOX).attribute(x, target=0), row(1, 0))
    contrast = LayerContrastiveLRP2(model, model[1], *BOX)
    assert_same(contrast.attribute(x, target=0, relu_attributions=False), row(1, -1))
    # The dual of CLRP1: 1/2 each on class 1 (unit 1) and class 2 (unit 2).
    contrast = LayerContrastiveLRP1(model, model[1], *BOX)
    assert_same(contrast.attribute(x, target=0, relu_attributions=False), row(0.5, -0.5))


def test_delta_is_what_was_absorbed_above_the_layer() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    relevance, delta = LayerLRPZBeta(model, model.conv2).attribute(x, target=1, return_convergence_delta=True)
    score = model(x)[:, 1].detach()
    assert_same(delta, score - relevance.flatten(1).sum(1))


def test_initial_relevance_additional_arguments_and_further_options() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor, factor: float) -> Tensor:
            return self.fc2(torch.relu(self.fc1(x))) * factor

    model, x = Scaled().double(), torch.rand(2, 4).double()
    explain = LayerLRPZBeta(model, model.fc1, conserve=True)
    one = explain.attribute(x, 1, 1.0)
    assert_same(explain.attribute(x, 1, 3.0), one * 3)
    start = model(x, 1.0).detach() * torch.tensor([0.0, 1.0, 0.0])
    assert_same(explain.attribute(x, None, 1.0, initial_relevance=start), one)
    assert_same(one.sum(1), model(x, 1.0)[:, 1].detach())


def test_avg_pool_and_bounds_reach_the_layer_variants() -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    even = LayerLRPZBeta(model, model[5], avg_pool="even").attribute(x, 3)
    assert distance(even, LayerLRPZBeta(model, model[5]).attribute(x, 3)) > 1e-3
    wide = LayerLRPZBeta(model, model[0], -9.0, 9.0)
    tight = LayerLRPZBeta(model, model[0])
    at_input = {"target": 3, "attribute_to_layer_input": True}
    assert distance(wide.attribute(x, **at_input), tight.attribute(x, **at_input)) > 1e-3


def test_a_layer_that_works_in_place_leaves_what_was_read() -> None:
    """The layer in front of an in-place ReLU gives its output away; what is read is what it was."""
    model, x = stack(), small_pictures(2, torch.float64)
    outside = copy.deepcopy(model)
    for module in outside:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    assert_same(LayerLRPZBeta(model, model[1]).attribute(x, 3), LayerLRPZBeta(outside, outside[1]).attribute(x, 3))


class Pairs(nn.Module):
    """A layer that takes and returns two tensors, as inner blocks of some networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.split = Split()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.split(torch.relu(self.fc(x)))
        return self.head(torch.cat([b, a], 1))


class Split(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :1], x[:, 1:]


def test_a_layer_of_several_tensors_gives_a_tuple() -> None:
    model, x = Pairs().double(), torch.rand(2, 4).double()
    first, second = LayerLRPZBeta(model, model.split).attribute(x, target=1)
    whole = LayerLRPZBeta(model, model.split).attribute(x, 1, attribute_to_layer_input=True)
    assert isinstance(whole, Tensor)
    assert_same(torch.cat([first, second], 1), whole)


# --- errors


def test_a_layer_that_does_not_run_is_refused() -> None:
    model, x = small_net(), small_pictures()
    with pytest.raises(ModelStateError, match="Linear does not run"):
        LayerLRPZBeta(model, nn.Linear(2, 2)).attribute(x, target=1)


def test_a_layer_that_runs_twice_is_refused() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    with pytest.raises(ModelStateError, match="ReLU runs 2 times"):
        LayerLRPZBeta(model, relu).attribute(torch.rand(2, 4), target=1)


def test_a_layer_beside_the_input_is_refused() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.constant = nn.Linear(4, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.constant(torch.ones(1, 3))

    model = Beside()
    with pytest.raises(ModelStateError, match="no tensor at this layer depends on the inputs"):
        LayerLRPZBeta(model, model.constant).attribute(torch.rand(2, 4), target=1)


def test_operations_in_front_of_the_layer_need_no_rule() -> None:
    """Relevance is read behind them, so what they would do with it does not matter."""

    class Unruly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(torch.relu(self.fc1(x.cumsum(1))))

    model, x = Unruly().double(), torch.rand(2, 4).double()
    with pytest.raises(UnsupportedOperationError, match="cumsum"):
        LRPZBeta(model).attribute(x, target=1)
    relevance = LayerLRPZBeta(model, model.fc1, conserve=True).attribute(x, target=1)
    assert_same(relevance.sum(1), model(x)[:, 1].detach())
