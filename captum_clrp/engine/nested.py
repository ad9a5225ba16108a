"""Nested structures of values, as functions take and modules return them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any


def flatten(value: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists, dicts and dataclasses."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from flatten(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from flatten(item)
    elif _is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from flatten(getattr(value, field.name, None))
    else:
        yield value


def replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure with each leaf changed."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replace(item, change) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(replace(item, change) for item in value)
    if type(value) is dict:
        return {key: replace(item, change) for key, item in value.items()}
    if isinstance(value, dict):  # with further contents, such as the attributes of Hugging Face's outputs
        twin = copy.copy(value)
        for key, item in value.items():
            twin[key] = replace(item, change)
        return twin
    if _is_dataclass(value):
        twin = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(twin, field.name, replace(getattr(value, field.name), change))
        return twin
    return change(value)


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of a plain object, those in slots included."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**getattr(value, "__dict__", {}), **{name: getattr(value, name, None) for name in slots}}


def _is_dataclass(value: Any) -> bool:
    return hasattr(type(value), "__dataclass_fields__")
