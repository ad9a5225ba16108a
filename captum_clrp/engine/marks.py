"""What is known of the tensors that depend on the inputs: a mark on each of them, for the time of one pass."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_clrp.bounds import Bounds, own_range
from captum_clrp.engine._torch import base_of, version_of


class Info(NamedTuple):
    """What is known of a tensor that depends on the inputs.

    ``nonnegative``: no value is negative. ``gate``: values that scale a signal (a sigmoid's, say). ``attention``: weights
    that a softmax made, or one linear map of them, as where heads talk to each other. ``bounds``: the domain of the input,
    carried as far as the first weighted operation. ``signed``: the operation that gave it values of both signs, as
    ``"add in 'blocks.3'"``, as long as no rectifying activation has followed.
    """

    nonnegative: bool = False
    gate: bool = False
    attention: bool = False
    bounds: Bounds | None = None
    signed: str | None = None


class Mark(NamedTuple):
    """An :class:`Info` as it is kept on a tensor.

    Attributes:
        info: What is known.
        version: How often the memory of the tensor had been written to then.
        bearer: Identity of the tensor: some subclasses hand their attributes on to results.
        roots: How many tensors relevance could be read at when the tensor was made.
    """

    info: Info
    version: int
    bearer: int
    roots: int


def _mark_of(tensor: Any) -> Mark | None:
    mark: Mark | None = getattr(tensor, "_clrp_mark", None)
    return mark if mark is not None and mark.bearer == id(tensor) else None


def is_marked(tensor: Tensor) -> bool:
    """Whether it was computed from the inputs of the pass that is recorded."""
    return _mark_of(tensor) is not None


def depends_on_input(value: Any) -> bool:
    """Whether ``value`` is a tensor computed from the explained inputs, which relevance can reach.

    Gradients are off while a model is recorded, except around recorded operations, which mark what they return.
    (Constants may have a graph of their own, from before; parameters require gradients, but are leaves.)
    """
    if not isinstance(value, Tensor):
        return False
    mark: Mark | None = getattr(value, "_clrp_mark", None)
    return mark is not None and mark.bearer == id(value) and value.requires_grad and not value.is_leaf


def info_of(tensor: Tensor) -> Info:
    """What is known of a marked tensor; less, if it was overwritten through a view."""
    mark = _mark_of(tensor)
    if mark is None:
        return Info()
    if mark.version == version_of(tensor):
        return mark.info
    return Info(bounds=_still_valid(mark.info.bounds, tensor))


def _still_valid(bounds: Bounds | None, tensor: Tensor) -> Bounds | None:
    """Bounds of a tensor that was overwritten through a view, or its own range where they no longer hold."""
    if bounds is None:
        return None
    slack = 1e-5 * float((bounds.high - bounds.low).abs().amax())
    inside = (tensor >= bounds.low - slack) & (tensor <= bounds.high + slack)
    return bounds if bool(inside.all()) else own_range(tensor)


class Derived(NamedTuple):
    """On a constant that was made from the inputs by their signs or places (``sign``, comparisons, casts to integers).

    Attributes:
        source: The tensor that it was made from.
        operation: By what.
        bearer: Identity of the constant.
    """

    source: Tensor
    operation: str
    bearer: int


def derived_from(tensor: Tensor) -> Derived | None:
    """What a constant was made from; ``None`` for one that does not depend on the inputs at all."""
    derived: Derived | None = getattr(tensor, "_clrp_derived", None)
    return derived if derived is not None and derived.bearer == id(tensor) else None


class Marks:
    """The marks of one pass.

    Attributes:
        roots: The tensors that relevance may be read at: the inputs, and what layers returned.
    """

    def __init__(self) -> None:
        self.roots: list[Tensor] = []
        self._bearers: list[weakref.ref[Tensor]] = []

    def set(self, tensor: Tensor, info: Info) -> Tensor:
        """Mark a tensor."""
        tensor._clrp_mark = Mark(info, version_of(tensor), id(tensor), len(self.roots))  # type: ignore[attr-defined]
        self._bearers.append(weakref.ref(tensor))
        return tensor

    def set_derived(self, tensor: Tensor, source: Tensor, operation: str) -> None:
        """Mark a constant that was made from ``source``."""
        tensor._clrp_derived = Derived(source, operation, id(tensor))  # type: ignore[attr-defined]
        self._bearers.append(weakref.ref(tensor))

    def same_memory(self, tensor: Tensor) -> Tensor | None:
        """The marked tensor that holds the very same values in the same memory, if there is one."""

        def memory_of(of: Tensor) -> tuple[object, ...]:
            return of.untyped_storage().data_ptr(), of.storage_offset(), of.shape, of.stride()

        bearers = (bearer() for bearer in reversed(self._bearers))
        others = (t for t in bearers if t is not None and t is not tensor and depends_on_input(t))
        return next((other for other in others if memory_of(other) == memory_of(tensor)), None)

    def roots_of(self, tensor: Tensor) -> list[Tensor]:
        """The roots that a marked tensor may have been computed from."""
        mark = _mark_of(tensor)
        return self.roots[: mark.roots] if mark is not None else []

    def clear(self) -> None:
        """The pass is over: whatever is kept of it (a state, a buffer, an argument) is a constant without a graph."""
        bearers, self._bearers, self.roots = self._bearers, [], []
        kept = [tensor for bearer in bearers if (tensor := bearer()) is not None]
        bearers.clear()  # a tensor with weak references cannot be swapped
        for tensor in kept:
            vars(tensor).pop("_clrp_mark", None)
            vars(tensor).pop("_clrp_derived", None)
        for tensor in kept:
            if tensor.requires_grad and base_of(tensor) is None:
                tensor.detach_()
        for tensor in kept:  # views do not detach in place
            if tensor.requires_grad:
                with contextlib.suppress(RuntimeError):  # with weak references of the user's; the next pass refuses it
                    torch.utils.swap_tensors(tensor, tensor.detach())
