"""What any method must beat: noise, and pointing at the middle of the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captum_clrp.evaluation.methods.base import Concept, Family, Setting, noise


class Random(Family):
    """Uniform noise, the same for the same image and seed."""

    offers = ("random",)
    names = offers

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @classmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        return [cls(setting.seed)]

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        return {"random": torch.stack([noise(self.seed, len(concepts), inputs.shape[2:], id_) for id_ in ids])}


class Centre(Family):
    """A cone: largest at the pixel in the middle, falling evenly to 0 at the farthest corner."""

    offers = ("centre",)
    names = offers

    @classmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        return [cls()]

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        height, width = inputs.shape[2:]
        rows = torch.arange(height).float()[:, None] - height // 2
        columns = torch.arange(width).float()[None, :] - width // 2
        distance = (rows**2 + columns**2).sqrt()
        return {"centre": (distance.max() - distance).expand(len(inputs), len(concepts), height, width)}
