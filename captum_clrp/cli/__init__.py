"""The command ``captum-clrp``: :mod:`~captum_clrp.cli.explain`, :mod:`~captum_clrp.cli.evaluate`, :mod:`~captum_clrp.cli.serve`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import captum_clrp
from captum_clrp.cli import evaluate, explain, serve
from captum_clrp.cli.errors import CommandError
from captum_clrp.errors import ContrastiveLRPError, suggestion

_COMMANDS = (explain, evaluate, serve)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name. Default: those of the process.

    Returns:
        0 on success, 2 if the request cannot be met (one line on stderr says why and what to do), 130 on Ctrl-C.
    """
    interrupted = "nothing was begun"
    try:
        with _leaving_at_once(), _looking_for_no_garbage() if argv is None else contextlib.nullcontext():
            options = _parser().parse_args(argv)
            for module in options.needs:  # takes seconds
                with contextlib.suppress(ImportError):  # of an extra that is missing the command itself tells
                    importlib.import_module(module)
        interrupted = options.interrupted
        _remarked.clear()
        with warnings.catch_warnings(), _current_folder_last():
            warnings.showwarning = _remark
            code: int = options.run(options)
        sys.stdout.flush()
        return code
    except SystemExit as end:  # --help and --version
        return end.code if isinstance(end.code, int) else 0
    except (CommandError, ContrastiveLRPError) as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain(f"interrupted; {interrupted}")
        return _INTERRUPTED
    except BrokenPipeError:  # the reader, such as "head", has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, say; what was written before is whole
        _complain(f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error}); {interrupted}")
        return 2


_INTERRUPTED = 130


@contextlib.contextmanager
def _leaving_at_once() -> Iterator[None]:
    """While libraries are imported, Ctrl-C ends the process at once: an import that is broken off ends in anything."""

    def leave(*_: object) -> None:
        _complain("interrupted; nothing was begun")
        sys.stderr.flush()
        os._exit(_INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _looking_for_no_garbage() -> Iterator[None]:
    """While libraries are imported, and never among what they leave behind: all of that is needed to the end.

    Going through it again and again takes Python a fifth of the time until the first explanation.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _current_folder_last() -> Iterator[None]:
    """Code of the user's own is found in the current folder, if it is nowhere else."""
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


class _Parser(argparse.ArgumentParser):
    """Reports mistakes as everything else here does: one line.

    Attributes:
        fill: Adds options that take time to find out, given the arguments; called when they are needed.
    """

    fill: Callable[[argparse.ArgumentParser, Sequence[str]], None] | None = None

    def complete(self, arguments: Sequence[str] = ()) -> None:
        """Make sure that all options are there."""
        fill, self.fill = self.fill, None
        if fill is not None:
            fill(self, arguments)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.complete(args or ())
        known, unknown = super().parse_known_args(args, namespace)
        if unknown and not hasattr(known, "stranded"):  # a command is read before what stands around it
            known.stranded = self
        return known, unknown

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known.stranded.refuse(unknown)
        return known

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Tell of arguments that are not known, and of the option that the first of them may be meant for."""
        option = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
        offered = re.findall(r"^ +(?:-\w[^-]*)?(--[\w-]+)", self.format_help(), re.MULTILINE)
        meant = suggestion(option, offered).rstrip() if option else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{'; ' if meant else ''}{meant}")

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="captum-clrp",
        description="Contrastive layer-wise relevance propagation: which parts of a picture are evidence for a class.",
    )
    parser.add_argument("--version", action="version", version=f"captum-clrp {captum_clrp.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _remark(message: Warning | str, *_: object, **__: object) -> None:
    if str(message) not in _remarked:
        _remarked.add(str(message))
        _complain(f"note: {message}")


_remarked: set[str] = set()


def _complain(message: str) -> None:
    line = " ".join(message.split()).encode("utf-8", "backslashreplace").decode()
    sys.stderr.write(f"captum-clrp: {line}\n")
