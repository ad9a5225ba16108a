"""What every dataset is: a named sequence of photographs with their classes and the places of the objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, overload

from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.geometry import Box
from captum_clrp.images import open_picture, orientation_of, upright

__all__ = ["Dataset", "MissingDatasetError", "Photograph", "Target", "read_rgb", "upright_targets"]


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


class Readable(Protocol):
    """A file on the disk or in the package."""

    def read_bytes(self) -> bytes:
        """Its content."""
        ...


@dataclass(frozen=True)
class Photograph:
    """A photograph with what it shows.

    Attributes:
        id: Its name in the dataset, unique.
        targets: The classes it shows.
        read: Returns the picture, RGB.
        files: What it is read from; where empty, what ``read`` returns tells it apart from others.
    """

    id: str
    targets: tuple[Target, ...]
    read: Callable[[], Image.Image] = field(repr=False, compare=False)
    files: tuple[Readable, ...] = field(default=(), repr=False, compare=False)


class Dataset(Sequence[Photograph]):
    """A named sequence of photographs.

    Attributes:
        name: What reports call it.
        ids: The unique names of its photographs.
        own_classes: How many classes it has, where it numbers them itself instead of naming outputs of a network.
        has_places: Whether it can tell where objects are.
    """

    name: str
    ids: Sequence[str]
    own_classes: int | None = None
    has_places: bool = True

    def photograph(self, index: int) -> Photograph:
        """The photograph at position ``index``."""
        raise NotImplementedError(f"{type(self).__name__} must implement photograph")

    def settings(self) -> dict[str, Any]:
        """What was asked for, besides the place: lists, sets of objects, maps of classes."""
        return {}

    def digest(self, index: int) -> str:
        """Changes with the photograph at position ``index``, its classes and their places, not with its folder.

        Raises:
            InvalidInputError: if a file of the photograph cannot be read.
        """
        photograph = self[index]
        state = hashlib.sha256(repr(photograph.targets).encode())
        for target in photograph.targets:
            if target.mask is not None:
                state.update(target.mask().tobytes())
        if not photograph.files:
            state.update(photograph.read().tobytes())
        for file in photograph.files:
            try:
                state.update(hashlib.sha256(file.read_bytes()).digest())
            except OSError as error:
                raise InvalidInputError(_unreadable(file, error)) from error
        return state.hexdigest()

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
    """A picture file, upright, as ``captum-clrp explain`` decodes it.

    Raises:
        InvalidInputError: if it cannot be decoded.
    """
    try:
        return open_picture(path)
    except InvalidInputError as error:
        raise InvalidInputError(f"a photograph of the dataset cannot be read: {error}; or take it out") from error


def upright_targets(path: Path, targets: Iterable[Target]) -> tuple[Target, ...]:
    """Targets whose places refer to the picture as it is stored, for the picture as it is shown."""
    orientation = orientation_of(path)
    if orientation == 1:
        return tuple(targets)
    with Image.open(path) as stored:
        width, height = stored.size if orientation < 5 else stored.size[::-1]
    return tuple(
        replace(
            target,
            boxes=tuple(box.upright(orientation, width, height) for box in target.boxes),
            mask=partial(_upright_mask, target.mask, orientation) if target.mask is not None else None,
        )
        for target in targets
    )


def _upright_mask(mask: Callable[[], Image.Image], orientation: int) -> Image.Image:
    return upright(mask(), orientation)


def _unreadable(file: object, error: Exception) -> str:
    return f"the photograph {file} cannot be read ({error}); get it again, or take it out of the dataset"
