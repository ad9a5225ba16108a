"""Steps of the backward pass, worked by hand on two or three values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import alone
from torch import Tensor, nn

from captum_clrp import LRPZBeta, check_conservation
from captum_clrp.engine._captum import EpsilonRule
from captum_clrp.rules import Epsilon


def column(*values: float) -> Tensor:
    """One example of as many tokens of one channel: (1, N, 1)."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


@pytest.mark.parametrize(
    ("signal", "expected"),
    [((3, 1), (1 + 4.5, 2 + 1.5)), ((-3, 1), (1 + 4.5, 2 + 1.5)), ((0, 0), (1 + 3, 2 + 3))],
    ids=["in proportion to sizes", "of both signs", "evenly where all are zero"],
)
def test_relevance_of_a_constant_beside_the_signal(signal: tuple[float, ...], expected: tuple[float, ...]) -> None:
    """The constant in front receives 6; with `conserve` the two values of the signal share it."""
    model = alone(lambda x: torch.cat([column(5), x], 1), 1)
    x, start = column(*signal), column(6, 1, 2)
    spread = LRPZBeta(model, conserve=True).attribute(x, initial_relevance=start)
    torch.testing.assert_close(spread, column(*expected))
    torch.testing.assert_close(LRPZBeta(model).attribute(x, initial_relevance=start), column(1, 2))
    report = check_conservation(model, x, initial_relevance=start)
    assert (report.score, report.at_input, report.absorbed) == (9, 3, 6)


@pytest.mark.parametrize("rule", [EpsilonRule(), Epsilon(bias=True)], ids=["Captum's", "ours"])
def test_an_epsilon_rule_counts_for_the_very_module_that_has_it(rule: Any) -> None:
    """``y = x + 1``, values 1 and 3: on the normalisation itself the shift keeps its part, around it nothing changes."""
    norm = nn.BatchNorm1d(2, eps=0).double().eval()
    nn.init.ones_(norm.bias)
    x, start = torch.tensor([[1.0, 3.0]]).double(), torch.tensor([[2.0, 4.0]]).double()
    around = nn.Sequential(norm)
    for module, expected in ((None, [2.0, 4.0]), (around, [2.0, 4.0]), (norm, [1.0, 3.0])):
        if module is not None:
            module.rule = rule
        received = LRPZBeta(alone(around, 2)).attribute(x, initial_relevance=start)
        torch.testing.assert_close(received, torch.tensor([expected]).double())


def test_relevance_at_a_padded_place_goes_to_the_nearest_value() -> None:
    cases: list[tuple[tuple[int, ...], Tensor, list[Any]]] = [
        ((2, 1), torch.arange(1.0, 7).view(1, 1, 6), [[1 + 2 + 3, 4, 5 + 6]]),
        ((1, 0, 0, 1), torch.arange(1.0, 10).view(1, 1, 3, 3), [[[1 + 2, 3], [4 + 5 + 7 + 8, 6 + 9]]]),
        ((-1, 0), torch.tensor([[[1.0, 2.0]]]), [[0, 1, 2]]),
        ((0, 0, 0, -1), torch.arange(1.0, 5).view(1, 1, 2, 2), [[[1, 2], [3, 4], [0, 0]]]),
    ]
    for pad, start, expected in cases:
        shape = [size - sum(pad[2 * k : 2 * k + 2]) for k, size in enumerate(reversed(start.shape))][::-1]
        model = alone(lambda x, pad=pad: F.pad(x, pad), shape[-1])
        received = LRPZBeta(model).attribute(torch.ones(shape).double(), initial_relevance=start.double())
        torch.testing.assert_close(received, torch.tensor([expected]).double())
