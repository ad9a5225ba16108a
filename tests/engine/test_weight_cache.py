"""Derived weights are never stale, take no new memory each time, and are kept on request only."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import oracles
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP2, LRPZBeta, weights_at_rest
from captum_clrp.engine.linear_maps import FullyConnected, LinearMap

# Float64 rounding.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def network() -> nn.Sequential:
    """With a weight of more than a megabyte, so that memory is used again."""
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 500), nn.ReLU(), nn.Linear(500, 3))
    return nn.Sequential(*layers).double().eval()


def pictures() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()


def permuted(weight: Tensor) -> Tensor:
    """The same values in other places, so that no sum over them tells."""
    generator = torch.Generator().manual_seed(3)
    return weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight)


WRITES: dict[str, Callable[[nn.Parameter], Any]] = {
    "in place": lambda w: w.mul_(-1),
    "data in place": lambda w: w.data.mul_(-1),
    "part of a row of data": lambda w: w.data[1, ::3].mul_(-20),
    "half of the signs": lambda w: w.data[:, 1::2].neg_(),
    "data permuted": lambda w: w.data.copy_(permuted(w.data)),
    "data reversed": lambda w: w.data.copy_(w.data.flip(0, 1)),
    "data replaced": lambda w: setattr(w, "data", -w.data),
    "data replaced twice": lambda w: [setattr(w, "data", w.data * factor) for factor in (-3.0, 2.0)],
    "an optimizer": lambda w: torch.optim.SGD([w], lr=0.5).step(),
    "as an array": lambda w: w.detach().numpy().__imul__(-1),
}


@pytest.mark.parametrize("layer", [0, 3, 5])
@pytest.mark.parametrize("write", WRITES)
def test_a_map_is_that_of_the_weights_as_they_are(write: str, layer: int) -> None:
    model, x = network(), pictures()
    explainers = LRPZBeta(model, 0.0, 1.0), ContrastiveLRP2(model, 0.0, 1.0)
    before = [explainer.attribute(x, 1) for explainer in explainers]
    weight = model[layer].weight
    weight.grad = torch.ones_like(weight)
    with torch.no_grad():
        WRITES[write](weight)
    for explainer, old in zip(explainers, before, strict=True):
        actual = explainer.attribute(x, 1)
        fresh = type(explainer)(copy.deepcopy(model), 0.0, 1.0).attribute(x, 1)
        torch.testing.assert_close(actual, fresh, **CLOSE)
        assert not torch.equal(actual, old)


def test_a_map_follows_the_weights_after_training() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.rand(2, 3).double()
    LRPZBeta(model).attribute(x, target=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(x).sum().backward()
    optimizer.step()
    torch.testing.assert_close(LRPZBeta(model).attribute(x, target=0), oracles.lrp(model, x, 0), rtol=1e-9, atol=1e-9)


class Tied(nn.Module):
    """A convolution and a transposed convolution that share one parameter, of activations of both signs."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(4, 8, 3, bias=False), nn.ConvTranspose2d(8, 4, 3, bias=False)
        self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.up.weight = self.down.weight if shared else nn.Parameter(self.down.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(self.down(self.first(x))).mean((2, 3)))


def test_one_parameter_in_a_convolution_and_a_transposed_one() -> None:
    with weights_at_rest():
        tied, apart = (LRPZBeta(Tied(shared).double().eval()).attribute(pictures(), 1) for shared in (True, False))
    torch.testing.assert_close(tied, apart, **CLOSE)


def test_parameters_can_be_swapped_after_a_call() -> None:
    model, x = network(), pictures()
    expected = LRPZBeta(model).attribute(x, 1)
    other = nn.Parameter(model[3].weight.detach() * 2)
    torch.utils.swap_tensors(model[3].weight, other)
    assert not torch.equal(LRPZBeta(model).attribute(x, 1), expected)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.float().double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


# -- weights at rest -----------------------------------------------------------------------------------------------


def kinds(layer: LinearMap) -> list[Tensor]:
    return [layer.positive, layer.negative, layer.absolute, layer.transformed("square", torch.square)]


def test_derived_weights_are_kept_while_weights_rest_and_no_longer() -> None:
    weight = nn.Parameter(torch.randn(3, 4))
    with weights_at_rest():
        first = kinds(FullyConnected(weight))
        with weights_at_rest():
            second = kinds(FullyConnected(weight))
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert all(a is not b for a, b in zip(first, kinds(FullyConnected(weight)), strict=True))


def test_each_kind_of_derived_weights_is_kept_by_itself() -> None:
    with weights_at_rest():
        layer = FullyConnected(nn.Parameter(torch.tensor([[-1.0, 2.0]])))
        twins = layer, layer.with_negated_weights(), layer.in_double_precision()
        assert [twin.positive.tolist() for twin in twins] == [[[0, 2]], [[1, 0]], [[0, 2]]]
        assert [twin.negative.tolist() for twin in twins] == [[[-1, 0]], [[0, -2]], [[-1, 0]]]
        assert twins[2].positive.dtype == torch.float64


@pytest.mark.parametrize("write", ["in place", "data replaced", "an optimizer"])
def test_writes_that_pytorch_counts_are_noticed_even_there(write: str) -> None:
    weight = nn.Parameter(torch.randn(6, 4))
    weight.grad = torch.ones_like(weight)
    with weights_at_rest():
        before = FullyConnected(weight).positive.clone()
        with torch.no_grad():
            WRITES[write](weight)
        after = FullyConnected(weight).positive
    assert torch.equal(after, relu(weight.detach()))
    assert not torch.equal(after, before)


def relu(weight: Tensor) -> Tensor:
    return torch.where(weight > 0, weight, 0.0)


def test_weights_that_are_no_parameters_are_not_kept() -> None:
    weight = torch.randn(3, 4)
    with weights_at_rest():
        assert FullyConnected(weight).positive is not FullyConnected(weight).positive


def test_maps_of_weights_at_rest_are_the_same() -> None:
    model, x = network(), pictures()
    explainer = ContrastiveLRP2(model, 0.0, 1.0)
    expected = explainer.attribute(x, 1)
    with weights_at_rest():
        for _ in range(2):
            assert torch.equal(explainer.attribute(x, 1), expected)


def test_the_promise_of_one_thread_binds_no_other() -> None:
    weight = nn.Parameter(torch.randn(3, 4))
    found: list[bool] = []

    def work() -> None:
        found.append(FullyConnected(weight).positive is FullyConnected(weight).positive)

    with weights_at_rest():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [False]
