"""Memory that was used before: for new memory the operating system often takes longer than the arithmetic in it."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST_THRESHOLD = 2**25
"""Bytes up to which the C library of Linux adapts what it takes for a large piece of memory."""


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what tensors free, up to 64 MB, instead of giving it back piece by piece and asking anew.

    The GNU C library learns from the largest piece that was freed so far (``mallopt(3)``, "dynamic mmap threshold"): pieces
    below it come from a heap, of which twice that size may lie free. A network of small pictures frees pieces of some
    megabytes, and the activations of each pass would be new memory. One piece of nearly the largest size, never written to,
    costs some microseconds. Whoever has set ``MALLOC_`` variables keeps what they say; other C libraries take no notice.
    """
    torch.empty(_LARGEST_THRESHOLD - 2**20, dtype=torch.uint8, device="cpu")


class _Block(NamedTuple):
    """A piece of memory and the tensor that lies in it, for as long as that lives."""

    storage: torch.UntypedStorage
    user: weakref.ref[Tensor]


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
