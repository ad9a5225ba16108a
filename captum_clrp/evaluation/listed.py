"""A sequence whose items are read when they are asked for, by position among their names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar, overload

Item = TypeVar("Item", covariant=True)


class Listed(Sequence[Item]):
    """What datasets and sources share: names, positions from both ends, slices, and what a run asks of the data."""

    name: str
    ids: Sequence[str]
    own_classes: int | None = None
    has_places: bool = True

    @abstractmethod
    def _read(self, position: int) -> Item:
        """The item at a position from 0 to the last."""

    def settings(self) -> dict[str, Any]:
        """What was asked for, besides the place of the data: lists, sets of objects, maps of classes."""
        return {}

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self._read(index % len(self))
