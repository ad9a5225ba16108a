"""Where a picture's pixels go when it is resized and cropped, for the picture and for its boxes alike.

Boxes are continuous: ``(left, top, right, bottom)`` with the origin at the outer corner of the first pixel, so that
pixel ``(row, column)`` covers ``[column, column + 1) x [row, row + 1)``. A pixel belongs to a box if its centre lies
in it. Resizing multiplies coordinates, cropping shifts and cuts them; nothing is rounded before the mask is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms import functional as F

from captum_clrp.errors import InvalidInputError

__all__ = ["Box", "Geometry", "box_mask"]


class Box(NamedTuple):
    """A rectangle in continuous pixel coordinates, right and bottom excluded."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of_pixels(cls, xmin: float, ymin: float, xmax: float, ymax: float, first: int = 0) -> Box:
        """From the first and last pixel of the object, both part of it.

        Args:
            xmin: Column of the first pixel.
            ymin: Row of the first pixel.
            xmax: Column of the last pixel.
            ymax: Row of the last pixel.
            first: The number of the first pixel of a row: 0 in ILSVRC, 1 in PASCAL VOC.
        """
        return cls(xmin - first, ymin - first, xmax - first + 1, ymax - first + 1)

    def upright(self, orientation: int, width: float, height: float) -> Box:
        """The box in the upright picture, if it refers to the picture as it is stored.

        Args:
            orientation: What :func:`captum_clrp.images.orientation_of` says of the picture, 1 to 8.
            width: Width of the *upright* picture, in pixels.
            height: Its height.
        """
        left, top, right, bottom = self
        if orientation >= 5:  # rows and columns change places
            left, top, right, bottom = top, left, bottom, right
        if orientation in (2, 3, 6, 7):
            left, right = width - right, width - left
        if orientation in (3, 4, 7, 8):
            top, bottom = height - bottom, height - top
        return Box(left, top, right, bottom)

    @property
    def area(self) -> float:
        """Area in pixels, 0 for an empty box."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def scaled(self, x: float, y: float) -> Box:
        """The box after resizing by a factor ``x`` across and ``y`` down."""
        return Box(self.left * x, self.top * y, self.right * x, self.bottom * y)

    def shifted(self, right: float, down: float) -> Box:
        """The box moved by ``right`` and ``down`` pixels."""
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)

    def cut(self, width: float, height: float) -> Box:
        """The part of the box inside a picture of ``width`` x ``height``; its area is 0 if nothing of it is left."""
        return Box(
            min(max(self.left, 0.0), width),
            min(max(self.top, 0.0), height),
            min(max(self.right, 0.0), width),
            min(max(self.bottom, 0.0), height),
        )


def box_mask(boxes: Iterable[Box], height: int, width: int) -> Tensor:
    """The pixels whose centre lies in one of the boxes.

    Args:
        boxes: In the coordinates of the mask.
        height: Rows of the mask.
        width: Columns of the mask.

    Returns:
        Boolean tensor of shape ``(height, width)``.
    """
    rows = torch.arange(height, dtype=torch.float64) + 0.5
    columns = torch.arange(width, dtype=torch.float64) + 0.5
    mask = torch.zeros(height, width, dtype=torch.bool)
    for box in boxes:
        inside_rows = (rows >= box.top) & (rows < box.bottom)
        inside_columns = (columns >= box.left) & (columns < box.right)
        mask |= inside_rows[:, None] & inside_columns[None, :]
    return mask


@dataclass(frozen=True)
class Geometry:
    """Resizing and a centre crop, as torchvision's and timm's preprocessing for classifiers do them.

    Attributes:
        resize: Length of the shorter side after resizing, or ``(height, width)``; ``None`` to leave the picture alone.
        crop: ``(height, width)`` of the centre crop, or ``None``. A picture smaller than the crop is padded with zeros.
        interpolation: How pixels are interpolated.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    interpolation: InterpolationMode = InterpolationMode.BILINEAR

    @classmethod
    def of(cls, prepare: Any) -> Geometry:
        """Read the geometry of a preprocessing.

        Args:
            prepare: A torchvision weights' ``transforms()``, a composition of ``Resize``, ``CenterCrop`` and steps
                that leave pixels where they are (``ToTensor`` and the like), as timm makes it, or a geometry.

        Raises:
            InvalidInputError: if it holds a step that moves pixels in another way.
        """
        if isinstance(prepare, cls):
            return prepare
        if hasattr(prepare, "resize_size") and hasattr(prepare, "crop_size"):
            return cls(_length(prepare.resize_size), pair(prepare.crop_size), prepare.interpolation)
        resize: int | tuple[int, int] | None = None
        crop: tuple[int, int] | None = None
        interpolation = InterpolationMode.BILINEAR
        for step in getattr(prepare, "transforms", [prepare]):
            if isinstance(step, Resize) and crop is None and step.max_size is None:
                resize, interpolation = _length(step.size), step.interpolation
            elif isinstance(step, CenterCrop) and crop is None:
                crop = pair(step.size)
            elif type(step).__name__ not in _STAY:
                raise InvalidInputError(
                    f"where pixels go in the preprocessing step {step!r} is not known, so boxes cannot follow them; "
                    "use a preprocessing of Resize and CenterCrop, or pass geometry=Geometry(resize, crop)"
                )
        return cls(resize, crop, interpolation)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """``(width, height)`` after resizing."""
        if self.resize is None:
            return width, height
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def offset(self, width: int, height: int) -> tuple[int, int]:
        """Column and row of the crop's corner in the resized ``width`` x ``height``; negative where it is padded."""
        if self.crop is None:
            return 0, 0
        crop_height, crop_width = self.crop
        return _start(width, crop_width), _start(height, crop_height)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """``(height, width)`` of what :meth:`picture` returns."""
        if self.crop is not None:
            return self.crop
        new_width, new_height = self.resized(width, height)
        return new_height, new_width

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB ``image``, resized and cropped, as ``(3, H, W)`` with pixels in [0, 1]."""
        return F.to_tensor(self.picture(image))

    def picture(self, image: Image.Image) -> Image.Image:
        """An ``image``, resized and cropped."""
        new_width, new_height = self.resized(*image.size)
        if image.size != (new_width, new_height):
            image = F.resize(image, [new_height, new_width], self.interpolation)
        return image if self.crop is None else F.center_crop(image, list(self.crop))

    def box(self, box: Box, width: int, height: int) -> Box:
        """Where a box of a picture of ``width`` x ``height`` pixels lies afterwards, cut to what is visible."""
        new_width, new_height = self.resized(width, height)
        column, row = self.offset(new_width, new_height)
        moved = box.scaled(new_width / width, new_height / height).shifted(-column, -row)
        visible_height, visible_width = self.size(width, height)
        return moved.cut(visible_width, visible_height)

    def scaled_to(self, crop: tuple[int, int]) -> Geometry:
        """The same view of a picture with ``crop``, height and width, for its number of pixels."""
        if self.crop is None or self.resize is None or isinstance(self.resize, tuple):
            return Geometry(crop, None, self.interpolation)
        factor = min(crop) / min(self.crop)
        return Geometry(max(min(crop), round(self.resize * factor)), crop, self.interpolation)


_STAY = {"ToTensor", "MaybeToTensor", "PILToTensor", "ConvertImageDtype", "ToImage", "ToDtype", "Normalize"}


def _length(size: Any) -> int | tuple[int, int]:
    if isinstance(size, int):
        return size
    return int(size[0]) if len(size) == 1 else (int(size[0]), int(size[1]))


def pair(size: Any) -> tuple[int, int]:
    """One number for both directions, or one for each, as libraries take it."""
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[0])) if len(size) == 1 else (int(size[0]), int(size[1]))


def _start(length: int, crop: int) -> int:
    """First position of a centre crop as torchvision chooses it, both where it cuts and where it pads."""
    if crop > length:
        return -((crop - length) // 2)
    return round((length - crop) / 2.0)
