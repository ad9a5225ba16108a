"""Pictures in: any picture file as an RGB image, upright, or one line that says why not."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from captum_clrp.cli.errors import CommandError

__all__ = ["EXAMPLE_NAME", "MOST_PIXELS", "example_picture", "open_picture"]

EXAMPLE_NAME = "cat_and_coffee.png"
MOST_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: they would fill the memory, and are shrunk to a few hundred
pixels anyway."""
_MOST_ELONGATED = 30


def example_picture() -> Image.Image:
    """The embedded picture: a cat on the left, a cup of coffee on the right (CC0, see ``data/README.md``)."""
    with (resources.files("captum_clrp") / "data" / EXAMPLE_NAME).open("rb") as file:
        return Image.open(file).convert("RGB")


def open_picture(path: Path) -> Image.Image:
    """Decode a picture completely.

    It comes upright (EXIF orientation), transparent parts on white, of an animation the first frame.

    Args:
        path: A file in any format that Pillow reads.

    Returns:
        An RGB image.

    Raises:
        CommandError: if there is no such file, or it is no picture, damaged, or too large.
    """
    if path.is_dir():
        raise CommandError(f"{path} is a folder; give picture files, for instance {path / '*.jpg'}")
    if not path.exists():
        raise CommandError(f"there is no picture {path}; check the path (current folder: {Path.cwd()})")
    if not path.is_file():
        raise CommandError(f"{path} is no ordinary file; give a picture file")
    try:
        with _quiet(), path.open("rb") as file, Image.open(file) as picture:
            _check_size(path, *picture.size)
            return _upright_rgb(picture)
    except CommandError:
        raise
    except PermissionError as error:
        raise CommandError(f"{path} may not be read; allow it (chmod +r) or copy the picture") from error
    except UnidentifiedImageError as error:
        empty = "is empty" if path.stat().st_size == 0 else "is no picture in a known format"
        raise CommandError(f"{path} {empty}; give a JPEG, PNG, WebP, TIFF, BMP or GIF file") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # decoders raise almost anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CommandError(f"{path} cannot be decoded ({reason}); it is damaged or incomplete, get it again") from error


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise _too_large(path, f"{width} x {height}")
    if max(width, height) > _MOST_ELONGATED * min(width, height):
        raise CommandError(
            f"{path} has {width} x {height} pixels, one side more than {_MOST_ELONGATED} times the other; crop it first"
        )


def _too_large(path: Path, size: str = "its") -> CommandError:
    return CommandError(
        f"{path} is too large, {size} pixels are more than {MOST_PIXELS // 1_000_000} million; shrink it first "
        "(networks see a few hundred pixels a side)"
    )


def _upright_rgb(picture: Image.Image) -> Image.Image:
    picture.load()
    with contextlib.suppress(Exception):  # a damaged EXIF block is no reason to refuse the pixels
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bit: "convert" would clip instead of scale
        values = np.asarray(picture, dtype=np.float64)
        top = (
            65535.0
            if picture.mode.startswith("I") and values.max(initial=0) > 255
            else max(values.max(initial=0), 1e-9)
        )
        picture = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings about size and metadata are either errors here, with their own text, or of no interest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
