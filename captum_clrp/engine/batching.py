"""Explaining a large batch in parts (``internal_batch_size``, Captum's name), so that it fits a memory budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_clrp.engine._captum import is_tuple
from captum_clrp.engine.borrowed import tuple_of_inputs
from captum_clrp.errors import InvalidInputError


def rows(value: Any, count: int, part: slice) -> Any:
    """The rows of ``value`` that belong to a part of ``count`` examples; what is not counted by example stays whole.

    A list with an entry for each example is divided; one of tensors that are counted by example is a structure.
    """
    if isinstance(value, Tensor):
        return value[part] if _counts(value, count) else value
    if isinstance(value, list) and len(value) == count and not any(_counts(v, count) for v in value):
        return value[part]
    if isinstance(value, dict):
        return {key: rows(v, count, part) for key, v in value.items()}
    if isinstance(value, list):
        return [rows(v, count, part) for v in value]
    if isinstance(value, tuple):
        parts = (rows(v, count, part) for v in value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _counts(value: Any, count: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == count


def in_batches(explain: Callable[..., Any], inputs: Any, size: int | None, *others: Any) -> Any:
    """``explain(inputs, *others)`` in parts of at most ``size`` examples, put together again.

    Args:
        explain: Returns a tensor, or nested tuples of tensors, each counted by example in dimension 0.
        inputs: A tensor or a tuple of tensors.
        size: Examples in a part; ``None`` for all at once.
        others: Further arguments; tensors and lists with one entry for each example are divided alike.

    Raises:
        InvalidInputError: if ``size`` is not a positive integer.
    """
    if size is None:
        return explain(inputs, *others)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidInputError(f"internal_batch_size={size!r} must be a positive integer, or None for one batch")
    first = next(iter(tuple_of_inputs(inputs)), None)
    count = len(first) if isinstance(first, Tensor) and first.dim() > 0 else 0  # what is no input, ``explain`` refuses
    if count <= size:
        return explain(inputs, *others)
    results = [
        explain(
            tuple(x[part] for x in inputs) if is_tuple(inputs) else inputs[part],
            *(rows(other, count, part) for other in others),
        )
        for part in (slice(begin, begin + size) for begin in range(0, count, size))
    ]
    return _concatenated(results)


def _concatenated(results: list[Any]) -> Any:
    if isinstance(results[0], tuple):
        return tuple(_concatenated(list(column)) for column in zip(*results, strict=True))
    return torch.cat(results)
