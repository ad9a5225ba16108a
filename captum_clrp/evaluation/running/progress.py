"""How far a run is, at which rate, and how long it will take."""

from __future__ import annotations

import sys

from tqdm import tqdm

from captum_clrp.evaluation.running.processes import Team


class Progress:
    """A line on stderr, in the leading process: images done, rate, time left.

    With several processes the leader counts its own images and multiplies; batches are dealt out evenly.

    Args:
        total: Images altogether.
        done: Images that an earlier run has done.
        team: The processes.
        quiet: Whether to show nothing.
        what: What is being done.
    """

    def __init__(self, total: int, done: int, team: Team, *, quiet: bool = False, what: str = "images") -> None:
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=what,
            unit="image",
            file=sys.stderr,
            disable=quiet or not team.leads,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
        )
        self._total, self._factor = total, team.size

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._bar.n = self._total
            self._bar.refresh()
        self._bar.close()

    def add(self, count: int) -> None:
        """Count images of this process."""
        self._bar.update(min(count * self._factor, max(0, self._total - self._bar.n)))
