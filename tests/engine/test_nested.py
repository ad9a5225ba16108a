"""Structures of values: their leaves, and the same structure with other leaves."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from typing import Any

from captum_clrp.engine.nested import flatten, replace

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass(frozen=True)
class Output:
    logits: int
    hidden: Any = None


class Named(OrderedDict):  # type: ignore[type-arg]
    """A dict with an attribute for each entry, as Hugging Face's outputs are."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        object.__setattr__(self, key, value)


def test_leaves_in_order() -> None:
    value = (1, [2, {"a": 3, "b": (4,)}], Pair(5, Output(6, [7])), "text", None)
    assert list(flatten(value)) == [1, 2, 3, 4, 5, 6, 7, "text", None]
    assert list(flatten([])) == []


def test_a_structure_keeps_its_types_and_the_given_one_its_values() -> None:
    named = Named()
    named["logits"] = 9
    value = (1, [2, {"a": 3}], Pair(4, Output(5, [6])), named)
    changed = replace(value, lambda leaf: leaf * 10)
    assert changed[:3] == (10, [20, {"a": 30}], Pair(40, Output(50, [60])))
    assert isinstance(changed[2], Pair)
    assert isinstance(changed[3], Named)
    assert (changed[3]["logits"], changed[3].logits) == (90, 90)
    assert value[:3] == (1, [2, {"a": 3}], Pair(4, Output(5, [6])))
    assert (named["logits"], named.logits) == (9, 9)
