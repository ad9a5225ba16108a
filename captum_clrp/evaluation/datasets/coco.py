"""Images annotated in the format of MS COCO."""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from captum_clrp.errors import how_to_install
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
from captum_clrp.evaluation.registry import Option
from captum_clrp.geometry import Box


class CocoDetection(Dataset):
    """Images annotated in the format of MS COCO, with exact object masks; needs pycocotools.

    Args:
        root: Folder with ``annotations/instances_SPLIT.json`` and the images in ``SPLIT``.
        split: Default: ``"val2014"``, of the pointing game; ``"val2017"`` otherwise.
        hard: Whether to keep only targets of the pointing game's difficult set; see :class:`Target`.
        class_map: From category names to the network's outputs; others are left out. Default: categories in the
            order of their numbers.

    Raises:
        MissingDatasetError: if it is not there.
        ImportError: without pycocotools.
    """

    key = "coco"
    holds = "MS COCO (needs pycocotools)"
    options = (Option("split", "part of the dataset", metavar="NAME"), HARD, CLASS_MAP)
    name = "MS COCO"

    def __init__(
        self,
        root: str | Path,
        split: str = "val2014",
        *,
        hard: bool = False,
        class_map: Mapping[str, int] | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.split = split
        self.hard = hard
        annotations = self.root / "annotations" / f"instances_{split}.json"
        if not annotations.is_file() or not (self.root / split).is_dir():
            year = split[-4:]
            raise MissingDatasetError(
                f"no MS COCO {split} below {self.root} ({annotations} or the folder {split} is missing); from "
                f"cocodataset.org get {split}.zip and annotations_trainval{year}.zip and unpack both in {self.root}"
            )
        self._coco = _coco(annotations)
        self._images = [self._coco.imgs[i] for i in sorted(self._coco.imgs)]
        self.ids = [str(image["id"]) for image in self._images]
        categories = [self._coco.cats[c] for c in sorted(self._coco.cats)]
        self._names = {c["id"]: c["name"] for c in categories}
        self._given = None if class_map is None else dict(class_map)
        self.own_classes = len(categories) if class_map is None else None
        self.class_map = dict(class_map) if class_map is not None else {c["name"]: i for i, c in enumerate(categories)}

    def settings(self) -> dict[str, Any]:
        return {"split": self.split, "hard": self.hard, "class_map": self._given}

    def photograph(self, index: int) -> Photograph:
        image = self._images[index]
        by_category: dict[int, list[dict[str, Any]]] = {}
        for annotation in self._coco.imgToAnns.get(image["id"], []):
            by_category.setdefault(annotation["category_id"], []).append(annotation)
        targets = []
        for category, annotations in by_category.items():
            name = self._names[category]
            if name not in self.class_map or all(a.get("iscrowd") for a in annotations):
                continue  # a crowd alone is no target; beside single objects it counts as part of the class
            area = sum(float(a["area"]) for a in annotations)
            hard = len(by_category) > 1 and area < image["width"] * image["height"] / 4
            if hard or not self.hard:
                boxes = tuple(Box(x, y, x + w, y + h) for x, y, w, h in (a["bbox"] for a in annotations))
                mask = partial(_coco_mask, self._coco, annotations)
                targets.append(Target(self.class_map[name], name, boxes, mask, hard))
        path = self.root / self.split / image["file_name"]
        return Photograph(str(image["id"]), upright_targets(path, targets), partial(read_rgb, path), (path,))


def _coco(annotations: Path) -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise ImportError(f"annotations of MS COCO need pycocotools; {how_to_install('coco')}") from error
    coco = COCO()
    coco.dataset = json.loads(annotations.read_text())
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        coco.createIndex()
    return coco


def _coco_mask(coco: Any, annotations: Sequence[dict[str, Any]]) -> Image.Image:
    union = coco.annToMask(annotations[0]).astype(bool)
    for annotation in annotations[1:]:
        union |= coco.annToMask(annotation).astype(bool)
    return Image.fromarray(union.astype("uint8") * 255, mode="L")
