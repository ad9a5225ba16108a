"""Which pictures are explained, for which classes, and where the results go; checked before any work is done."""

from __future__ import annotations

import argparse
import glob
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.output import ENDING, is_ours, output_paths
from captum_clrp.errors import InvalidInputError
from captum_clrp.images import EXAMPLE_NAME, example_picture, open_picture

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif")
"""Files of a folder that are taken for photographs."""
_NO_PHOTOGRAPH = re.compile(rf"^\.|{ENDING}(_\d+)?\.\w+$")
"""Hidden files, and what this command called so by itself."""
_STDIN = "standard input"


@dataclass(frozen=True)
class Job:
    """One picture to be explained.

    Attributes:
        name: What it is called.
        source: Its file; ``None`` for the embedded example.
        output: The figure.
        maps: The file of its maps, if they are wanted.
        targets: Its classes, if the file of targets names it.
        value_range: The values that are black and white, if they were given.
    """

    name: str
    source: Path | None
    output: Path
    maps: Path | None = None
    targets: str | None = None
    value_range: tuple[float, float] | None = None

    def open(self) -> Image.Image:
        """The picture.

        Raises:
            InvalidInputError: if it cannot be read.
        """
        if self.source is None:
            return example_picture()
        try:
            return open_picture(self.source, self.value_range)
        except InvalidInputError as error:
            if self.name != _STDIN:
                raise
            raise InvalidInputError(str(error).replace(str(self.source), _STDIN)) from error


def jobs(options: argparse.Namespace) -> list[Job]:
    """What is to be done, in the order in which it was asked for.

    Args:
        options: Of ``captum-clrp explain``.

    Raises:
        CommandError: if a file cannot be read or must not be written.
        InvalidInputError: if there is no such picture.
    """
    listed = _listed(options.targets)
    sources = _sources(options.images) if options.images else list(listed)
    if not sources:
        (output,) = output_paths([Path(EXAMPLE_NAME)], options.output, reading=())
        (maps,) = _map_paths([Path(EXAMPLE_NAME)], options.maps)
        return [Job(EXAMPLE_NAME, None, output, maps)]
    named = [Path("stdin.png") if str(source) == "-" else source for source in sources]
    targets = {path.resolve(): classes for path, classes in listed.items()}  # however a picture was named
    if targets and not any(source.resolve() in targets for source in sources):
        raise CommandError(
            f"--targets {options.targets} names none of the pictures, but {', '.join(map(str, [*listed][:3]))}; its images are "
            "relative to its own folder"
        )
    outputs, maps_at = output_paths(named, options.output, reading=sources), _map_paths(named, options.maps)
    return [
        Job(str(source), source, output, at, targets.get(source.resolve()), options.range)
        if str(source) != "-"
        else Job(_STDIN, _spooled(), output, at, value_range=options.range)
        for source, output, at in zip(sources, outputs, maps_at, strict=True)
    ]


def _sources(asked: Sequence[str]) -> list[Path]:
    """Files as they are; the pictures of folders; what patterns stand for, where the shell has not replaced them."""
    found: list[Path] = []
    for one in asked:
        if not one.strip():
            raise CommandError("IMAGE is empty; give a picture file, a folder or a pattern, or nothing for the example")
        path = Path(one).expanduser()
        if path.is_dir():
            inside = sorted(
                p
                for p in path.iterdir()
                if p.suffix.lower() in _PICTURES and not _NO_PHOTOGRAPH.search(p.name) and not is_ours(p)
            )
            if not inside:
                raise InvalidInputError(f"the folder {path} holds no pictures ({', '.join(_PICTURES)})")
            found += inside
        elif any(c in one for c in "*?[") and not path.exists():
            matching = sorted(map(Path, glob.glob(str(path))))
            if not matching:
                raise InvalidInputError(f"no picture is called {one}; check the pattern (current folder: {Path.cwd()})")
            found += matching
        else:
            found.append(path)
    found = list(dict.fromkeys(found))
    if any(str(path) == "-" for path in found) and sys.stdin.isatty():
        raise CommandError("- is standard input, and nothing is piped into it; give a file, or pipe a picture in")
    return found


def _spooled() -> Path:
    """Standard input as a file, which goes when the process ends."""
    file = tempfile.NamedTemporaryFile(prefix="captum-clrp-", delete=False)  # noqa: SIM115
    with file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    _spooled_files.append(Path(file.name))
    return Path(file.name)


_spooled_files: list[Path] = []


def forget() -> None:
    """Remove what standard input was kept in."""
    while _spooled_files:
        _spooled_files.pop().unlink(missing_ok=True)


def _listed(file: str | None) -> dict[Path, str]:
    """Classes of each picture: lines ``FILE: CLASSES``, with files relative to the list's own folder."""
    if file is None:
        return {}
    path = Path(file).expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"--targets {path} cannot be read ({error}); give a text file of lines FILE: CLASSES"
        ) from error
    found: dict[Path, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, classes = line.rpartition(":")
        if not colon or not name.strip() or not classes.strip():
            raise CommandError(
                f"--targets {path}, line {number}: {line.strip()!r} is not FILE: CLASSES, e.g. a.jpg: zebra, 386"
            )
        found[path.parent / name.strip()] = classes.strip()
    if not found:
        raise CommandError(f"--targets {path} names no picture; give lines FILE: CLASSES")
    return found


def _map_paths(images: Sequence[Path], asked: str | None) -> list[Path | None]:
    if asked is None:
        return [None] * len(images)
    return [*output_paths(images, asked, reading=images, ending=".npz", option="--maps")]


def readable(all_jobs: Sequence[Job], watched: Callable[[Sequence[Job]], Iterable[Job]]) -> tuple[list[Job], list[str]]:
    """The jobs whose pictures can be read, and why the others cannot.

    Args:
        all_jobs: All of them.
        watched: Shows the progress of going through them.

    Raises:
        InvalidInputError: if there is none.
    """
    good, refused = [], []
    for job in watched(all_jobs):
        try:
            job.open()
            good.append(job)
        except InvalidInputError as error:
            if len(all_jobs) == 1:
                raise
            refused.append(str(error))
    if not good:
        raise InvalidInputError("; ".join(refused))
    return good, refused
