"""What every dataset is: a named sequence of photographs with their classes and the places of the objects."""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.listed import Listed
from captum_clrp.evaluation.registry import Option, Registry
from captum_clrp.geometry import Box
from captum_clrp.images import open_picture, orientation_of, upright


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


class Dataset(Listed[Photograph]):
    """A named sequence of photographs. A subclass with a ``key`` can be named on the command line.

    Attributes:
        key: Key on the command line: ``KEY`` or ``KEY:FOLDER``.
        holds: What it is, for the command's help.
        takes_folder: Whether it lies in a folder, which the command is told.
        options: What the command takes for it.
        scene_rounds: How often each photograph is dealt out where scenes are made of them.
        name: What reports call it.
        ids: The unique names of its photographs.
        own_classes: How many classes it has, where it numbers them itself instead of naming outputs of a network.
        has_places: Whether it can tell where objects are.
    """

    key: ClassVar[str]
    holds: ClassVar[str] = ""
    takes_folder: ClassVar[bool] = True
    options: ClassVar[Sequence[Option]] = ()
    scene_rounds: ClassVar[int] = 1

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "key" in cls.__dict__:
            DATASETS.add(cls.key, cls)

    @classmethod
    def open(cls, folder: str, class_names: Sequence[str] = (), *, scenes: bool = False, **options: Any) -> Dataset:
        """The dataset, as the command asks for it.

        Args:
            folder: Where it lies; empty for the folder of its key in the current one.
            class_names: Names of the network's outputs.
            scenes: Whether scenes will be made of its photographs.
            options: Of ``options``, those that were given.

        Raises:
            MissingDatasetError: if it is not there.
        """
        return cls(folder or f"./{cls.key}", **options) if cls.takes_folder else cls(**options)  # type: ignore[call-arg]

    @abstractmethod
    def photograph(self, index: int) -> Photograph:
        """The photograph at position ``index``."""

    def _read(self, position: int) -> Photograph:
        return self.photograph(position)

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
                raise InvalidInputError(
                    f"the photograph {file} cannot be read ({error}); get it again, or take it out of the dataset"
                ) from error
        return state.hexdigest()


DATASETS: Registry[Dataset] = Registry("dataset")
"""All datasets by the key that the command gives them."""


def find_dataset(text: str) -> tuple[type[Dataset], str]:
    """Which dataset is meant, and the folder in which it lies.

    Args:
        text: ``KEY``, ``KEY:FOLDER``, ``PACKAGE.MODULE:NAME`` of a class, with ``:FOLDER`` if it takes one, or a folder of
            photographs.

    Raises:
        InvalidInputError: if a class is named that cannot be imported, or is no dataset.
    """
    key, _, folder = text.partition(":")
    if key in DATASETS and (DATASETS[key].takes_folder or not folder):
        return DATASETS[key], folder
    match = re.match(r"([^\W\d][\w.]*:[^\W\d]\w*)(?::(.+))?$", text)
    if match and not Path(text).exists():
        return DATASETS.find(match[1]), match[2] or ""
    return DATASETS["folder"], text


def read_class_map(file: str) -> dict[str, int]:
    """From names of classes to outputs of a network.

    Args:
        file: A JSON file.

    Raises:
        InvalidInputError: if it is not one, or not of that kind.
    """
    try:
        return {str(name): int(label) for name, label in json.loads(Path(file).read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            f'the class map {file} cannot be used ({error}); give a JSON file such as {{"dog": 207}}'
        ) from error


CLASS_MAP = Option("class_map", "JSON from class names to the network's outputs", read_class_map, "FILE")
HARD = Option("hard", "only the difficult set of the pointing game", bool)


def read_rgb(path: Path, value_range: tuple[float, float] | None = None) -> Image.Image:
    """A picture file, upright, as ``captum-clrp explain`` decodes it.

    Args:
        path: The file.
        value_range: The values that are black and white in a grey picture.

    Raises:
        InvalidInputError: if it cannot be decoded.
    """
    try:
        return open_picture(path, value_range)
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
