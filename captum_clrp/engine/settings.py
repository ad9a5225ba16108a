"""What the user chose for a propagation, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captum_clrp.composites import AUTO, Composite
from captum_clrp.errors import check_choice

AveragePooling = Literal["proportional", "even"]
Precision = Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class Settings:
    """Settings of a propagation.

    Attributes:
        avg_pool: How average pooling shares relevance.
        conserve: Whether relevance of outputs without positive contributions is spread instead of absorbed.
        rules: Which rule goes where.
        precision: In which arithmetic sums of contributions of one sign are formed.

    Raises:
        InvalidInputError: for an unknown ``avg_pool`` or ``precision``.
    """

    avg_pool: AveragePooling = "proportional"
    conserve: bool = False
    rules: Composite = AUTO
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_choice("avg_pool", self.avg_pool, AveragePooling)
        check_choice("precision", self.precision, Precision)
