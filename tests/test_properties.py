"""What holds for every network, on networks that hypothesis draws.

``CLRP_RANDOM_NETWORKS=5000 pytest tests/test_properties.py`` draws so many fresh ones; a normal run a few dozen, the same
every time.
"""

from __future__ import annotations

import copy
import os
import warnings

import pytest
import torch
from helpers.random_networks import RandomNetwork, random_networks
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta, check_conservation

COUNT = int(os.environ.get("CLRP_RANDOM_NETWORKS", "0"))
drawn = settings(
    max_examples=COUNT or 40,
    derandomize=not COUNT,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
Drawn = tuple[RandomNetwork, Tensor]


def close(actual: Tensor, expected: Tensor, scale: Tensor) -> None:
    """Equal up to rounding of amounts such as ``scale``."""
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=1e-9 * max(1.0, float(scale.abs().max())))


def scores(model: RandomNetwork, x: Tensor, target: int) -> Tensor:
    with torch.no_grad():
        output = model(x)
    initial = torch.zeros_like(output)
    initial[:, target] = output[:, target]
    return initial


@pytest.mark.parametrize("conserve", [False, True])
@drawn
@given(random_networks())
def test_relevance_is_that_of_the_dense_oracle(conserve: bool, network: Drawn) -> None:
    model, x = network
    initial = scores(model, x, 1)
    expected = model.relevance(x, initial, conserve=conserve)
    close(LRPZBeta(model, conserve=conserve, rules="paper").attribute(x, 1), expected, initial)


@drawn
@given(random_networks())
def test_contrasts_are_those_of_the_dense_oracle(network: Drawn) -> None:
    model, x = network
    score = scores(model, x, 2).abs()
    others = score.sum(1, keepdim=True) / 3 * (torch.arange(4) != 2)
    concept = model.relevance(x, score)
    clrp1, clrp2 = (
        method(model, rules="paper").attribute(x, 2, relu_attributions=False)
        for method in (ContrastiveLRP1, ContrastiveLRP2)
    )
    close(clrp1, concept - model.relevance(x, others), score)
    close(clrp2, concept - model.relevance(x, score, negated=True), score)


@drawn
@given(random_networks())
def test_nothing_is_lost(network: Drawn) -> None:
    """At the input arrives the score, or the score less what the ledger of the operations says was absorbed."""
    model, x = network
    initial = scores(model, x, 0)
    conserved, delta = LRPZBeta(model, conserve=True).attribute(x, 0, return_convergence_delta=True)
    close(conserved.sum((1, 2, 3)), initial.sum(1), initial)
    close(delta, torch.zeros_like(delta), initial)
    report = check_conservation(model, x, 0)
    assert report.at_input + report.absorbed == pytest.approx(float(initial.sum()), abs=1e-9)


@drawn
@given(random_networks())
def test_relevance_is_linear_in_the_initial_relevance(network: Drawn) -> None:
    model, x = network
    first, second = torch.randn(2, 2, 4, dtype=torch.float64)
    lrp = LRPZBeta(model, conserve=True)

    def explain(initial: Tensor) -> Tensor:
        return lrp.attribute(x, initial_relevance=initial)

    together = explain(3 * first - 2 * second)
    close(together, 3 * explain(first) - 2 * explain(second), 10 * first)


@drawn
@given(random_networks())
def test_the_network_is_as_it_was(network: Drawn) -> None:
    model, x = network
    before, input_before = copy.deepcopy(model.state_dict()), x.clone()
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a contrast may vanish
        maps = [ContrastiveLRP2(model).attribute(x, 3) for _ in range(2)]
    assert torch.equal(*maps)
    assert torch.equal(x, input_before)
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert attributes == {name: set(vars(module)) for name, module in model.named_modules()}
