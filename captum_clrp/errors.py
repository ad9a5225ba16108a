"""Everything that captum_clrp raises on purpose.

Each class also derives from what Captum (or Python) raises in the same situation, so that existing handlers keep
working: Captum raises ``TypeError`` for a module without rule and ``AssertionError`` for a bad target.
"""

from __future__ import annotations

import sys
import types
import warnings

__all__ = [
    "ContrastiveLRPError",
    "InvalidInputError",
    "InvalidTargetError",
    "ModelStateError",
    "UnsupportedOperationError",
    "warn",
]


class ContrastiveLRPError(Exception):
    """Base of all errors of this package."""


class InvalidInputError(ContrastiveLRPError, ValueError):
    """The inputs, their bounds or another argument cannot be used as given."""


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
