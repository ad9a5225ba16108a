"""What the user chose for a propagation, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from captum_clrp.composites import AUTO, Composite
from captum_clrp.errors import InvalidInputError

__all__ = ["AveragePooling", "Settings"]

AveragePooling = Literal["proportional", "even"]


@dataclass(frozen=True)
class Settings:
    """Settings of a propagation.

    Attributes:
        avg_pool: How average pooling shares relevance.
        conserve: Whether relevance of outputs without positive contributions is spread instead of absorbed.
        rules: Which rule goes where.

    Raises:
        InvalidInputError: for an unknown ``avg_pool``.
    """

    avg_pool: AveragePooling = "proportional"
    conserve: bool = False
    rules: Composite = AUTO

    def __post_init__(self) -> None:
        if self.avg_pool not in get_args(AveragePooling):
            raise InvalidInputError(f"avg_pool={self.avg_pool!r} is not known; choose 'proportional' or 'even'")
