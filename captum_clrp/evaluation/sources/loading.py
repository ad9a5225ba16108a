"""Reading ahead: the next images are decoded while the network is busy with the current ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(read: Callable[[A], B], items: Iterable[A], count: int = 2, threads: int = 2) -> Iterator[B]:
    """``map(read, items)`` with at most ``count`` results waiting, read by threads."""
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as readers:
        waiting: deque[Future[B]] = deque(readers.submit(read, item) for item in islice(remaining, count))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(readers.submit(read, item) for item in islice(remaining, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
