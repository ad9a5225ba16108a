"""Questions to the graph of a recorded pass: which operations make an output, and what leads where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from torch import Tensor

from captum_clrp.engine.nodes import PassThrough, Pooling, Refused, Weighted
from captum_clrp.engine.refusals import Refusal


def nearest_weighted(output: Tensor) -> list[Any]:
    """Autograd functions of the weighted operations nearest to ``output``: usually one, several where branches meet."""
    return [f for f in up_to_weighted(output) if _is_weighted(f)]


def up_to_weighted(output: Tensor) -> Set[Any]:
    """The functions that relevance of ``output`` meets up to the nearest weighted operations, these among them."""
    return _functions_behind([output.grad_fn], _is_weighted)


def form_output_layer(output: Tensor, nearest: Sequence[Any]) -> bool:
    """Whether every path from ``output`` to the inputs goes through exactly one of these operations first."""
    goes_around = any(not _is_weighted(f) and not _followers(f) for f in up_to_weighted(output))
    behind = _functions_behind([f for function in nearest for f in _followers(function)])
    return not goes_around and behind.isdisjoint(nearest)


def means_behind(outputs: Iterable[Tensor]) -> list[Pooling]:
    """The means that relevance meets behind the output layer."""
    nearest = [function for output in outputs for function in nearest_weighted(output)]
    behind = _functions_behind([f for function in nearest for f in _followers(function)])
    return [f.node for f in behind if isinstance(getattr(f, "node", None), Pooling)]


def made_of(result: Tensor, source: Tensor) -> bool:
    """Whether ``result`` was computed from ``source`` value by value, by operations on this one tensor."""
    at, end = (result.grad_fn, result.output_nr), (source.grad_fn, source.output_nr)
    while at != end:
        following = [edge for edge in getattr(at[0], "next_functions", ()) if edge[0] is not None]
        if len(following) != 1 or not isinstance(getattr(at[0], "node", None), PassThrough | None):
            return False
        (at,) = following
    return True


def refused_between(output: Tensor, receivers: Iterable[Tensor]) -> set[Refusal]:
    """What relevance would meet of operations without a rule, on its way from ``output`` to one of ``receivers``."""
    ends = {tensor.grad_fn for tensor in receivers}
    behind = _functions_behind([output.grad_fn])
    refused = [f for f in behind if isinstance(getattr(f, "node", None), Refused)]
    return {f.node.refusal for f in refused if not ends.isdisjoint(_functions_behind(_followers(f)))}


def _is_weighted(function: Any) -> bool:
    return isinstance(getattr(function, "node", None), Weighted)


def _followers(function: Any) -> list[Any]:
    return [f for f, _ in function.next_functions if f is not None]


def _functions_behind(start: Sequence[Any], ends_at: Callable[[Any], bool] = lambda function: False) -> Set[Any]:
    """The functions of the graph from ``start`` on; what ``ends_at`` accepts is the last of its path."""
    seen: dict[Any, None] = {}
    stack = list(start)
    while stack:
        function = stack.pop()
        if function is None or function in seen:
            continue
        seen[function] = None
        if not ends_at(function):
            stack.extend(_followers(function))
    return seen.keys()
