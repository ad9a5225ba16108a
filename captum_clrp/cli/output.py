"""Files out: where each picture goes, checked before any work is done, and written whole or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import ExifTags, Image

from captum_clrp import files
from captum_clrp.cli.errors import CommandError
from captum_clrp.visualization.files import FORMATS, SOFTWARE

ENDING = "_clrp"
"""What stands behind the name of a photograph in the names of what is written about it."""
MARK = "captum_clrp"
"""The array by which a file of maps is known as this command's."""
GENERATOR = f'<meta name="generator" content="{SOFTWARE}">'
"""The line by which a report is known as this command's."""


def output_paths(
    images: Sequence[Path], output: str | None, reading: Sequence[Path], ending: str = ".png", option: str = "--output"
) -> list[Path]:
    """One path for each image.

    Without ``output`` they are ``STEM_clrp.png`` in the current folder; with a folder, the same in there; and for a
    single image ``output`` may name the file. Images that share a stem are numbered.

    Args:
        images: Names of the images.
        output: What the user asked for, if anything.
        reading: Files that must not be overwritten.
        ending: Ending of files in a folder: ``.png``, or ``.npz`` for maps, which is then the only one.
        option: What the user asked with.

    Raises:
        CommandError: if a path cannot be written, is of another format, or would overwrite one of the images or a file that
            is not this command's.
    """
    target = Path(output).expanduser() if output is not None else Path()
    endings = [ending] if ending == ".npz" else [f".{one}" for one in FORMATS]
    if output is not None and not target.is_dir():
        if len(images) > 1 or output.endswith(("/", os.sep)):
            _refuse_folder(target, len(images) > 1, endings, option)
        paths = [target]
    else:
        taken: dict[str, int] = {}
        paths = []
        for image in images:
            stem = image.stem.casefold()  # some file systems do not tell cat from CAT
            count = taken[stem] = taken.get(stem, 0) + 1
            paths.append(target / f"{image.stem}{ENDING}{f'_{count}' if count > 1 else ''}{ending}")
    for path in paths:
        check_file(path, reading, endings, option)
    return paths


def _refuse_folder(target: Path, several: bool, endings: Sequence[str], option: str) -> None:
    what = f"several images need a folder as {option}, and " if several else f"the {option} "
    if target.exists():
        raise CommandError(f"{what}{target} is a file; give an existing folder")
    if target.suffix.lower() in endings:
        raise CommandError(f"{what}{target} is the name of one file; give an existing folder")
    raise CommandError(f"{what}{target} is no folder yet; make it with: mkdir -p {target}")


def check_file(path: Path, reading: Sequence[Path], endings: Sequence[str], option: str) -> None:
    """Whether a file may be written.

    Args:
        path: The file.
        reading: Files that must not be overwritten.
        endings: What its name may end in.
        option: What the user named it with.

    Raises:
        CommandError: if not; it says why.
    """
    if path.suffix.lower() not in endings:
        raise CommandError(
            f"the {option} {path} ends in none of {' '.join(endings)}; name it {path.with_suffix(endings[0])}"
            + (", or give a folder" if option != "--report" else "")
        )
    if not path.parent.is_dir():
        raise CommandError(f"the folder {path.parent} of the {option} is missing; make it with: mkdir -p {path.parent}")
    if path.exists() and not path.is_file():
        raise CommandError(f"the {option} {path} exists and is no ordinary file; choose another name")
    if path.resolve() in {image.resolve() for image in reading}:
        raise CommandError(f"the {option} {path} would overwrite the image itself; choose another name")
    if path.exists() and path.stat().st_size and not is_ours(path):
        raise CommandError(
            f"the {option} {path} exists and was not written by captum-clrp; choose another name, or move it"
        )
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"nothing may be written in {path.parent.resolve()}; choose another place with {option}")


def is_ours(path: Path) -> bool:
    """Whether a file was written by this command.

    Args:
        path: The file.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            with zipfile.ZipFile(path) as archive:
                return f"{MARK}.npy" in archive.namelist()
        marks = {".pdf": f"/Creator ({SOFTWARE})", ".svg": f"<dc:title>{SOFTWARE}</dc:title>", ".html": GENERATOR}
        if kind in marks:
            return marks[kind].encode() in path.read_bytes()
        with Image.open(path) as picture:
            if picture.format == "PNG":  # whose Exif lies behind the pixels
                return bool(picture.info.get("Software") == SOFTWARE)
            return bool(picture.getexif().get(ExifTags.Base.Software) == SOFTWARE)
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile):
        return False


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment either the old or the complete new one is there.

    Raises:
        CommandError: if the disk is full or the folder cannot be written.
    """
    try:
        files.write_whole(path, content)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written ({error.strerror}); choose another place with --output"
        ) from error
