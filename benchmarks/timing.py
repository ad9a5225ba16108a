"""Time several calls side by side, so that what the machine does meanwhile meets all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.isolation import one_line

Call = Callable[[], object]
REPEATS = 5


@dataclass
class Timing:
    """Seconds of each round of one call, or the error it raised."""

    seconds: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def minimum(self) -> float:
        """Least disturbed round."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Middle round."""
        return statistics.median(self.seconds)


def interleaved(
    calls: Mapping[str, Call],
    *,
    rounds: int,
    synchronize: Call = lambda: None,
    budget: float = float("inf"),
    least_rounds: int = 3,
    turn: float = 0.0,
) -> dict[str, Timing]:
    """Time each call once per round, starting each round with another one.

    Every call runs once before, untimed: caches fill and failures show. Garbage is collected outside
    the timed stretch, so that no call pays for the cycles another left behind.

    Args:
        calls: name to call without arguments.
        rounds: number of rounds.
        synchronize: waits until an accelerator has finished.
        budget: seconds after which no further round starts, once ``least_rounds`` are done.
        least_rounds: rounds to do whatever they take.
        turn: seconds that a call is repeated for when it is its turn, at most :data:`REPEATS` times;
            the fastest counts. Short calls are disturbed relatively more.

    Returns:
        Name to :class:`Timing`, in the order given; a call that raised holds its error instead.
    """
    timings = {name: Timing() for name in calls}
    for name, call in calls.items():
        try:
            call()
            synchronize()
        except Exception as error:
            timings[name].error = one_line(error)
    alive = [name for name, timing in timings.items() if timing.error is None]
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    try:
        for index in range(rounds):
            if index >= least_rounds and time.perf_counter() - start > budget:
                break
            first = index % max(1, len(alive))
            for name in alive[first:] + alive[:first]:
                fastest = spent = _seconds_of(calls[name], synchronize)
                for _ in range(REPEATS - 1):
                    if spent >= turn:
                        break
                    seconds = _seconds_of(calls[name], synchronize)
                    fastest, spent = min(fastest, seconds), spent + seconds
                timings[name].seconds.append(fastest)
    finally:
        gc.unfreeze()
    return timings


def _seconds_of(call: Call, synchronize: Call) -> float:
    gc.collect()
    gc.disable()
    try:
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        return time.perf_counter() - start
    finally:
        gc.enable()
