"""Files out: where each picture goes, checked before any work is done, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from captum_clrp.cli.errors import CommandError
from captum_clrp.visualization.files import SOFTWARE

__all__ = ["output_paths", "write_whole"]

_ENDING = "_clrp"


def output_paths(images: Sequence[Path], output: str | None, reading: Sequence[Path]) -> list[Path]:
    """One PNG path for each image.

    Without ``output`` they are ``STEM_clrp.png`` in the current folder; with a folder, the same in there; and for a
    single image ``output`` may name the file. Images that share a stem are numbered.

    Args:
        images: Names of the images.
        output: What the user asked for, if anything.
        reading: Files that must not be overwritten.

    Raises:
        CommandError: if a path cannot be written, is no PNG, or would overwrite one of the images or a file that is not
            this command's.
    """
    target = Path(output).expanduser() if output is not None else Path()
    if output is not None and not target.is_dir():
        if len(images) > 1 or output.endswith(("/", os.sep)):
            _refuse_folder(target, several=len(images) > 1)
        paths = [target]
    else:
        taken: dict[str, int] = {}
        paths = []
        for image in images:
            stem = image.stem.casefold()  # some file systems do not tell cat from CAT
            count = taken[stem] = taken.get(stem, 0) + 1
            paths.append(target / f"{image.stem}{_ENDING}{f'_{count}' if count > 1 else ''}.png")
    sources = {image.resolve() for image in reading}
    for path in paths:
        _check(path, sources)
    return paths


def _refuse_folder(target: Path, several: bool) -> None:
    what = "several images need a folder as --output, and " if several else "the --output "
    if target.exists():
        raise CommandError(f"{what}{target} is a file; give an existing folder")
    if target.suffix.lower() == ".png":
        raise CommandError(f"{what}{target} is the name of one picture; give an existing folder")
    raise CommandError(f"{what}{target} is no folder yet; make it with: mkdir -p {target}")


def _check(path: Path, sources: set[Path]) -> None:
    if path.suffix.lower() != ".png":
        raise CommandError(
            f"the output {path} does not end in .png; name it {path.with_suffix('.png')}, or give a folder"
        )
    if not path.parent.is_dir():
        raise CommandError(f"the folder {path.parent} of the output is missing; make it with: mkdir -p {path.parent}")
    if path.exists() and not path.is_file():
        raise CommandError(f"the output {path} exists and is no ordinary file; choose another name with --output")
    if path.resolve() in sources:
        raise CommandError(f"the output {path} would overwrite the image itself; choose another name with --output")
    if path.exists() and not _is_ours(path):
        raise CommandError(
            f"the output {path} exists and was not written by captum-clrp; choose another name with --output, or move it"
        )
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"nothing may be written in {path.parent.resolve()}; choose another place with --output")


def _is_ours(path: Path) -> bool:
    """Whether a file is a picture of this command's, or empty."""
    if path.stat().st_size == 0:
        return True
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == SOFTWARE
    except (OSError, SyntaxError, ValueError):
        return False


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment either the old or the complete new one is there.

    Raises:
        CommandError: if the disk is full or the folder cannot be written.
    """
    final = path.resolve()  # a link stays a link
    partial = final.with_name(f".{final.name[:100]}.{os.getpid()}.part")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, final)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written ({error.strerror}); choose another place with --output"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
