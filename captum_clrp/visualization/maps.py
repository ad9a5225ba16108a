"""What happens to a map before it is drawn: channels are summed, signs chosen, dots smoothed, the crop undone."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from captum_clrp.errors import InvalidInputError, check_choice
from captum_clrp.geometry import Box, Geometry

Sign = Literal["signed", "positive", "negative", "absolute"]
"""What of a map is shown."""

Map = NDArray[np.floating[Any]] | Tensor
"""Relevance ``(H, W)``, or ``(C, H, W)``, whose channels are summed."""

Photograph = Image.Image | NDArray[Any] | Tensor
"""An image of PIL, an array ``(H, W, 3)`` or a tensor ``(3, H, W)``: floats in [0, 1] or integers in 0 ... 255."""


def map_of(relevance: Map) -> NDArray[np.float64]:
    """A map of one example as one value for each pixel.

    Args:
        relevance: ``(H, W)`` or ``(C, H, W)``; a leading dimension of size 1 is dropped.

    Returns:
        The sum over channels, ``(H, W)``.

    Raises:
        InvalidInputError: for another shape, or values that are not finite.
    """
    values = np.asarray(relevance.detach().cpu().double() if isinstance(relevance, Tensor) else relevance, np.float64)
    shape = values.shape
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 3:
        values = values.sum(0)
    if values.ndim != 2 or not values.size:
        raise InvalidInputError(f"a map has shape {shape}; pass the map of one example, (H, W) or (C, H, W)")
    if not np.isfinite(values).all():
        raise InvalidInputError("a map holds values that are not finite; check the weights and the input")
    return values


def photograph_of(picture: Photograph) -> NDArray[np.float64]:
    """A photograph as ``(H, W, 3)`` in [0, 1].

    Args:
        picture: An image of PIL, an array ``(H, W)`` or ``(H, W, 3)``, or a tensor ``(3, H, W)``.

    Raises:
        InvalidInputError: for another shape, or values outside their range.
    """
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture.convert("RGB"))
    elif isinstance(picture, Tensor):
        picture = picture.detach().cpu()
        picture = picture.double() if picture.is_floating_point() else picture  # NumPy knows no bfloat16
        picture = (picture.movedim(-3, -1) if picture.dim() >= 3 else picture).numpy()
    pixels = np.asarray(picture)
    if pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.ndim == 2 or pixels.shape[-1:] == (1,):
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InvalidInputError(
            f"the photograph has shape {np.shape(picture)}; pass an image, an array (H, W, 3) or a tensor (3, H, W)"
        )
    pixels = pixels / 255 if np.issubdtype(pixels.dtype, np.integer) else pixels.astype(np.float64)
    if not (pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6):
        raise InvalidInputError(
            f"the photograph has values from {pixels.min():.3g} to {pixels.max():.3g}; pass pixels in [0, 1] or bytes, "
            "not the normalised input of the network"
        )
    return np.clip(pixels, 0, 1)


def signed_part(relevance: NDArray[np.float64], sign: Sign) -> NDArray[np.float64]:
    """The part of a map that has the sign.

    Args:
        relevance: ``(H, W)``.
        sign: ``"signed"`` for all of it, ``"positive"``, ``"negative"`` (values stay below zero) or ``"absolute"``.

    Returns:
        An array of the same shape.

    Raises:
        InvalidInputError: for another word.
    """
    if sign == "positive":
        return np.maximum(relevance, 0)
    if sign == "negative":
        return np.minimum(relevance, 0)
    if sign == "absolute":
        return np.abs(relevance)
    check_choice("sign", sign, Sign)
    return relevance


def smoothed(relevance: Map, sigma: float) -> NDArray[np.float64]:
    """A map under a Gaussian blur, which keeps its sum.

    Maps of networks with strided convolutions show a fine checkerboard. A kernel of 3 at stride 2, say, covers every
    second pixel twice along each axis and those between once, so that relevance comes to neighbouring pixels over four,
    two or one places of the output; the pattern tells about the stride, not about the picture. A blur of a few pixels
    takes it away, and joins single dots to regions.

    Args:
        relevance: ``(H, W)`` or ``(C, H, W)``.
        sigma: Standard deviation of the Gaussian, in pixels; 0 leaves the map as it is.

    Returns:
        The sum over channels, blurred, ``(H, W)``. Beyond its edges the map goes on as its mirror image.

    Raises:
        InvalidInputError: for a negative sigma, or one larger than the map.
    """
    values = map_of(relevance)
    if not 0 <= sigma <= min(values.shape):
        raise InvalidInputError(f"smoothing by {sigma:g} pixels; give 0 to {min(values.shape)}, a few pixels as a rule")
    if sigma == 0:
        return values
    reach = min(max(1, round(3 * sigma)), min(values.shape))
    wide = torch.from_numpy(np.pad(values, reach, mode="symmetric"))
    length, deviation = 2 * reach + 1, [float(sigma)] * 2
    across = F.gaussian_blur(wide[None], [length, 1], deviation)  # a Gaussian is separable
    blurred = F.gaussian_blur(across, [1, length], deviation)[0]
    return blurred[reach:-reach, reach:-reach].numpy()


def laid_back(relevance: Map, geometry: Geometry, size: tuple[int, int]) -> NDArray[np.float64]:
    """A map of what the network saw, laid back on the whole photograph at its resolution: resizing and crop undone.

    Args:
        relevance: ``(H, W)`` or ``(C, H, W)``, of the network's input.
        geometry: How the photograph became that input: ``classifier.geometry``, or ``Geometry.of`` a preprocessing.
        size: Width and height of the photograph, as ``image.size``.

    Returns:
        Relevance of each pixel of the photograph, ``(height, width)``; 0 where the network saw nothing. Its sum is that of
        the map up to interpolation.

    Raises:
        InvalidInputError: if the map is not of the size that the geometry makes of such a photograph.
    """
    values = map_of(relevance)
    width, height = size
    if values.shape != geometry.size(width, height):
        raise InvalidInputError(
            f"the map is {values.shape[0]} x {values.shape[1]}, but the preprocessing makes {geometry.size(width, height)} of "
            f"a photograph of {width} x {height}; pass the photograph's own size and the geometry of the network"
        )
    new_width, new_height = geometry.resized(width, height)
    column, row = geometry.offset(new_width, new_height)
    ground = torch.zeros(new_height, new_width, dtype=torch.float64)
    top, left = max(row, 0), max(column, 0)
    inside = values[max(-row, 0) :, max(-column, 0) :][: new_height - top, : new_width - left]
    ground[top : top + inside.shape[0], left : left + inside.shape[1]] = torch.from_numpy(inside)
    back = F.resize(ground[None], [height, width], antialias=True)[0].numpy()
    return back * (new_width * new_height / (width * height))


def seen_part(geometry: Geometry, size: tuple[int, int]) -> Box:
    """The part of a photograph that the network saw.

    Args:
        geometry: How the photograph became the network's input.
        size: Width and height of the photograph.

    Returns:
        A box in pixels of the photograph.
    """
    width, height = size
    new_width, new_height = geometry.resized(width, height)
    column, row = geometry.offset(new_width, new_height)
    seen_height, seen_width = geometry.size(width, height)
    box = Box(column, row, column + seen_width, row + seen_height)
    return box.scaled(width / new_width, height / new_height).cut(width, height)
