"""The one kind of error that the command reports as a single line and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["CommandError", "nearest"]


class CommandError(Exception):
    """Something the user can put right; its message says what was given and what to do."""


def nearest(word: str, candidates: Iterable[str], count: int = 5) -> list[str]:
    """Candidates that a mistyped ``word`` may have meant, best first.

    A very similar spelling comes first, then those that hold it as a word, those that hold it at all, and what is
    spelled somewhat alike.
    """
    wanted = word.lower()
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    holding = sorted(
        (name for name in by_lower if wanted in name), key=lambda name: (wanted not in name.split(), len(name), name)
    )
    similar = difflib.get_close_matches(wanted, by_lower, n=count, cutoff=0.6)
    best = similar[:1] + holding if similar and _ratio(wanted, similar[0]) > 0.85 else holding
    return [by_lower[name] for name in dict.fromkeys(best + similar)][:count]


def _ratio(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()
