"""The photographs that come with the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from importlib import resources
from typing import Any

from PIL import Image

from captum_clrp.evaluation.datasets.base import Dataset, Photograph, Target
from captum_clrp.geometry import Box, Geometry

_CELL = 224


class Embedded(Dataset):
    """Photographs that come with the package: five of them with boxes, and collages of four.

    Each collage leaves one photograph out and shows the others, cut to squares, in two rows; so it holds objects of
    four classes, each with its boxes. Sources and licences: ``captum_clrp/data/README.md``.

    Args:
        collages: Whether the collages belong to it. Default: yes.
    """

    key = "embedded"
    holds = "five photographs with boxes, and collages of them, that come with the package"
    takes_folder = False
    scene_rounds = 8  # a single grid of them would be too few
    name = "embedded photographs"

    def __init__(self, *, collages: bool = True) -> None:
        self._annotations: list[dict[str, Any]] = json.loads(_file("photographs.json").read_text())
        names = [a["file"].partition(".")[0] for a in self._annotations]
        self.ids = names + [f"collage_without_{name}" for name in names] * collages

    @classmethod
    def open(cls, folder: str, class_names: Sequence[str] = (), *, scenes: bool = False, **options: Any) -> Embedded:
        return cls(collages=not scenes)

    def photograph(self, index: int) -> Photograph:
        count = len(self._annotations)
        if index < count:
            return self._single(index)
        return _collage(self.ids[index], [self._single(i) for i in range(count) if i != index - count])

    def _single(self, index: int) -> Photograph:
        annotation = self._annotations[index]
        boxes = tuple(Box(*box) for box in annotation["boxes"])
        target = Target(annotation["class"], annotation["name"], boxes)
        return Photograph(self.ids[index], (target,), partial(_read, annotation["file"]), (_file(annotation["file"]),))


def _file(name: str) -> Any:
    return resources.files("captum_clrp") / "data" / name


def _read(name: str) -> Image.Image:
    with _file(name).open("rb") as stream:
        return Image.open(stream).convert("RGB")


_SQUARE = Geometry(_CELL, (_CELL, _CELL))


def _collage(id_: str, parts: Sequence[Photograph]) -> Photograph:
    targets = []
    for cell, part in enumerate(parts):
        width, height = part.read().size
        row, column = divmod(cell, 2)
        for target in part.targets:
            boxes = tuple(_SQUARE.box(box, width, height).shifted(column * _CELL, row * _CELL) for box in target.boxes)
            targets.append(Target(target.label, target.name, boxes))
    return Photograph(
        id_, tuple(targets), partial(_draw_collage, tuple(parts)), tuple(f for p in parts for f in p.files)
    )


def _draw_collage(parts: Sequence[Photograph]) -> Image.Image:
    collage = Image.new("RGB", (2 * _CELL, 2 * _CELL))
    for cell, part in enumerate(parts):
        row, column = divmod(cell, 2)
        collage.paste(_SQUARE.picture(part.read()), (column * _CELL, row * _CELL))
    return collage
