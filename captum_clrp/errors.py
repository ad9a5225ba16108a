"""Everything that captum_clrp raises on purpose.

Each class also derives from what Captum (or Python) raises in the same situation, so that existing handlers keep
working: Captum raises ``TypeError`` for a module without rule and ``AssertionError`` for a bad target or an input that is no
tensor.
"""

from __future__ import annotations

import difflib
import sys
import types
import warnings
from collections.abc import Iterable
from typing import Any, get_args

__all__ = [
    "ClassifierError",
    "ContrastiveLRPError",
    "InvalidInputError",
    "InvalidTargetError",
    "ModelStateError",
    "UnsupportedOperationError",
    "check_choice",
    "how_to_install",
    "nearest",
    "suggestion",
    "warn",
]


class ContrastiveLRPError(Exception):
    """Base of all errors of this package."""


class InvalidInputError(ContrastiveLRPError, ValueError, AssertionError):
    """The inputs, their bounds or another argument cannot be used as given."""


class ClassifierError(InvalidInputError):
    """A classifier cannot be had as it was asked for.

    Attributes:
        argument: The argument of :func:`captum_clrp.classifiers.load_classifier` that it is about.
    """

    def __init__(self, message: str, argument: str = "name") -> None:
        super().__init__(message)
        self.argument = argument


class InvalidTargetError(ContrastiveLRPError, ValueError, AssertionError, IndexError):
    """The target (or the initial relevance) does not fit the model's output."""


class ModelStateError(ContrastiveLRPError, RuntimeError):
    """The model is in a state, or of a kind, in which its forward pass cannot be explained."""


class UnsupportedOperationError(ContrastiveLRPError, TypeError):
    """The model runs operations (or carries rules) for which no relevance rule is known."""


def warn(message: str) -> None:
    """A ``UserWarning`` that points at the line of the user's, past our own frames and Captum's.

    Args:
        message: What is to be said.
    """
    level = 1
    caller: types.FrameType | None = sys._getframe()
    while caller is not None and _is_ours(caller):
        level, caller = level + 1, caller.f_back
    warnings.warn(message, stacklevel=level if caller is not None else 2)


def _is_ours(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in ("captum", "captum_clrp")


def reason_of(error: Exception) -> str:
    """What somebody else's code raised, in a line that is not long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def how_to_install(extra: str) -> str:
    """What to run for the packages of an extra, as the README has it: the package is installed from a checkout.

    Args:
        extra: Its name in ``setup.cfg``.
    """
    return f'in a checkout of captum_clrp run: pip install ".[{extra}]"'


def check_choice(argument: str, given: object, kind: Any) -> None:
    """Refuse what is not one of a closed set of words.

    Args:
        argument: Its name.
        given: What was given for it.
        kind: The ``Literal`` of the words.

    Raises:
        InvalidInputError: naming them all.
    """
    *others, last = map(repr, get_args(kind))
    if given not in get_args(kind):
        raise InvalidInputError(f"{argument}={given!r} is not known; choose {', '.join(others)} or {last}")


def nearest(word: str, candidates: Iterable[str], count: int = 5) -> list[str]:
    """Candidates that a mistyped ``word`` may have meant, best first.

    A very similar spelling comes first, then those that hold it as a word, those that hold it at all, and what is
    spelled somewhat alike.

    Args:
        word: As it was given.
        candidates: What it may be.
        count: How many to return, at most.
    """
    wanted = word.lower()
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    holding = sorted(
        (name for name in by_lower if wanted in name), key=lambda name: (wanted not in name.split(), len(name), name)
    )
    similar = difflib.get_close_matches(wanted, by_lower, n=count, cutoff=0.6)
    very = similar and difflib.SequenceMatcher(None, wanted, similar[0]).ratio() > 0.85
    best = similar[:1] + holding if very else holding
    return [by_lower[name] for name in dict.fromkeys(best + similar)][:count]


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """A question with a blank behind it, for messages: what a mistyped ``word`` may have meant; empty for nothing like it.

    Args:
        word: As it was given.
        candidates: What it may be.
    """
    near = nearest(word, candidates, 1)
    return f"did you mean {near[0]}? " if near else ""
