"""ILSVRC2012 (ImageNet) validation photographs with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from captum_clrp.classifiers import imagenet_wnids
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.datasets.base import (
    Dataset,
    MissingDatasetError,
    Photograph,
    Target,
    read_rgb,
    upright_targets,
)
from captum_clrp.evaluation.datasets.xml_boxes import objects
from captum_clrp.geometry import Box


class ILSVRC2012(Dataset):
    """The validation photographs of ILSVRC2012 with their boxes.

    Images are looked for in ``val``, ``ILSVRC2012_img_val`` or ``Data/CLS-LOC/val`` below the root (or in it), flat
    or in one folder per class; XML files in ``bbox_val``, ``Annotations/CLS-LOC/val`` or ``val``. Photographs
    without an XML file have no target if they lie flat, and one without box if their folder is named after the class.

    Args:
        root: The folder.

    Raises:
        MissingDatasetError: if images or boxes are not there.
        InvalidInputError: in ``photograph``, if an annotation names a class that ILSVRC2012 does not have.
    """

    key = "ilsvrc"
    holds = "ILSVRC2012 validation with its boxes"
    name = "ILSVRC2012 validation"
    _IMAGES = ("val", "ILSVRC2012_img_val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val", ".")
    _BOXES = ("bbox_val/val", "bbox_val", "Annotations/CLS-LOC/val", "ILSVRC/Annotations/CLS-LOC/val", "val", ".")

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self._paths = self._find(self._IMAGES, ".jpeg")
        annotations = self._find(self._BOXES, ".xml")
        if not self._paths or not annotations:
            missing = "photographs (ILSVRC2012_val_*.JPEG)" if not self._paths else "boxes (ILSVRC2012_val_*.xml)"
            raise MissingDatasetError(
                f"no {missing} of ILSVRC2012 below {self.root}; from image-net.org (free account) get "
                "ILSVRC2012_img_val.tar (6.3 GB) and ILSVRC2012_bbox_val_v3.tgz (2.2 MB) and unpack them into "
                f"{self.root / 'val'} and {self.root / 'bbox_val'}"
            )
        self._annotations = {path.stem: path for path in annotations}
        self.ids = [path.stem for path in self._paths]
        self._labels = {wnid: i for i, wnid in enumerate(imagenet_wnids())}

    def _find(self, folders: Sequence[str], ending: str) -> list[Path]:
        for folder in folders:
            found = [
                path
                for pattern in ("ILSVRC2012_val_*", "n*/ILSVRC2012_val_*")
                for path in (self.root / folder).glob(pattern)
                if path.suffix.lower() == ending
            ]
            if found:
                return sorted(found, key=lambda path: path.stem)
        return []

    def photograph(self, index: int) -> Photograph:
        path = self._paths[index]
        annotation = self._annotations.get(path.stem)
        boxes: dict[str, list[Box]] = {}
        if annotation is not None:
            for wnid, box, _ in objects(annotation, first=0)[0]:
                boxes.setdefault(wnid, []).append(box)
        elif path.parent.name in self._labels:
            boxes[path.parent.name] = []
        unknown = sorted(set(boxes) - set(self._labels))
        if unknown:
            raise InvalidInputError(
                f"{annotation} names {', '.join(unknown)}, which are not classes of ILSVRC2012; classes are WordNet "
                "numbers such as n01440764"
            )
        targets = tuple(Target(self._labels[wnid], wnid, tuple(b)) for wnid, b in boxes.items())
        return Photograph(path.stem, upright_targets(path, targets), partial(read_rgb, path), (path,))
