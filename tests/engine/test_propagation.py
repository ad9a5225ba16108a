"""A lost factor of two shows in the number of convolutions and matrix products, without timing anything.

The floor is three per layer: the forward pass, the denominator, and the transposed pass. Each further class costs one
more per layer. CLRP1 costs nothing extra, CLRP2 two more at the output layer (denominator and transpose for ``-W``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.profiler import ProfilerActivity, profile

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.engine import linear_maps

HEAVY = ("aten::convolution", "aten::convolution_backward", "aten::addmm", "aten::mm", "aten::bmm")


def count(run: Callable[[], object], operations: tuple[str, ...] = HEAVY) -> int:
    """How many convolutions and matrix products PyTorch's profiler sees."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    return sum(event.count for event in profiled.key_averages() if event.key in operations)


def layers_of(model: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules())


@pytest.fixture(params=["alexnet", "resnet18"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    torch.manual_seed(0)
    monkeypatch.setattr(linear_maps, "_LARGE", math.inf)  # a layer in blocks takes several operations for one
    return torchvision.models.get_model(request.param, weights=None).eval()


@pytest.mark.filterwarnings("ignore:precision=.bfloat16")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lrp_takes_three_operations_per_layer(model: nn.Module, precision: str) -> None:
    x = torch.rand(1, 3, 64, 64)
    method = LRPZBeta(model, precision=precision)
    assert count(lambda: method.attribute(x, 5)) == 3 * layers_of(model)


@pytest.mark.parametrize("method", [LRPZBeta, ContrastiveLRP1])
def test_a_layer_in_blocks_multiplies_as_often_as_one_of_three_operations(method: type[LRPZBeta]) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(2048, 2100), nn.ReLU(), nn.Linear(2100, 3)).eval(), torch.rand(2, 2048)
    with torch.no_grad():  # relevance for every output
        model[0].bias.fill_(9.0)
        model[2].weight.abs_()
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiled:
        method(model, 0.0, 1.0).attribute(x, 1)
    products = [event for event in profiled.key_averages() if event.key in ("aten::mm", "aten::addmm")]
    assert sum(event.count for event in products) > 3 * layers_of(model)
    first, second = 2 * 2 * 2048 * 2100, 2 * 2 * 2100 * 3
    assert (
        sum(event.flops for event in products) == (1 + 2 * 2) * first + 3 * second
    )  # of W+ and W-: x has a lower bound


def test_the_contrast_is_free(model: nn.Module) -> None:
    x = torch.rand(1, 3, 64, 64)
    assert count(lambda: ContrastiveLRP1(model).attribute(x, 5)) == 3 * layers_of(model)
    assert count(lambda: ContrastiveLRP2(model).attribute(x, 5)) == 3 * layers_of(model) + 2


def test_each_further_class_takes_one_operation_per_layer(model: nn.Module) -> None:
    x = torch.rand(1, 3, 64, 64)
    calls = count(lambda: LRPZBeta(model).attribute_classes(x, [1, 2, 3, 4, 5]))
    assert calls == (3 + 4) * layers_of(model)


@pytest.mark.parametrize(("groups", "more"), [(1, 0), (2, 2)])
def test_activations_of_both_signs_meet_their_weights_side_by_side(groups: int, more: int) -> None:
    """Only grouped convolutions need one more denominator and one more transposed pass for them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=groups), nn.Flatten(), nn.Linear(144, 3)).eval()
    calls = count(lambda: LRPZBeta(model).attribute(torch.randn(1, 3, 10, 10), 1))
    assert calls == 3 * layers_of(model) + more


def test_a_pointwise_convolution_of_one_example_is_a_matrix_product() -> None:
    """On a CPU that is faster; it is still three operations."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten()).eval()
    x = torch.rand(2, 3, 3, 3)
    products = [count(lambda n=n: LRPZBeta(model).attribute(x[:n], 1), ("aten::mm",)) for n in (1, 2)]
    assert products == [2, 0]
    assert count(lambda: LRPZBeta(model).attribute(x[:1], 1)) == 3 * layers_of(model)
