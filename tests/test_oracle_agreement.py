"""The maps of whole networks against the oracle, which is written from the paper and shares no code.

Networks have random weights and random biases. Maps of neighbouring classes of such networks are
nearly equal, which makes them a hard case for the contrasts: what is left after the difference is
small, and rounding errors count.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from helpers import oracles
from helpers.nets import HIGH, LOW, distance, pictures, small_net, small_pictures
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta

TARGETS = [3, 5]
METHODS = {"LRP": LRPZBeta, "CLRP1": ContrastiveLRP1, "CLRP2": ContrastiveLRP2}
ORACLES = {"LRP": oracles.lrp, "CLRP1": oracles.clrp1, "CLRP2": oracles.clrp2}
BOUNDS = {"own bounds": (None, None), "ImageNet bounds": (LOW, HIGH)}


class Pair(NamedTuple):
    """A network in both precisions, and pictures for it."""

    single: nn.Module
    double: nn.Module
    x: Tensor


@pytest.fixture(scope="module")
def alexnets(alexnet: nn.Module) -> Pair:
    # 160 x 160: the adaptive pooling in front of the classifier makes 6 x 6 of 4 x 4, in overlapping regions.
    return Pair(alexnet, copy.deepcopy(alexnet).double(), pictures(2, 160))


@pytest.fixture(scope="module")
def vgg11s(vgg11: nn.Module) -> Pair:
    return Pair(vgg11, copy.deepcopy(vgg11).double(), pictures(1, 64))


# --- 1. LRP, CLRP1 and CLRP2 against the oracle


def assert_agrees(nets: Pair, method: str, bounds: str) -> None:
    low, high = BOUNDS[bounds]
    targets = TARGETS[: len(nets.x)]
    expected = ORACLES[method](nets.double, nets.x, targets, low, high)
    double = METHODS[method](nets.double, low, high).attribute(nets.x.double(), targets)
    assert distance(double, expected) <= 1e-6  # measured: LRP 1e-15, CLRP1 and CLRP2 1e-11
    single = METHODS[method](nets.single, low, high).attribute(nets.x, targets)
    # LRP as promised; measured 8e-7. The contrasts are small differences: measured 1e-2 and less.
    assert distance(single, expected) <= (1e-4 if method == "LRP" else 5e-2)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("method", METHODS)
def test_alexnet_is_the_oracle(alexnets: Pair, method: str, bounds: str) -> None:
    assert_agrees(alexnets, method, bounds)


@pytest.mark.parametrize(
    ("method", "bounds"),
    [("LRP", "own bounds"), ("LRP", "ImageNet bounds"), ("CLRP1", "own bounds"), ("CLRP2", "ImageNet bounds")],
)
def test_vgg11_is_the_oracle(vgg11s: Pair, method: str, bounds: str) -> None:
    assert_agrees(vgg11s, method, bounds)


# Layers that AlexNet and VGG do not have; inputs of both signs reach the inner layers.
STACKS: dict[str, Callable[[], list[nn.Module]]] = {
    "batch norm, strided convolutions": lambda: [
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, groups=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(8 * 4 * 4, 5),
    ],
    "no activation": lambda: [
        nn.Conv2d(3, 4, 3, dilation=2),
        nn.Conv2d(4, 4, (4, 3), padding="same"),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 5),
    ],
    "padded average pooling": lambda: [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.Flatten(),
        nn.Linear(96, 5),
    ],
    "global average pooling": lambda: [
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(4, 6, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    ],
    "uneven average pooling": lambda: [
        nn.Conv2d(3, 4, 3),
        nn.AdaptiveAvgPool2d((3, 7)),
        nn.AvgPool2d((1, 3), stride=(2, 1), divisor_override=2),
        nn.Flatten(),
        nn.Linear(40, 5),
    ],
}


def stacked(name: str) -> nn.Sequential:
    model = nn.Sequential(*STACKS[name]()).double().eval()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
    return model


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("conserve", [False, True])
@pytest.mark.parametrize("avg_pool", ["even", "proportional"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", STACKS)
def test_other_layers_are_the_oracle(name: str, method: str, avg_pool: str, conserve: bool) -> None:
    model, x = stacked(name), pictures(2, 12).double()
    options: dict[str, Any] = {"avg_pool": avg_pool, "conserve": conserve}
    expected = ORACLES[method](model, x, [3, 1], **options)
    actual = METHODS[method](model, **options, rules="paper").attribute(x, [3, 1])
    assert distance(actual, expected) <= 1e-9


@pytest.mark.parametrize("method", ["CLRP1", "CLRP2"])
def test_signed_contrasts_are_the_oracle(method: str) -> None:
    model, x = stacked("batch norm, strided convolutions"), pictures(2, 12).double()
    expected = ORACLES[method](model, x, 2, relu=False)
    actual = METHODS[method](model).attribute(x, 2, relu_attributions=False)
    assert (actual < 0).any()
    assert distance(actual, expected) <= 1e-9


# --- 2. One pass equals two passes


def two_passes(method: str, model: nn.Module, x: Tensor, target: int) -> Tensor:
    """R - R_dual by two LRP maps; the dual of CLRP2 runs through a copy with negated weights."""
    with torch.no_grad():
        output = model(x)
    score = torch.zeros_like(output)
    score[:, target] = output[:, target].abs()
    concept = LRPZBeta(model, LOW, HIGH).attribute(x, initial_relevance=score)
    if method == "CLRP1":
        dual = score[:, target, None].repeat(1, output.shape[1]) / (output.shape[1] - 1)
        dual[:, target] = 0
    else:
        model, dual = copy.deepcopy(model), score
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.neg_()
    return concept - LRPZBeta(model, LOW, HIGH).attribute(x, initial_relevance=dual)


def one_pass(method: str, model: nn.Module, x: Tensor, target: int) -> Tensor:
    contrast = METHODS[method](model, LOW, HIGH)
    return contrast.attribute(x, target, relu_attributions=False)


@pytest.mark.parametrize("method", ["CLRP1", "CLRP2"])
def test_one_pass_equals_two_passes_on_a_residual_network(method: str) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    two = two_passes(method, model, x, 1)
    assert distance(one_pass(method, model, x, 1), two) <= 1e-9  # measured 1e-15


@pytest.mark.parametrize("method", ["CLRP1", "CLRP2"])
def test_one_pass_equals_two_passes_and_is_more_accurate(
    alexnets: Pair, method: str, record_property: Callable[[str, object], None]
) -> None:
    """Distances to float64, measured: CLRP1 3.9e-5 by one pass, 9.6e-3 by two; CLRP2 1.6e-4 and 1.1e-2."""
    x = alexnets.x[:1]
    exact = one_pass(method, alexnets.double, x.double(), 3)
    assert distance(two_passes(method, alexnets.double, x.double(), 3), exact) <= 1e-9
    one = distance(one_pass(method, alexnets.single, x, 3), exact)
    two = distance(two_passes(method, alexnets.single, x, 3), exact)
    record_property("one pass", one)
    record_property("two passes", two)
    assert one < two / 10


# --- 4. Average pooling


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_even_and_proportional_agree_where_pooling_is_the_identity(name: str, request: pytest.FixtureRequest) -> None:
    """At 224 x 224 the two networks of the paper: the pooled map already has the size asked for."""
    model, x = request.getfixturevalue(name), pictures(1, 224)
    even = LRPZBeta(model, LOW, HIGH, avg_pool="even").attribute(x, 3)
    proportional = LRPZBeta(model, LOW, HIGH).attribute(x, 3)
    assert distance(proportional, even) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_even_is_the_papers_rule_elsewhere(alexnets: Pair, method: str) -> None:
    x = alexnets.x[:1].double()
    expected = ORACLES[method](alexnets.double, x, 3, avg_pool="even")
    actual = METHODS[method](alexnets.double, avg_pool="even").attribute(x, 3)
    assert distance(actual, expected) <= 1e-6
    other = METHODS[method](alexnets.double).attribute(x, 3)
    assert distance(other, expected) > 1e-3  # here the two rules differ


def test_even_spreads_over_the_region_and_proportional_follows_the_activations() -> None:
    # One channel, pooled from (3, 1, 0, 0) to their mean, with a weight of 1 before and after.
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    model.double()
    nn.init.zeros_(model[3].bias)
    x = torch.tensor([[[[3.0, 1.0], [0.0, 0.0]]]]).double()
    # z^beta with low = 0 absorbs what arrives at pixels that are 0.
    for avg_pool, expected in [("even", [[0.25, 0.25], [0.0, 0.0]]), ("proportional", [[0.75, 0.25], [0.0, 0.0]])]:
        relevance = LRPZBeta(model, 0.0, 4.0, avg_pool=avg_pool).attribute(x)
        torch.testing.assert_close(relevance[0, 0], torch.tensor(expected).double())
