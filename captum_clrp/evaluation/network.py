"""A network as the evaluation sees it: from pixels of a photograph to logits."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.bounds import normalized_bounds
from captum_clrp.geometry import Geometry

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """A classifier with its preprocessing.

    Attributes:
        name: What reports call it.
        model: In evaluation mode, from ``(N, 3, H, W)`` to logits ``(N, m)``.
        geometry: How a photograph is resized and cropped.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        class_names: Names of the outputs.
        weights: Where the weights come from, in words.
    """

    name: str
    model: nn.Module = field(repr=False)
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: Sequence[str] = field(default=(), repr=False)
    weights: str = "unknown"

    @classmethod
    def of(cls, classifier: Any) -> Network:
        """From what ``captum_clrp.cli.classifiers.load_classifier`` returns."""
        return cls(
            name=classifier.name,
            model=classifier.model,
            geometry=Geometry.of(classifier.prepare),
            mean=tuple(classifier.mean),
            std=tuple(classifier.std),
            class_names=classifier.class_names,
            weights=classifier.weights,
        )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        parameter = next(self.model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of the model's input, each ``(1, 3, 1, 1)``."""
        low, high = normalized_bounds(self.mean, self.std)
        return low.to(self.device), high.to(self.device)

    def inputs(self, pixels: Tensor) -> Tensor:
        """From pixels in 0 ... 255, ``(..., 3, H, W)``, to what the model takes, on its device."""
        values = pixels.to(self.device, torch.float32) / 255
        mean, std = (values.new_tensor(v).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return (values - mean) / std

    def class_name(self, label: int) -> str:
        """Name of the output with index ``label``."""
        return self.class_names[label] if label < len(self.class_names) else f"class {label}"

    def checksum(self) -> str:
        """Of all weights, so that results of different weights are never mixed."""
        value = 0
        for name, tensor in sorted(self.model.state_dict().items()):
            value = zlib.crc32(name.encode(), value)
            value = zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, value)
        return f"{value:08x}"
