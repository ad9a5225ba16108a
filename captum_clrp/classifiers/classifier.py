"""A network with what belongs to it: from a picture to logits, and from an output to the name of a class."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from captum_clrp.bounds import normalized_bounds
from captum_clrp.classifiers.preprocessing import Preprocessing
from captum_clrp.geometry import Geometry

_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601), as Pillow has them."""


class Found(NamedTuple):
    """A network, and what is known of it before the user's own settings come.

    Attributes:
        name: What reports call it.
        model: The network, on the CPU.
        weights: Where the weights come from, in words.
        preprocessing: What its pictures go through; ``None`` if that is not known.
        class_names: Names of its outputs, as many as it was published with; ``None`` if they are not known.
    """

    name: str
    model: nn.Module
    weights: str
    preprocessing: Preprocessing | None
    class_names: Sequence[str] | None


@dataclass(frozen=True)
class Classifier:
    """A network with its preprocessing, the domain of its input and the names of its classes.

    Attributes:
        name: What reports call it.
        model: The network, in evaluation mode; maps ``(N, C, H, W)`` to logits ``(N, K)``.
        prepare: Resizes and crops an RGB image as the network wants it: ``(3, H, W)`` with pixels in [0, 1].
        mean: Mean of each channel, for pixels in [0, 1]. A single one makes a network of one channel, which sees grey.
        std: Standard deviation of each channel, for pixels in [0, 1].
        class_names: Names of the outputs.
        weights: Where the weights come from, in words: a published name, a file, or ``random``.
    """

    name: str
    model: nn.Module = field(repr=False)
    prepare: Callable[[Image.Image], Tensor] = field(repr=False)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: Sequence[str] = field(default=(), repr=False)
    weights: str = "unknown"

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        parameter = next(self.model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def geometry(self) -> Geometry:
        """How a picture is resized and cropped.

        Raises:
            InvalidInputError: if ``prepare`` moves pixels in a way of its own.
        """
        return Geometry.of(self.prepare)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, as ``prepare`` makes it of a square picture."""
        height, width = self.prepare(Image.new("RGB", (320, 320))).shape[-2:]
        return height, width

    @property
    def low(self) -> Tensor:
        """Lowest value of each input channel, ``(1, C, 1, 1)``, in normalised units, on :attr:`device`."""
        return self.bounds[0]

    @property
    def high(self) -> Tensor:
        """Highest value of each input channel, ``(1, C, 1, 1)``, in normalised units, on :attr:`device`."""
        return self.bounds[1]

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """:attr:`low` and :attr:`high`."""
        low, high = normalized_bounds(self.mean, self.std)
        return low.to(self.device), high.to(self.device)

    def inputs(self, pictures: Tensor | Image.Image | Sequence[Image.Image]) -> Tensor:
        """The network's input, on its device.

        Args:
            pictures: RGB images, which are resized and cropped, or pixels in 0 ... 255, ``(..., 3, H, W)``, which are
                not.

        Returns:
            ``(N, C, H, W)`` for images, one being ``(1, C, H, W)``; of pixels, ``(..., C, H, W)``.
        """
        if isinstance(pictures, Tensor):
            return self.normalize(pictures.to(self.device, torch.float32) / 255)
        images = [pictures] if isinstance(pictures, Image.Image) else pictures
        return self.normalize(torch.stack([self.prepare(image) for image in images]).to(self.device))

    def normalize(self, pixels: Tensor) -> Tensor:
        """From pixels in [0, 1], ``(..., 3, H, W)``, to the network's input, ``(..., C, H, W)``."""
        if len(self.mean) == 1 and pixels.shape[-3] == 3:
            shares = pixels.new_tensor(_LUMA).reshape(-1, 1, 1)
            pixels = (pixels * shares).sum(-3, keepdim=True).clamp(0, 1)
        mean, std = (pixels.new_tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

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
