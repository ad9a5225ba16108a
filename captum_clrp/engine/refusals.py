"""Operations without a rule: noted while the model runs on, so that one error can name them all."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from captum_clrp.errors import UnsupportedOperationError


class Refusal(NamedTuple):
    """An operation without a rule."""

    operation: str
    module: str
    reason: str


class Refusals:
    """What was refused in one pass."""

    def __init__(self) -> None:
        self._anywhere: dict[Refusal, bool] = {}

    def note(self, refusal: Refusal, *, anywhere: bool) -> Refusal:
        """Remember one.

        Args:
            refusal: What was refused.
            anywhere: Whether it matters wherever relevance goes; otherwise only if relevance would reach it.
        """
        self._anywhere[refusal] = self._anywhere.get(refusal, False) or anywhere
        return refusal

    @property
    def matter(self) -> bool:
        """Whether there is one that matters wherever relevance goes."""
        return any(self._anywhere.values())

    def raise_if_any(self, reached: Collection[Refusal] | None = None) -> None:
        """One error for all operations that have no rule.

        Args:
            reached: Only those that relevance would reach, besides those of which that is not known. Default: all.

        Raises:
            UnsupportedOperationError: if there is any.
        """
        refusals = [r for r, anywhere in self._anywhere.items() if reached is None or anywhere or r in reached]
        if not refusals:
            return
        listed = "\n".join(f"  - {r.operation} in module '{r.module}': {r.reason}" for r in refusals)
        raise UnsupportedOperationError(
            f"no relevance rule is known for {len(refusals)} operation(s) of this model, so a map would be "
            f"silently wrong:\n{listed}\n"
            "What to do: explain a part of the model without them (LayerLRPZBeta and its contrastive twins stop at a "
            "layer), replace them, or add a row to captum_clrp.engine.operations.TABLE if you know how they share relevance."
        )
