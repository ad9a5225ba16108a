"""A folder of photographs, named or foldered by class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.datasets.base import (
    Dataset,
    MissingDatasetError,
    Photograph,
    Target,
    ilsvrc_wnids,
    read_rgb,
)

__all__ = ["ImageFolder"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class ImageFolder(Dataset):
    """A folder of photographs, named or foldered by class; without boxes.

    Files directly in the folder are named ``<class index>_...``. Folders below it are named after the class: by its
    index, its WordNet number (ILSVRC2012) or its name in ``class_names``; if no folder's name is one of these,
    classes are numbered in alphabetical order of the folders.

    Args:
        root: The folder.
        class_names: Names of the network's outputs.

    Raises:
        MissingDatasetError: if there is no such folder, or no photograph with a class in it.
        InvalidInputError: if two photographs would have the same name, or a folder's class is not known.
    """

    def __init__(self, root: str | Path, class_names: Sequence[str] = ()) -> None:
        self.root = Path(root).expanduser()
        self.name = self.root.name
        if not self.root.is_dir():
            raise MissingDatasetError(
                f"there is no folder {self.root}; give a folder of photographs named <class index>_..., or in "
                "one folder per class"
            )
        named = [(p, m) for p in _pictures(self.root) if (m := re.match(r"(\d+)[_\-. ]", p.name))]
        self._found = [(path, int(match.group(1)), path.stem) for path, match in named]
        folders = sorted(p for p in self.root.iterdir() if p.is_dir() and _pictures(p))
        for folder, label in zip(folders, _folder_labels([f.name for f in folders], class_names), strict=True):
            self._found += [(path, label, f"{folder.name}/{path.stem}") for path in _pictures(folder)]
        if not self._found:
            raise MissingDatasetError(
                f"no photograph in {self.root} tells its class; name files <class index>_..., e.g. 340_zebra.jpg, "
                f"or put them into one folder per class (endings: {', '.join(_ENDINGS)})"
            )
        self._found.sort(key=lambda found: found[2])
        self.ids = [id_ for _, _, id_ in self._found]
        if len(set(self.ids)) < len(self.ids):
            twice = next(i for i in self.ids if self.ids.count(i) > 1)
            raise InvalidInputError(f"{self.root} holds several photographs {twice} with different endings; rename one")

    def photograph(self, index: int) -> Photograph:
        path, label, id_ = self._found[index]
        name = path.parent.name if path.parent != self.root else str(label)
        return Photograph(id_, (Target(label, name),), partial(read_rgb, path), (path,))


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS and p.is_file())


def _folder_labels(names: Sequence[str], class_names: Sequence[str]) -> list[int]:
    known = {wnid: i for i, wnid in enumerate(ilsvrc_wnids())} | {c: i for i, c in enumerate(class_names)}
    labels = [int(n) if n.isdigit() else known.get(n, known.get(n.replace("_", " "))) for n in names]
    if all(label is None for label in labels):
        return list(range(len(names)))
    unknown = [n for n, label in zip(names, labels, strict=True) if label is None]
    if unknown:
        raise InvalidInputError(
            f"the folders {', '.join(unknown[:5])} are named neither by class index nor WordNet number nor by a "
            "class of the network, while others are; rename them or move them away"
        )
    return [label for label in labels if label is not None]
