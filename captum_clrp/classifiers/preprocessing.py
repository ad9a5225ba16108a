"""How a picture becomes a network's input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from captum_clrp.errors import ClassifierError, warn
from captum_clrp.geometry import Geometry


class Preprocessing(NamedTuple):
    """What stands between a picture and a network.

    Attributes:
        prepare: Resizes and crops an RGB image: ``(3, H, W)`` with pixels in [0, 1].
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel, for pixels in [0, 1].
    """

    prepare: Callable[[Image.Image], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def changed(
    known: Preprocessing | None,
    name: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
) -> Preprocessing:
    """A preprocessing with parts of it given anew; see :func:`captum_clrp.classifiers.load_classifier`.

    Raises:
        ClassifierError: if something is neither known nor given, or mean and std do not go together.
    """
    missing = {"mean": mean, "std": std, "size": size if size is not None else crop}
    if known is None and None in missing.values():
        raise ClassifierError(
            f"how a picture becomes the input of {name} is not known: give the name of a network of torchvision or timm "
            f"that is fed alike, or {' and '.join(what for what, given in missing.items() if given is None)}",
            "preprocessing",
        )
    prepare = known.prepare if known is not None else None
    if size is not None or crop is not None or prepare is None:
        prepare = _geometry(prepare, size, crop)
    mean = _per_channel(mean if mean is not None or known is None else known.mean, "mean")
    std = _per_channel(std if std is not None or known is None else known.std, "std")
    if len({len(mean), len(std)} - {1}) > 1:
        raise ClassifierError(
            f"{len(mean)} means and {len(std)} standard deviations do not go together; give one for each channel, or one "
            "for all",
            "mean",
        )
    if not all(value > 0 for value in std):
        raise ClassifierError(f"{_listed(std)} are no standard deviations; they are positive", "std")
    if not all(-1 <= value <= 2 for value in mean):
        warn(f"mean {_listed(mean)} is far from pixels in [0, 1]; if it is for 0 ... 255, divide mean and std by 255")
    channels = max(len(mean), len(std))
    return Preprocessing(prepare, mean * (channels // len(mean)), std * (channels // len(std)))


def _geometry(
    known: Callable[[Image.Image], Tensor] | None,
    size: int | tuple[int, int] | None,
    crop: int | tuple[int, int] | None,
) -> Geometry:
    """Where both are not given, a crop takes the known size, and a size is cropped to the square that fits it."""
    before = None if known is None else Geometry.of(known)
    if size is None:
        size = crop if before is None or before.resize is None else before.resize
    elif crop is None and isinstance(size, int):
        crop = size
    sides = (crop, crop) if isinstance(crop, int) else crop
    return Geometry(size, sides) if before is None else Geometry(size, sides, before.interpolation)


def _per_channel(values: Sequence[float] | None, argument: str) -> tuple[float, ...]:
    found = tuple(float(value) for value in values or ())
    if len(found) not in (1, 3):
        raise ClassifierError(
            f"{_listed(found)} are {len(found)} values; give one for each of three channels, or one for all", argument
        )
    return found


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
