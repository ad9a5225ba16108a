"""Run one function over many arguments in worker processes that may hang, crash or be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any


@dataclass
class Outcome:
    """What became of one argument: its ``value``, or an ``error`` in one line."""

    argument: Any
    value: Any = None
    error: str | None = None


@dataclass
class _Worker:
    process: Any
    connection: Connection
    argument: Any = None
    busy: bool = False
    deadline: float = field(default=0.0)


def isolated(
    function: Callable[[Any], Any],
    arguments: Iterable[Any],
    *,
    workers: int = 1,
    limit: float = 120.0,
    threads: int | None = None,
    reuse: bool = True,
) -> Iterator[Outcome]:
    """Call ``function`` on each argument in a process of its own kind, and yield as they finish.

    Args:
        function: importable by name (it is sent to another process), as are its results.
        arguments: in the order in which they are started.
        workers: number of processes at a time.
        limit: seconds after which a process is ended and its argument reported as failed.
        threads: threads of each worker; ``None`` leaves torch's default.
        reuse: let a process take the next argument; ``False`` starts afresh for each, which is what
            a measurement of peak memory needs.
    """
    queue = iter(arguments)
    crew: list[_Worker] = []
    exhausted = False
    try:
        while True:
            while not exhausted and sum(w.busy for w in crew) < workers:
                try:
                    argument = next(queue)
                except StopIteration:
                    exhausted = True
                    break
                worker = next((w for w in crew if not w.busy), None) or _hire(function, threads)
                if worker not in crew:
                    crew.append(worker)
                worker.argument, worker.busy = argument, True
                worker.deadline = time.monotonic() + limit
                worker.connection.send(argument)
            if not any(w.busy for w in crew):
                return
            for worker, outcome in _finished(crew, limit):
                worker.busy = False
                if not reuse or outcome is None or not worker.process.is_alive():
                    _dismiss(worker)
                    crew.remove(worker)
                if outcome is None:
                    outcome = Outcome(worker.argument, error=f"no result within {limit:g} s")
                yield outcome
    finally:
        for worker in crew:
            _dismiss(worker)


def _finished(crew: list[_Worker], limit: float) -> list[tuple[_Worker, Outcome | None]]:
    busy = [w for w in crew if w.busy]
    patience = max(0.0, min(w.deadline for w in busy) - time.monotonic())
    ready = set(wait([w.connection for w in busy], timeout=patience))
    results: list[tuple[_Worker, Outcome | None]] = []
    for worker in busy:
        if worker.connection in ready:
            try:
                value, error = worker.connection.recv()
            except EOFError:
                worker.process.join(5)
                value, error = None, f"the process ended with code {worker.process.exitcode}"
            results.append((worker, Outcome(worker.argument, value, error)))
        elif time.monotonic() >= worker.deadline:
            results.append((worker, None))
    return results


def _hire(function: Callable[[Any], Any], threads: int | None) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function, threads), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _dismiss(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.kill()
    worker.process.join(10)


def _work(connection: Connection, function: Callable[[Any], Any], threads: int | None) -> None:
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            argument = connection.recv()
            value, problem = None, None
            try:
                value = function(argument)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                problem = f"{one_line(error)} (line {where.lineno} of {where.name})"
            connection.send((value, problem))


def one_line(error: BaseException, length: int = 160) -> str:
    """Class and message of an exception, shortened to one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= length else text[: length - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class TimeLimitError(Exception):
    """Raised inside :func:`time_limit` when the time is over."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeLimitError` in the body after ``seconds`` (main thread; elsewhere no limit)."""

    def over(signum: int, frame: FrameType | None) -> None:
        raise TimeLimitError(f"more than {seconds:g} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    try:
        before = signal.signal(signal.SIGALRM, over)
    except ValueError:  # not the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
