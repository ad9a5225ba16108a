"""What belongs to which example when a batch is explained in parts."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from helpers.nets import small_net, small_pictures
from torch import Tensor

from captum_clrp import LRPZBeta
from captum_clrp.engine.batching import in_batches, rows
from captum_clrp.errors import ContrastiveLRPError, InvalidInputError

PART = slice(2, 4)
BY_EXAMPLE = torch.arange(10).view(5, 2)
Pair = namedtuple("Pair", "first second")


def test_rows_of_what_is_counted_by_example() -> None:
    assert rows(BY_EXAMPLE, 5, PART).tolist() == [[4, 5], [6, 7]]
    assert rows([0, 1, 2, 3, 4], 5, PART) == [2, 3]
    assert rows([(0, 1)] * 4 + [(9, 9)], 5, slice(4, 6)) == [(9, 9)]
    assert rows({"mask": BY_EXAMPLE, "scale": 2.0}, 5, PART)["mask"].tolist() == [[4, 5], [6, 7]]


def test_everything_else_stays_whole() -> None:
    weights = torch.ones(3, 5)
    for value in (weights, torch.tensor(7.0), 5, "text", None):
        assert rows(value, 5, PART) is value
    assert rows([0, 1, 2], 5, PART) == [0, 1, 2]


def test_structures_keep_their_type() -> None:
    first, second = rows((BY_EXAMPLE, "text"), 5, PART)
    assert (first.tolist(), second) == ([[4, 5], [6, 7]], "text")
    pair = rows(Pair(BY_EXAMPLE, 1), 5, PART)
    assert isinstance(pair, Pair)
    assert (pair.first.tolist(), pair.second) == ([[4, 5], [6, 7]], 1)
    # Five tensors of five examples: a structure, not an entry for each example.
    five = rows([BY_EXAMPLE] * 5, 5, PART)
    assert [x.tolist() for x in five] == [[[4, 5], [6, 7]]] * 5


def calls_of(count: int, size: int | None) -> list[int]:
    """Examples in each call."""
    seen: list[int] = []

    def explain(inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        return inputs * 2

    x = torch.arange(count * 3.0).view(count, 3)
    assert torch.equal(in_batches(explain, x, size), x * 2)
    return seen


def test_parts_are_as_large_as_allowed_and_all_examples_are_there() -> None:
    assert calls_of(5, 2) == [2, 2, 1]
    assert calls_of(4, 2) == [2, 2]
    assert calls_of(3, 1) == [1, 1, 1]
    assert calls_of(3, 3) == [3]
    assert calls_of(3, 100) == [3]
    assert calls_of(3, None) == [3]


def test_tuples_are_divided_and_put_together() -> None:
    def explain(inputs: tuple[Tensor, Tensor], factor: Tensor) -> Any:
        return (inputs[0] * factor, inputs[1]), factor

    a, b, factor = torch.rand(5, 2), torch.rand(5, 3), torch.rand(5, 1)
    (first, second), third = in_batches(explain, (a, b), 2, factor)
    assert torch.equal(first, a * factor)
    assert torch.equal(second, b)
    assert torch.equal(third, factor)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "2"])
def test_a_size_that_is_none(size: Any) -> None:
    with pytest.raises(InvalidInputError, match="internal_batch_size"):
        in_batches(lambda x: x, BY_EXAMPLE, size)


@pytest.mark.parametrize("inputs", [torch.tensor(1.0), None, "picture", [[1.0]]], ids=["0-d", "None", "text", "list"])
def test_inputs_that_are_none_are_refused_as_without_parts(inputs: Any) -> None:
    messages = []
    for size in (None, 1):
        with pytest.raises((ContrastiveLRPError, AssertionError, TypeError)) as caught:
            LRPZBeta(small_net()).attribute(inputs, 1, internal_batch_size=size)
        messages.append((caught.type, str(caught.value)))
    assert messages[0] == messages[1]
    assert LRPZBeta(small_net()).attribute(small_pictures(), 1, internal_batch_size=1).shape == (2, 3, 12, 12)
