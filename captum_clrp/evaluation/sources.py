"""What is measured on: photographs as the network sees them, or scenes of several, with the explained classes.

Pixels stay whole numbers (0 ... 255) until a network normalises them, so that sums over a dataset are exact in any
order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.datasets.base import Dataset, Target
from captum_clrp.evaluation.grid_pointing_game import cell_mask, compose_grid
from captum_clrp.evaluation.loading import ahead
from captum_clrp.geometry import Geometry, box_mask

__all__ = ["Explained", "GridSource", "PhotographSource", "Sample", "Source", "subset"]


@dataclass(frozen=True)
class Explained:
    """A class that is explained, with its place.

    Attributes:
        label: Index of the network's output.
        name: What the dataset calls it.
        mask: Pixels of the object, ``(H, W)``; ``None`` where the dataset does not tell.
    """

    label: int
    name: str
    mask: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Sample:
    """An image in the network's geometry.

    Attributes:
        id: Unique in its source.
        pixels: ``(3, H, W)``, uint8.
        explained: The classes to explain.
        cropped_away: Classes whose object is not visible in the crop and which are therefore left out.
    """

    id: str
    pixels: Tensor = field(repr=False)
    explained: tuple[Explained, ...]
    cropped_away: tuple[str, ...] = ()


class Source(Sequence[Sample]):
    """A sequence of samples.

    Attributes:
        name: What reports call it.
        ids: The unique names of its samples.
        description: What, besides the samples' digests, decides about its content.
        own_classes: How many classes the data has, where it numbers them itself instead of naming outputs of a network.
        has_places: Whether it can tell where objects are.
    """

    name: str
    ids: Sequence[str]
    description: str
    own_classes: int | None = None
    has_places: bool = True
    _fingerprint: str | None = None

    def sample(self, index: int) -> Sample:
        """The sample at position ``index``."""
        raise NotImplementedError(f"{type(self).__name__} must implement sample")

    def settings(self) -> dict[str, Any]:
        """What was asked for, besides the place of the data."""
        return {}

    def digest(self, index: int) -> str:
        """Changes with the sample at position ``index``: its pixels, its classes and their places."""
        sample = self.sample(index)
        state = hashlib.sha256(repr((tuple(sample.pixels.shape), sample.explained, sample.cropped_away)).encode())
        for tensor in (sample.pixels, *(e.mask for e in sample.explained if e.mask is not None)):
            state.update(tensor.contiguous().numpy().tobytes())
        return state.hexdigest()

    def fingerprint(self, progress: Callable[[int], object] = lambda count: None) -> str:
        """Changes when samples are added, removed, changed or shown in another way, not when they are moved.

        The data are read for it once and are then taken to stay as they are.

        Args:
            progress: Called with the number of samples just read.
        """
        if self._fingerprint is None:
            state = hashlib.sha256(self.description.encode())
            for id_, digest in zip(self.ids, ahead(self.digest, range(len(self)), count=16, threads=4), strict=True):
                state.update(f"\n{id_}\n{digest}".encode())
                progress(1)
            self._fingerprint = state.hexdigest()[:16]
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self.sample(i) for i in range(*index.indices(len(self)))]
        return self.sample(index)


def subset(ids: Sequence[str], limit: int | None, seed: int) -> list[int]:
    """Positions of a random choice of ids, in their order; the same for the same ids and seed.

    Args:
        ids: What to choose from.
        limit: How many, at most; ``None`` for all.
        seed: Another seed makes another choice.
    """
    if limit is None or limit >= len(ids):
        return list(range(len(ids)))
    drawn = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{seed}:{ids[i]}".encode()).digest())
    return sorted(drawn[:limit])


class PhotographSource(Source):
    """Photographs, one in each sample.

    Args:
        dataset: Where they come from.
        geometry: How they are resized and cropped.
        limit: How many of them, at most, chosen by :func:`subset`.
        seed: Of that choice.
    """

    def __init__(self, dataset: Dataset, geometry: Geometry, *, limit: int | None = None, seed: int = 0) -> None:
        self.dataset = dataset
        self.geometry = geometry
        self.name = dataset.name
        self.description = str(geometry)
        self.own_classes, self.has_places = dataset.own_classes, dataset.has_places
        self._positions = subset(dataset.ids, limit, seed)
        self.ids = [dataset.ids[i] for i in self._positions]

    def settings(self) -> dict[str, Any]:
        return self.dataset.settings()

    def digest(self, index: int) -> str:
        return self.dataset.digest(self._positions[index])

    def sample(self, index: int) -> Sample:
        photograph = self.dataset[self._positions[index]]
        image = photograph.read()
        explained, away = [], []
        for target in photograph.targets:
            mask = _visible(target, self.geometry, image.size)
            if target.located and mask is None:
                away.append(target.name)
            else:
                explained.append(Explained(target.label, target.name, mask))
        return Sample(photograph.id, _pixels(self.geometry.picture(image)), tuple(explained), tuple(away))


def _visible(target: Target, geometry: Geometry, size: tuple[int, int]) -> Tensor | None:
    """The object's pixels in the crop, or ``None`` if there are none."""
    if target.mask is not None:
        drawn = target.mask()
        nearest = Geometry(geometry.resize, geometry.crop, InterpolationMode.NEAREST)
        mask = torch.from_numpy(np.array(nearest.picture(drawn))) > 127
    else:
        width, height = size
        boxes = [geometry.box(box, width, height) for box in target.boxes]
        mask = box_mask(boxes, *geometry.size(width, height))
    return mask if bool(mask.any()) else None


