"""Quotients and questions to values, each with numbers that a reader can redo."""

from __future__ import annotations

import math

import pytest
import torch

from captum_clrp.engine.numerics import (
    all_finite,
    at_least_single,
    divide,
    is_nonnegative,
    stabilize,
    zero_if_not_finite,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("values", [[NAN, 1.0], [1.0, INF], [-INF, 1.0], [INF, -INF]])
def test_one_value_is_not_finite(values: list[float]) -> None:
    assert not all_finite(torch.tensor(values))


def test_all_values_are_finite() -> None:
    assert all_finite(torch.tensor([3e38, -3e38, 0.0]))
    assert all_finite(torch.tensor([]))


def test_no_value_is_negative() -> None:
    assert is_nonnegative(torch.tensor([0.0, 2.0]))
    assert not is_nonnegative(torch.tensor([-1e-30, 2.0]))
    assert not is_nonnegative(torch.tensor([]))  # nothing is known


def test_zero_where_there_is_nothing_to_share_by() -> None:
    assert zero_if_not_finite(torch.tensor([NAN, INF, -INF, 2.0])).tolist() == [0.0, 0.0, 0.0, 2.0]


def test_a_quotient_and_what_it_leaves() -> None:
    quotient, unshared = divide(torch.tensor([6.0, -6.0]), torch.tensor([3.0, 2.0]))
    assert quotient.tolist() == [2.0, -3.0]
    assert unshared is None
    quotient, unshared = divide(torch.tensor([6.0, 5.0, -4.0, 0.0]), torch.tensor([3.0, 0.0, 0.0, 0.0]))
    assert quotient.tolist() == [2.0, 0.0, 0.0, 0.0]
    assert unshared is not None
    assert unshared.tolist() == [0.0, 5.0, -4.0, 0.0]


def test_a_stabilizer_has_the_sign_of_what_it_stabilizes() -> None:
    assert stabilize(torch.tensor([2.0, -2.0, 0.0]), 0.5).tolist() == [2.5, -2.5, 0.5]


def test_values_are_computed_with_in_single_precision_at_least() -> None:
    types = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float32}
    for given, expected in {**types, torch.float64: torch.float64}.items():
        assert at_least_single(torch.ones(1, dtype=given)) == expected
