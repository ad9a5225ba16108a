"""Pictures in: any picture file as an RGB image, upright, or one line that says why not."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from captum_clrp.errors import InvalidInputError, warn

__all__ = ["EXAMPLE_NAME", "MOST_PIXELS", "example_picture", "open_picture", "orientation_of", "read_range", "upright"]

EXAMPLE_NAME = "cat_and_coffee.png"
"""The file name of the picture that comes with the package."""

MOST_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded, for they would fill the memory, and are shrunk to a few hundred
pixels anyway."""
_MOST_ELONGATED = 30
_SMALL_PART = 0.25
"""A picture of 16 bits that uses less of its range than this looks nearly flat."""


def read_range(text: str) -> tuple[float, float]:
    """The values that are black and white, as commands take them.

    Args:
        text: Two numbers, the first lower than the second, separated by a comma.

    Raises:
        InvalidInputError: if it is something else.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise InvalidInputError(f"{text!r} is no range; give the lower and the higher value, e.g. 0,4095")
    return low, high


def example_picture() -> Image.Image:
    """The embedded picture: a cat on the left, a cup of coffee on the right (CC0, see ``data/README.md``)."""
    with (resources.files("captum_clrp") / "data" / EXAMPLE_NAME).open("rb") as file:
        return Image.open(file).convert("RGB")


def open_picture(path: Path, value_range: tuple[float, float] | None = None) -> Image.Image:
    """Decode a picture completely; the one decoder of this package.

    It comes upright (EXIF orientation), transparent parts on white, of an animation the first frame.

    Args:
        path: A file in any format of pixels that Pillow reads; not PostScript and the like, which are programs to be run.
        value_range: The values that are black and white in a grey picture; what lies outside is cut off. Default: 0 and
            the highest that the file can hold (255 or 65535; of fractions, the highest that it does hold).

    Returns:
        An RGB image.

    Raises:
        InvalidInputError: if there is no such file, or it is no picture, damaged, too large, or coloured although a
            range is given.
    """
    _check_path(path)
    try:
        with _quiet(), path.open("rb") as file, Image.open(file) as picture:
            if picture.format in _PROGRAMS:
                raise UnidentifiedImageError
            _check_size(path, *picture.size)
            return _upright_rgb(path, picture, value_range)
    except InvalidInputError:
        raise
    except PermissionError as error:
        raise InvalidInputError(f"{path} may not be read; allow it (chmod +r) or copy the picture") from error
    except UnidentifiedImageError as error:
        empty = "is empty" if path.stat().st_size == 0 else "is no picture in a known format"
        raise InvalidInputError(f"{path} {empty}; give a JPEG, PNG, WebP, TIFF, BMP or GIF file") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise _too_large(path) from error
    except Exception as error:  # decoders raise almost anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(
            f"{path} cannot be decoded ({reason}); it is damaged or incomplete, get it again"
        ) from error


_PROGRAMS = ("EPS", "WMF", "HDF5", "GRIB", "BUFR")
"""Formats that Pillow hands to other programs."""


def _check_path(path: Path) -> None:
    if re.match(r"[a-z]+:/", str(path)):
        raise InvalidInputError(
            f"{str(path).replace(':/', '://', 1)} is an address; download the picture and give the file"
        )
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; give picture files, for instance {path / '*.jpg'}")
    if not path.exists():
        raise InvalidInputError(f"there is no picture {path}; check the path (current folder: {Path.cwd()})")
    if not path.is_file():
        raise InvalidInputError(f"{path} is no ordinary file; give a picture file")


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise _too_large(path, f"{width} x {height}")
    if max(width, height) > _MOST_ELONGATED * min(width, height):
        raise InvalidInputError(
            f"{path} has {width} x {height} pixels, one side more than {_MOST_ELONGATED} times the other; crop it first"
        )


def _too_large(path: Path, size: str = "its") -> InvalidInputError:
    return InvalidInputError(
        f"{path} is too large, {size} pixels are more than {MOST_PIXELS // 1_000_000} million; shrink it first "
        "(networks see a few hundred pixels a side)"
    )


def orientation_of(path: Path) -> int:
    """How a picture is turned before it is shown: its EXIF orientation, 1 (as it is stored) to 8.

    Args:
        path: A picture file.

    Returns:
        1 if the picture does not say.
    """
    with _quiet(), contextlib.suppress(Exception), Image.open(path) as picture:
        stated = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return stated if stated in _TURNS else 1
    return 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """A picture or mask that is stored with an orientation, as it is shown.

    Args:
        picture: As it is stored.
        orientation: 1 to 8, from :func:`orientation_of`.
    """
    return picture if orientation == 1 else picture.transpose(_TURNS[orientation])


def _upright_rgb(path: Path, picture: Image.Image, value_range: tuple[float, float] | None) -> Image.Image:
    picture.load()
    with contextlib.suppress(Exception):  # a damaged EXIF block is no reason to refuse the pixels
        picture = ImageOps.exif_transpose(picture)
    deep = picture.mode.startswith("I") or picture.mode == "F"  # 16 or 32 bit: "convert" would clip instead of scale
    if value_range is not None and not deep and picture.mode not in ("1", "L"):
        raise InvalidInputError(
            f"{path} is no grey picture (its mode is {picture.mode}); only those have a range of values"
        )
    if deep or value_range is not None:
        picture = _scaled(path, np.asarray(picture, dtype=np.float64), picture.mode, value_range)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def _scaled(path: Path, values: NDArray[np.float64], mode: str, value_range: tuple[float, float] | None) -> Image.Image:
    """Grey values as eight bits."""
    lowest, highest = float(values.min()), float(values.max())
    whole = mode.startswith("I") and highest > 255
    black, white = value_range or (0.0, 65535.0 if whole else max(highest, 1e-9))
    if value_range is None and (lowest < 0 or (whole and highest - lowest < _SMALL_PART * white)):
        warn(
            f"the values of {path} go from {lowest:g} to {highest:g}, while 0 is shown as black and {white:g} as white; if they "
            "mean something else, such as 12 bits stored in 16, say which are black and white (a range of values, such as 0 to 4095)"
        )
    scaled = np.clip((values - black) / (white - black), 0, 1)
    return Image.fromarray((scaled * 255).round().astype(np.uint8))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings about size and metadata are either errors here, with their own text, or of no interest."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield
