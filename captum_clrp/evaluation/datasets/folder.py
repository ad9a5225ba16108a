"""A folder of photographs, named or foldered by class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from captum_clrp.classifiers import imagenet_wnids
from captum_clrp.errors import InvalidInputError, warn
from captum_clrp.evaluation.datasets.base import Dataset, MissingDatasetError, Photograph, Target, read_rgb
from captum_clrp.evaluation.registry import Option
from captum_clrp.images import read_range

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class ImageFolder(Dataset):
    """A folder of photographs, named or foldered by class; without boxes.

    Files directly in the folder are named ``<class index>_...`` or ``<class index>-...``. Folders below it are named after
    the class: by its index, its WordNet number (ILSVRC2012) or its name in ``class_names``, whatever its capitals; if no
    folder's name is one of these, classes are numbered in alphabetical order of the folders, which a run takes only for
    a network of as many outputs. Pictures that captum-clrp wrote, and files without a class, are left out; a warning
    says how many.

    Args:
        root: The folder.
        class_names: Names of the network's outputs.
        value_range: The values that are black and white in grey photographs, e.g. ``(0, 4095)`` for 12 bits; coloured ones are
            then refused. Default: 0 and the highest that the file can hold.

    Raises:
        MissingDatasetError: if there is no such folder, or no photograph with a class in it.
        InvalidInputError: if two photographs would have the same name, or a folder's class is not known.
    """

    key = "folder"
    holds = "photographs named <class index>_..., or in one folder per class (no boxes)"
    has_places = False
    options = (
        Option(
            "range",
            "the values that are black and white in grey photographs, e.g. 0,4095 for 12 bits",
            read_range,
            "BLACK,WHITE",
            "value_range",
        ),
    )

    @classmethod
    def open(cls, folder: str, class_names: Sequence[str] = (), *, scenes: bool = False, **options: Any) -> ImageFolder:
        return cls(folder or f"./{cls.key}", class_names, **options)

    def __init__(
        self, root: str | Path, class_names: Sequence[str] = (), value_range: tuple[float, float] | None = None
    ) -> None:
        self.value_range = value_range
        self.root = Path(root).expanduser()
        self.name = self.root.name
        if not self.root.is_dir():
            raise MissingDatasetError(
                f"there is no folder {self.root}; give a folder of photographs named <class index>_..., or in "
                "one folder per class"
            )
        named = [(p, m) for p in _pictures(self.root) if (m := re.match(r"(\d+)[_\-]", p.name))]
        self._found = [(path, int(match.group(1)), path.stem) for path, match in named]
        folders = sorted(p for p in self.root.iterdir() if p.is_dir() and _pictures(p))
        labels = _folder_labels([f.name for f in folders], class_names)
        self.own_classes = len(folders) if folders and labels is None else None
        for folder, label in zip(folders, range(len(folders)) if labels is None else labels, strict=True):
            self._found += [(path, label, f"{folder.name}/{path.stem}") for path in _pictures(folder)]
        if not self._found:
            raise MissingDatasetError(
                f"no photograph in {self.root} tells its class; name files <class index>_..., e.g. 340_zebra.jpg, "
                f"or put them into one folder per class (endings: {', '.join(_ENDINGS)})"
            )
        taken = {path for path, _, _ in self._found}
        left_out = sorted(p.name for p in self.root.iterdir() if p.is_file() and p not in taken and not _hidden(p))
        if left_out:
            warn(
                f"{len(left_out)} of {len(left_out) + len(named)} files in {self.root} are left out: their names begin with no "
                f"class index and _ or -, or end in none of {', '.join(_ENDINGS)} ({', '.join(left_out[:3])}, ...)"
            )
        self._found.sort(key=lambda found: found[2])
        self.ids = [id_ for _, _, id_ in self._found]
        if len(set(self.ids)) < len(self.ids):
            twice = next(i for i in self.ids if self.ids.count(i) > 1)
            raise InvalidInputError(f"{self.root} holds several photographs {twice} with different endings; rename one")

    def photograph(self, index: int) -> Photograph:
        path, label, id_ = self._found[index]
        name = path.parent.name if path.parent != self.root else str(label)
        return Photograph(id_, (Target(label, name),), partial(read_rgb, path, self.value_range), (path,))

    def settings(self) -> dict[str, Any]:
        return {} if self.value_range is None else {"value_range": list(self.value_range)}

    def digest(self, index: int) -> str:
        return super().digest(index) + ("" if self.value_range is None else f" {self.value_range}")


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.stem.endswith("_clrp")


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS and p.is_file() and not _hidden(p))


def _folder_labels(names: Sequence[str], class_names: Sequence[str]) -> list[int] | None:
    """The class of each folder; ``None`` if none of them names one."""
    known = {wnid: i for i, wnid in enumerate(imagenet_wnids())} | {_plain(c): i for i, c in enumerate(class_names)}
    labels = [int(n) if n.isdigit() else known.get(_plain(n)) for n in names]
    if all(label is None for label in labels):
        return None
    unknown = [n for n, label in zip(names, labels, strict=True) if label is None]
    if unknown:
        raise InvalidInputError(
            f"the folders {', '.join(unknown[:5])} are named neither by class index nor WordNet number nor by a class of the "
            "network, while others are; rename them or move them away"
        )
    return [label for label in labels if label is not None]


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()
