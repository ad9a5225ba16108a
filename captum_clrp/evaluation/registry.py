"""What can be named on the command line: kinds of metrics and of datasets, with the options that each declares.

A class enters the registry of its base class when it is defined. So a new one is one file: in the package, or anywhere
that Python imports from, named as ``PACKAGE.MODULE:NAME``.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from captum_clrp.errors import InvalidInputError

T = TypeVar("T")
_NAMED = re.compile(r"([^\W\d][\w.]*):([^\W\d]\w*)$")


@dataclass(frozen=True)
class Option:
    """An option of the command that a class takes as an argument of its constructor.

    Attributes:
        name: On the command line, with ``_`` for ``-``, and in the settings of a run.
        help: What it is, in a few words; owners and default are added.
        parse: From the text to the value; ``bool`` makes a switch.
        metavar: What stands for the value in the help.
        keyword: The constructor's argument and the attribute. Default: the name.
    """

    name: str
    help: str
    parse: Callable[[str], Any] = str
    metavar: str | None = None
    keyword: str = ""

    @property
    def argument(self) -> str:
        """The constructor's argument."""
        return self.keyword or self.name

    def default(self, owner: type) -> Any:
        """What the constructor of ``owner`` takes when nothing is given."""
        return inspect.signature(owner).parameters[self.argument].default


class Registry(dict[str, type[T]]):
    """Classes by name, in the order in which they were defined.

    Args:
        what: What they are, in the singular.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def add(self, name: str, kind: type[T]) -> None:
        """Enter a class; one that is defined again takes its own place.

        Args:
            name: Its name.
            kind: The class.

        Raises:
            InvalidInputError: if another class has that name.
        """
        before = self.get(name, kind)
        if (before.__module__, before.__qualname__) != (kind.__module__, kind.__qualname__):
            raise InvalidInputError(
                f"the {self.what} {name!r} of {kind.__module__} would take the place of {before.__module__}'s; rename it"
            )
        self[name] = kind

    def find(self, text: str) -> type[T]:
        """The class of a name, or of ``PACKAGE.MODULE:NAME``.

        Args:
            text: A name of the registry, or where to import the class from.

        Raises:
            InvalidInputError: if there is none.
        """
        if text in self:
            return self[text]
        match = _NAMED.match(text)
        if not match:
            raise InvalidInputError(
                f"unknown {self.what} {text!r}; choose from {', '.join(self)}, or name a class as PACKAGE.MODULE:NAME"
            )
        try:
            found = imported(match[1], match[2])
        except (ImportError, AttributeError) as error:
            raise InvalidInputError(
                f"the {self.what} {text} cannot be imported ({error}); give PACKAGE.MODULE:NAME of a class"
            ) from error
        if found not in self.values():
            raise InvalidInputError(
                f"{text} is no {self.what} with a name of its own; choose from {', '.join(self)}, or see the page on "
                "how to add one"
            )
        kind: type[T] = found
        return kind


def import_all(package: str) -> None:
    """Import every module of a package, so that what is defined there enters its registry.

    Args:
        package: Its name.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def imported(module: str, name: str) -> Any:
    """An object that a user named.

    Args:
        module: Its module.
        name: Its name there.
    """
    return getattr(importlib.import_module(module), name)


def source_checksum(module: str) -> str | None:
    """Of the file that a module comes from, if it is one that can be read.

    Args:
        module: Its name; it has been imported.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else None
    except OSError:
        return None