class GridSource(Source):
    """Scenes of n x n photographs of different classes; each cell's class is explained, and the cell is its place.

    Photographs are shuffled and dealt out, so that each is used at most once in each round; those that show no class
    or several are not used.

    Args:
        dataset: Where they come from.
        geometry: How they are resized and cropped for the network.
        n: Cells along each side. Default: 2.
        shrink: Whether the whole scene has the size of the network's input, and each photograph an n-th of it along
            each side; otherwise each photograph keeps its size and the scene is n times as large. Default: no.
        rounds: How often each photograph is dealt out. Default: 1.
        limit: Number of scenes, at most; the first ones.
        seed: Of the shuffling.

    Raises:
        InvalidInputError: if there are not enough photographs of different classes.
    """

    def __init__(
        self,
        dataset: Dataset,
        geometry: Geometry,
        n: int = 2,
        *,
        shrink: bool = False,
        rounds: int = 1,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        if geometry.crop is None:
            raise InvalidInputError(f"{geometry} gives images of different sizes, which make no grid; set its crop")
        height, width = geometry.crop
        self.n = n
        self.dataset = dataset
        self.geometry = geometry.scaled_to((height // n, width // n)) if shrink else geometry
        self.name = f"{n}x{n} scenes of {dataset.name}"
        self.own_classes = dataset.own_classes
        self.description = f"{self.geometry} {n}"
        usable = [(i, p.targets[0].label) for i, p in enumerate(dataset) if len(p.targets) == 1]
        self._scenes: list[list[int]] = []
        for turn in range(rounds):
            order = list(usable)
            random.Random(f"{seed}:{turn}").shuffle(order)
            self._scenes += _deal(order, n * n)
        self._scenes = self._scenes[:limit]
        if not self._scenes:
            raise InvalidInputError(
                f"{dataset.name} has {len({label for _, label in usable})} classes with a photograph of their own, "
                f"too few for a grid of {n} x {n}; use more photographs or a smaller n"
            )
        self.ids = [f"{k}: " + " | ".join(dataset.ids[i] for i in scene) for k, scene in enumerate(self._scenes)]

    def settings(self) -> dict[str, Any]:
        return self.dataset.settings()

    def digest(self, index: int) -> str:
        return " ".join(self.dataset.digest(i) for i in self._scenes[index])

    def sample(self, index: int) -> Sample:
        photographs = [self.dataset[i] for i in self._scenes[index]]
        cells = torch.stack([_pixels(self.geometry.picture(p.read())) for p in photographs])
        pixels = compose_grid(cells, self.n)
        explained = tuple(
            Explained(p.targets[0].label, p.targets[0].name, cell_mask(cell, self.n, *pixels.shape[-2:]))
            for cell, p in enumerate(photographs)
        )
        return Sample(self.ids[index], pixels, explained)


def _deal(order: list[tuple[int, int]], cells: int) -> list[list[int]]:
    """Hands of ``cells`` photographs of different classes; what does not fit a hand waits for the next."""
    scenes: list[list[int]] = []
    waiting = order
    while True:
        hand: dict[int, int] = {}
        left = []
        for index, label in waiting:
            if len(hand) < cells and label not in hand:
                hand[label] = index
            else:
                left.append((index, label))
        if len(hand) < cells:
            return scenes
        scenes.append(list(hand.values()))
        waiting = left


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
