"""One call of a torch function: its arguments by name, and which of them depend on the inputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import get_testing_overrides

from captum_clrp.engine.marks import depends_on_input, derived_from
from captum_clrp.engine.nested import replace

_NUMBERS = frozenset((int, float, bool, str, type(None)))


def _collect(values: Iterable[Any], found: list[Tensor]) -> None:
    """Tensors of nested arguments; every operation of a model passes here, hence no generators."""
    for value in values:
        if type(value) in _NUMBERS:
            continue
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)


class Function(NamedTuple):
    """What is known of a torch function.

    Attributes:
        name: What users call it.
        in_place: Whether it works in place.
        parameters: Names of its positional arguments.
        rest: Name of what follows them.
        may_be_in_place: Whether it takes ``inplace=True``.
    """

    name: str
    in_place: bool
    parameters: tuple[str, ...]
    rest: str
    may_be_in_place: bool


class Call:
    """A torch function with its arguments.

    Attributes:
        function: What is known of the function.
        tensors: All tensors of real or complex numbers among the arguments, those in lists included, that of ``out=`` not.
        derived: What some tensor among the arguments was derived from, if it depends on the inputs by sign or place only.
    """

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.function = _function(func)
        found: list[Tensor] = []
        _collect(args, found)
        if kwargs:
            _collect((value for name, value in kwargs.items() if name != "out"), found)
        self.tensors = [t for t in found if t.is_floating_point() or t.is_complex()]
        self.derived = next(filter(None, map(derived_from, found)), None)
        self._tracked: list[Tensor] | None = None
        self._bound: dict[str, Any] | None = None

    @property
    def tracked(self) -> list[Tensor]:
        """The tensors that depend on the inputs."""
        if self._tracked is None:  # Python 3.11 locks for each cached property
            self._tracked = [t for t in self.tensors if depends_on_input(t)]
        return self._tracked

    @property
    def name(self) -> str:
        return self.function.name

    def _bind(self) -> dict[str, Any]:
        names, rest = self.function.parameters, self.function.rest
        bound = dict(zip(names, self.args, strict=False))
        for name, value in self.kwargs.items():
            bound[_SAME.get(name, name)] = value
        if len(self.args) > len(names):
            bound[rest] = self.args[len(names) :]
        return bound

    def get(self, name: str, default: Any = None) -> Any:
        """The argument of a name, given by position or by keyword."""
        bound = self._bound
        if bound is None:
            bound = self._bound = self._bind()
        return bound.get(name, default)

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
        return self.function.in_place or (self.function.may_be_in_place and bool(self.get("inplace", False)))

    @property
    def overwritten(self) -> Any:
        """What the function works on in place; ``None`` if it leaves its arguments alone."""
        return None if not self.overwrites else self.args[0] if self.args else self.get("input")


@functools.lru_cache(maxsize=1024)
def _function(func: Callable[..., Any]) -> Function:
    names, rest = _parameters(func)
    return Function(_name(func), _in_place(func), names, rest, "inplace" in names)


def _name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__name__", None) or str(func)
    return name if name != "__get__" else str(getattr(func.__self__, "__name__", name))  # type: ignore[attr-defined]


_OPERATORS = "add sub mul truediv div floordiv mod pow matmul and or xor lshift rshift"
_AUGMENTED = frozenset(f"__i{operator}__" for operator in _OPERATORS.split())


def _in_place(func: Callable[..., Any]) -> bool:
    """PyTorch's convention: a trailing underscore; and Python's own operators that assign."""
    name = _name(func)
    return name in _AUGMENTED or name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


_SAME = {
    "self": "input",
    "axis": "dim",
    "keepdims": "keepdim",
    "min_val": "min",
    "max_val": "max",
    "train": "training",
    "mat2": "other",
    "vec": "other",
}
"""Arguments that PyTorch names in several ways, and the name that handlers ask for."""

_UNLISTED: dict[str, str] = {
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), "input dim unbiased keepdim"),
    **dict.fromkeys(("max", "min", "amax", "amin", "mean", "sum"), "input dim keepdim"),
}
"""Positional arguments of functions of which ``get_testing_overrides`` lists only some."""


def _parameters(func: Callable[..., Any]) -> tuple[tuple[str, ...], str]:
    """Names of the positional arguments, and a name for those that follow.

    Python functions know them, of C functions ``get_testing_overrides`` does; where it lists only another spelling of an
    operation, that one serves: ``relu`` for ``relu_``, ``F.hardtanh`` for ``torch._C._nn.hardtanh``.
    """
    name = _name(func).removesuffix("_") if _in_place(func) else _name(func)
    if name in _UNLISTED:
        return tuple(_UNLISTED[name].split()), "*"
    listed = _listed_signatures()
    spellings = [func, *(getattr(home, name, None) for home in (torch, torch.Tensor, F))]
    for spelling in spellings:
        for known in (spelling, listed.get(spelling)):
            names = _positional(known) if known is not None else None
            if names is not None:
                return names
    return (), "*"


@functools.cache
def _listed_signatures() -> dict[Any, Any]:
    return get_testing_overrides()


def _positional(func: Callable[..., Any]) -> tuple[tuple[str, ...], str] | None:
    """What a Python function calls its positional arguments; ``None`` if it does not tell."""
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return None
    names = tuple(
        _SAME.get(p.name, p.name) for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    )
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "*")
    return (tuple(name for name in names if name != "out"), rest) if names else None
