"""One call of a torch function: its arguments, and which of them depend on the inputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

__all__ = ["Call", "depends_on_input", "flatten"]


def depends_on_input(value: Any) -> bool:
    """Whether ``value`` is a tensor computed from the explained inputs.

    Gradients are off while a model is recorded, except around recorded operations, which mark what they return.
    (Constants may have a graph of their own, from before; parameters require gradients, but are leaves.)
    """
    return (
        isinstance(value, Tensor) and value.requires_grad and value.grad_fn is not None and hasattr(value, "_clrp_info")
    )


def flatten(value: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dicts."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from flatten(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from flatten(item)
    else:
        yield value


def replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """Nested tuples, lists and dicts with each leaf changed."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replace(item, change) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(replace(item, change) for item in value)
    if isinstance(value, dict):
        return {key: replace(item, change) for key, item in value.items()}
    return change(value)


def _collect(values: Iterable[Any], found: list[Tensor]) -> None:
    """Tensors of nested arguments; every operation of a model passes here, hence no generators."""
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)


class Call:
    """A torch function with its arguments."""

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        found: list[Tensor] = []
        _collect(args, found)
        if kwargs:
            _collect(kwargs.values(), found)
        self.tensors = [t for t in found if t.is_floating_point()]
        """All floating-point tensors among the arguments, those in lists included."""
        self.tracked = [t for t in self.tensors if t.requires_grad and t.grad_fn is not None]
        """Those that depend on the inputs."""

    @property
    def name(self) -> str:
        return _name(self.func)

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """The argument at a position or of a name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def run(self) -> Any:
        return self.func(*self.args, **self.kwargs)

    def changed(self, change: Callable[[Any], Any]) -> Call:
        """The same call with each argument changed."""
        return Call(self.func, replace(self.args, change), replace(self.kwargs, change))

    def without_parameters(self) -> Call:
        """The same call with constants detached, so that its graph holds only what depends on the inputs."""
        return self.changed(
            lambda v: v.detach() if isinstance(v, Tensor) and v.requires_grad and not depends_on_input(v) else v
        )

    def as_function_of(self, signal: Tensor) -> Callable[[Tensor], Tensor]:
        """The call as a function of one argument; it does not keep the argument alive."""
        hole = object()
        rest = self.changed(lambda v: hole if v is signal else v.detach() if isinstance(v, Tensor) else v)
        return lambda values: rest.changed(lambda v: values if v is hole else v).run()

    @property
    def overwrites(self) -> bool:
        """Whether the function works in place on its first argument."""
        name = self.name
        if name.startswith("__i") or name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            return True
        position = _inplace_position(self.func)
        return position is not None and bool(self.get(position, "inplace", False))


@functools.lru_cache(maxsize=1024)
def _name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__name__", None) or str(func)
    return name if name != "__get__" else str(getattr(func.__self__, "__name__", name))  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=1024)
def _inplace_position(func: Callable[..., Any]) -> int | None:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names else None
