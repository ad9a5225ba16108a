"""What every dataset is: a named sequence of photographs with their classes and the places of the objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import overload

from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.geometry import Box

__all__ = ["Dataset", "MissingDatasetError", "Photograph", "Target", "ilsvrc_wnids", "read_rgb"]


class MissingDatasetError(InvalidInputError, FileNotFoundError):
    """A dataset is not where it was looked for; the message says what to download and where to put it."""


@dataclass(frozen=True)
class Target:
    """A class that a photograph shows.

    Attributes:
        label: Index of the network's output.
        name: What the dataset calls the class.
        boxes: Where it is, in pixels of the photograph; empty where the dataset does not tell.
        mask: Draws the exact region instead (a picture of mode ``L``, 255 on the object), where the dataset knows it.
        hard: Whether it belongs to the difficult set of the pointing game: the object covers less than a quarter of
            the photograph, and there is an object of another class (Zhang et al. 2016).
    """

    label: int
    name: str
    boxes: tuple[Box, ...] = ()
    mask: Callable[[], Image.Image] | None = field(default=None, repr=False, compare=False)
    hard: bool = False

    @property
    def located(self) -> bool:
        """Whether the dataset tells where the object is."""
        return bool(self.boxes) or self.mask is not None


@dataclass(frozen=True)
class Photograph:
    """A photograph with what it shows.

    Attributes:
        id: Its name in the dataset, unique.
        targets: The classes it shows.
        read: Returns the picture, RGB.
    """

    id: str
    targets: tuple[Target, ...]
    read: Callable[[], Image.Image] = field(repr=False, compare=False)


class Dataset(Sequence[Photograph]):
    """A named sequence of photographs.

    Attributes:
        name: What reports call it.
        ids: The unique names of its photographs.
    """

    name: str
    ids: Sequence[str]

    def photograph(self, index: int) -> Photograph:
        """The photograph at position ``index``."""
        raise NotImplementedError(f"{type(self).__name__} must implement photograph")

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Photograph: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Photograph]: ...
    def __getitem__(self, index: int | slice) -> Photograph | Sequence[Photograph]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"photograph {index} of {len(self)}")
        return self.photograph(index % len(self))


def read_rgb(path: Path) -> Image.Image:
    """A picture file as it is stored (not turned by its metadata, since boxes refer to what is stored).

    Raises:
        InvalidInputError: if it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInputError(
            f"the photograph {path} cannot be read ({error}); get it again, or take it out of the dataset"
        ) from error


def ilsvrc_wnids() -> tuple[str, ...]:
    """The WordNet numbers of the 1000 ILSVRC2012 classes in the order of the networks' outputs."""
    file = resources.files("captum_clrp.evaluation") / "data" / "ilsvrc2012_wnids.txt"
    return tuple(file.read_text().split())
