"""PASCAL VOC 2007 with its boxes and its "difficult" flags."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from captum_clrp.evaluation.datasets.base import (
    CLASS_MAP,
    HARD,
    Dataset,
    MissingDatasetError,
    Photograph,
    Target,
    read_rgb,
    upright_targets,
)
from captum_clrp.evaluation.datasets.xml_boxes import objects
from captum_clrp.evaluation.registry import Option
from captum_clrp.geometry import Box

_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa "
    "train tvmonitor"
)
VOC_CLASSES = tuple(_NAMES.split())


class VOC2007(Dataset):
    """PASCAL VOC 2007 with its boxes.

    Args:
        root: The folder that holds ``VOCdevkit/VOC2007`` (or is that folder).
        split: Which list in ``ImageSets/Main``. Default: ``"test"``.
        flagged: Whether objects that the annotators flagged "difficult" count as objects of their class. Default: no,
            as in the VOC evaluation; a class of which all objects are flagged is no target then.
        hard: Whether to keep only targets of the pointing game's difficult set; see :class:`Target`.
        class_map: From class names to the network's outputs; classes that are not in it are left out. Default: the 20
            classes in alphabetical order.

    Raises:
        MissingDatasetError: if it is not there.
    """

    key = "voc07"
    holds = "PASCAL VOC 2007"
    options = (
        Option("split", "part of the dataset", metavar="NAME"),
        HARD,
        Option("flagged", 'objects flagged "difficult" count as well', bool),
        CLASS_MAP,
    )
    name = "PASCAL VOC 2007"

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        flagged: bool = False,
        hard: bool = False,
        class_map: Mapping[str, int] | None = None,
    ) -> None:
        root = Path(root).expanduser()
        places = (root / "VOCdevkit" / "VOC2007", root / "VOC2007", root)
        self.root = next((place for place in places if (place / "JPEGImages").is_dir()), places[0])
        listing = self.root / "ImageSets" / "Main" / f"{split}.txt"
        if not listing.is_file() or not (self.root / "Annotations").is_dir():
            raise MissingDatasetError(
                f"no PASCAL VOC 2007 below {root} ({listing} is missing); from "
                "host.robots.ox.ac.uk/pascal/VOC/voc2007 get VOCtest_06-Nov-2007.tar (430 MB; "
                f"VOCtrainval_06-Nov-2007.tar for trainval) and unpack it in {root}, so that {places[0]} appears"
            )
        self.ids = listing.read_text().split()
        self.flagged = flagged
        self.split = split
        self.hard = hard
        self._given = None if class_map is None else dict(class_map)
        self.own_classes = len(VOC_CLASSES) if class_map is None else None
        self.class_map = dict(class_map) if class_map is not None else {c: i for i, c in enumerate(VOC_CLASSES)}

    def settings(self) -> dict[str, Any]:
        return {"split": self.split, "hard": self.hard, "flagged": self.flagged, "class_map": self._given}

    def photograph(self, index: int) -> Photograph:
        id_ = self.ids[index]
        annotation = self.root / "Annotations" / f"{id_}.xml"
        boxes: dict[str, list[Box]] = {}
        every_class = set()
        found, area = objects(annotation, first=1)
        for name, box, difficult in found:
            every_class.add(name)
            if self.flagged or not difficult:
                boxes.setdefault(name, []).append(box)
        targets = []
        for name, of_class in boxes.items():
            hard = len(every_class) > 1 and sum(box.area for box in of_class) < area / 4
            if name in self.class_map and (hard or not self.hard):
                targets.append(Target(self.class_map[name], name, tuple(of_class), hard=hard))
        path = self.root / "JPEGImages" / f"{id_}.jpg"
        return Photograph(id_, upright_targets(path, targets), partial(read_rgb, path), (path,))
