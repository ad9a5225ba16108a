"""Scenes of n x n photographs of different classes: without boxes, the place of each class is known."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.datasets.base import Dataset
from captum_clrp.evaluation.sources.base import Explained, Sample, Source, as_pixels
from captum_clrp.geometry import Geometry


def compose_grid(images: Tensor, n: int) -> Tensor:
    """One scene of n x n images.

    Args:
        images: Tensor of shape ``(n * n, C, H, W)``, filled in row by row.
        n: Cells along each side.

    Returns:
        ``(C, n * H, n * W)``.

    Raises:
        InvalidInputError: if there are not n x n images.
    """
    if images.dim() != 4 or len(images) != n * n:
        raise InvalidInputError(
            f"images of shape {tuple(images.shape)} do not fill a grid of {n} x {n}; give ({n * n}, C, H, W)"
        )
    rows = [torch.cat(list(images[r * n : (r + 1) * n]), dim=2) for r in range(n)]
    return torch.cat(rows, dim=1)


def cell_mask(cell: int, n: int, height: int, width: int) -> Tensor:
    """The pixels of one cell of a scene.

    Args:
        cell: Number of the cell, row by row from 0.
        n: Cells along each side.
        height: Height of the scene; divisible by n.
        width: Width of the scene; divisible by n.

    Returns:
        Boolean tensor ``(height, width)``.

    Raises:
        InvalidInputError: if the scene does not divide into n x n cells or has no such cell.
    """
    if not 0 <= cell < n * n or height % n or width % n:
        raise InvalidInputError(
            f"a scene of {height} x {width} pixels has no cell {cell} of {n} x {n}; sides must be multiples of {n} "
            f"and cells go from 0 to {n * n - 1}"
        )
    mask = torch.zeros(height, width, dtype=torch.bool)
    row, column = divmod(cell, n)
    h, w = height // n, width // n
    mask[row * h : (row + 1) * h, column * w : (column + 1) * w] = True
    return mask


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
        seed: Seed of the shuffling.

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
        cells = torch.stack([as_pixels(self.geometry.picture(p.read())) for p in photographs])
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
