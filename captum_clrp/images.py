"""Pictures in: any picture file as an RGB image, upright, or one line that says why not."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from captum_clrp.errors import InvalidInputError, warn

__all__ = ["EXAMPLE_NAME", "MOST_PIXELS", "example_picture", "open_picture", "orientation_of", "upright"]

EXAMPLE_NAME = "cat_and_coffee.png"
MOST_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded, for they would fill the memory, and are shrunk to a few hundred
pixels anyway."""
_MOST_ELONGATED = 30
_TWELVE_BITS = 4096


def example_picture() -> Image.Image:
    """The embedded picture: a cat on the left, a cup of coffee on the right (CC0, see ``data/README.md``)."""
    with (resources.files("captum_clrp") / "data" / EXAMPLE_NAME).open("rb") as file:
        return Image.open(file).convert("RGB")


def open_picture(path: Path) -> Image.Image:
    """Decode a picture completely; the one decoder of this package.

    It comes upright (EXIF orientation), transparent parts on white, of an animation the first frame.

    Args:
        path: A file in any format that Pillow reads.

    Returns:
        An RGB image.

    Raises:
        InvalidInputError: if there is no such file, or it is no picture, damaged, or too large.
    """
    _check_path(path)
    try:
        with _quiet(), path.open("rb") as file, Image.open(file) as picture:
            _check_size(path, *picture.size)
            return _upright_rgb(path, picture)
    except InvalidInputError:
        raise
    except PermissionError as error:
        raise InvalidInputError(f"{path} may not be read; allow it (chmod +r) or copy the picture") from error
    except UnidentifiedImageError as error:
        empty = "is empty" if path.stat().st_size == 0 else "is no picture in a known format"
        raise InvalidInputError(f"{path} {empty}; give a JPEG, PNG, WebP, TIFF, BMP or GIF file") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # decoders raise almost anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(
            f"{path} cannot be decoded ({reason}); it is damaged or incomplete, get it again"
        ) from error


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
    """How a picture is turned before it is shown: the number of EXIF, 1 (as it is stored) to 8.

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


def _upright_rgb(path: Path, picture: Image.Image) -> Image.Image:
    picture.load()
    with contextlib.suppress(Exception):  # a damaged EXIF block is no reason to refuse the pixels
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bit: "convert" would clip instead of scale
        picture = _scaled(path, np.asarray(picture, dtype=np.float64), picture.mode)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def _scaled(path: Path, values: NDArray[np.float64], mode: str) -> Image.Image:
    """Grey values of more than eight bits as eight bits."""
    highest = float(values.max(initial=0))
    integers = mode.startswith("I") and highest > 255
    if integers and highest < _TWELVE_BITS:
        warn(
            f"{path} holds 16 bits of which the highest value is {highest:g}, so that it looks nearly black to the network; "
            "if its values have 12 bits, multiply them by 16 first"
        )
    top = 65535.0 if integers else max(highest, 1e-9)
    return Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings about size and metadata are either errors here, with their own text, or of no interest."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield
