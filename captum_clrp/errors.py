"""Everything that captum_clrp raises on purpose.

Each class also derives from what Captum (or Python) raises in the same situation, so that existing handlers keep
working: Captum raises ``TypeError`` for a module without rule and ``AssertionError`` for a bad target.
"""

__all__ = [
    "ContrastiveLRPError",
    "InvalidInputError",
    "InvalidTargetError",
    "ModelStateError",
    "UnsupportedOperationError",
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
