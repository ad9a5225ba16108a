"""Photographs as the network sees them, each with the classes that it shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode

from captum_clrp.evaluation.datasets.base import Dataset, Target
from captum_clrp.evaluation.sources.base import Explained, Sample, Source, as_pixels, subset
from captum_clrp.geometry import Geometry, box_mask


class PhotographSource(Source):
    """Photographs, one in each sample.

    Args:
        dataset: Where they come from.
        geometry: How they are resized and cropped.
        limit: How many of them, at most, chosen at random by ``seed``.
        seed: Seed of that choice.
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
        return Sample(photograph.id, as_pixels(self.geometry.picture(image)), tuple(explained), tuple(away))


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
