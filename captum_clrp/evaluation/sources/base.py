"""What is measured on: images as the network sees them, with the explained classes.

Pixels stay whole numbers (0 ... 255) until a network normalises them, so that sums over a dataset are exact in any
order.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_clrp.evaluation.listed import Listed
from captum_clrp.evaluation.sources.loading import ahead


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


class Source(Listed[Sample]):
    """A sequence of samples.

    Attributes:
        name: What reports call it.
        ids: The unique names of its samples.
        description: What, besides the samples' digests, decides about its content.
        own_classes: How many classes the data has, where it numbers them itself instead of naming outputs of a network.
        has_places: Whether it can tell where objects are.
    """

    description: str
    _fingerprint: str | None = None

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """The sample at position ``index``."""

    def _read(self, position: int) -> Sample:
        return self.sample(position)

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


def as_pixels(image: Image.Image) -> Tensor:
    """A picture as ``(3, H, W)``, uint8."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
