"""Weights derived from those of the model (such as ``W+``): made when they are needed, kept only on request.

PyTorch does not tell of every write to a parameter (``weight.data.mul_(2)`` counts no version, nor does a fused kernel), and
to look whether a weight is still the same costs as much as to derive it anew. So derived weights live as long as the
operation that asked for them. What makes that cheap is memory that was used before: for new
memory the operating system takes five times as long as the arithmetic.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captum_clrp.engine._torch import version_of


class _Block(NamedTuple):
    """A piece of memory and the tensor that lies in it, for as long as that lives."""

    storage: torch.UntypedStorage
    user: weakref.ref[Tensor]


class _Cached(NamedTuple):
    """A derived weight, and the parameter as it was then."""

    weight: nn.Parameter
    state: tuple[object, ...]
    values: Tensor


WeightCache = dict[Hashable, _Cached]

_cache: ContextVar[WeightCache | None] = ContextVar("derived weights", default=None)


@contextlib.contextmanager
def weights_at_rest() -> Iterator[None]:
    """Keep derived weights from call to call, for as long as nothing writes to the model's parameters.

    For many calls on one model: inside, the positive parts of the weights are computed once and kept, at most one copy of
    the weights for each model; they are given back at the end. Writes that PyTorch counts (optimizers, ``load_state_dict``,
    ``copy_``) are noticed all the same; a write through ``.data`` is not, and calls after it would take the old weights.

    The promise holds for the thread that gives it.
    """
    if _cache.get() is not None:
        yield
        return
    token = _cache.set({})
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # left by nobody, and thrown away in another thread
            _cache.reset(token)


def current_cache() -> WeightCache | None:
    """What is kept in this thread; asked while the model runs, for backward passes have threads of their own."""
    return _cache.get()


def derived_weight(
    weight: Tensor, key: Hashable, derive: Callable[[Tensor], Tensor], cache: WeightCache | None = None
) -> Tensor:
    """``derive(weight)``; what is kept of ``weight`` if it is a parameter that rests (see :func:`weights_at_rest`)."""
    if cache is None or not isinstance(weight, nn.Parameter) or weight.is_inference():
        return derive(weight.detach())
    state = (weight.data_ptr(), version_of(weight), weight.dtype, weight.device, weight.shape)
    entry = (id(weight), key)
    found = cache.get(entry)
    if found is None or found.state != state:
        found = cache[entry] = _Cached(weight, state, derive(weight.detach()))
    return found.values


class _Memory(threading.local):
    """The two largest pieces of memory that derived weights of this thread were in."""

    _COUNT = 2  # an output layer needs W and -W at a time
    _SMALL = 2**20  # bytes; less than this comes back from the allocator

    def __init__(self) -> None:
        self._blocks: list[_Block] = []

    def empty(self, size: Sequence[int], dtype: torch.dtype, device: torch.device, *, retained: bool = False) -> Tensor:
        """An uninitialised tensor, in memory that nobody uses any more if there is enough of it.

        Accelerators have allocators that keep memory anyway.

        Args:
            size: Of the tensor.
            dtype: Its type.
            device: Where it is to be.
            retained: Whether it will live beside others, which may need a larger piece: it takes one that fits exactly.
        """
        needed = torch.Size(size).numel() * dtype.itemsize
        if device.type != "cpu" or needed < self._SMALL:
            return torch.empty(size, dtype=dtype, device=device)
        free = sorted(
            (block for block in self._blocks if block.user() is None), key=lambda block: block.storage.nbytes()
        )
        fitting = (block for block in free if block.storage.nbytes() >= needed)
        block = next((block for block in fitting if not retained or block.storage.nbytes() == needed), None)
        if block is not None:
            # no view of anything: views of it keep it, and so its memory, in use
            tensor = torch.empty(0, dtype=dtype).set_(block.storage).resize_(size)
            self._blocks.remove(block)
        else:
            tensor = torch.empty(size, dtype=dtype)
            if len(self._blocks) == self._COUNT:
                smallest = min(self._blocks, key=lambda block: block.storage.nbytes())
                if smallest.storage.nbytes() >= needed:
                    return tensor
                self._blocks.remove(smallest)
        self._blocks.append(_Block(tensor.untyped_storage(), weakref.ref(tensor)))
        return tensor

    def clear(self) -> None:
        """Give all of it back to the operating system."""
        self._blocks.clear()


memory = _Memory()
"""The memory of this thread; ``memory.clear()`` gives it back."""
