"""Steps of the backward pass, worked by hand on two or three values."""

from __future__ import annotations

import pytest
import torch
from helpers.networks import alone
from torch import Tensor

from captum_clrp import LRPZBeta, check_conservation


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
