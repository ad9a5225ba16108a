"""Tiny datasets in the shape of ILSVRC2012, PASCAL VOC 2007 and MS COCO."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n02391049", "n04552348")  # classes 0, 340 and 895 of ILSVRC2012


def noise(path: Path, width: int, height: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def xml(path: Path, width: int, height: int, objects: list[tuple[str, tuple[int, int, int, int], bool]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{b[0]}</xmin>"
        f"<ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b, difficult in objects
    )
    path.write_text(f"<annotation><size><width>{width}</width><height>{height}</height></size>{entries}</annotation>")


def ilsvrc(root: Path, foldered: bool = False) -> Path:
    """Three photographs: one box, two boxes of one class, and a box that a square crop does not see."""
    boxes = [[(10, 20, 49, 59)], [(0, 0, 19, 19), (60, 40, 99, 59)], [(0, 0, 4, 50)]]
    sizes = [(80, 80), (100, 60), (200, 60)]
    for i, (wnid, of_image, (width, height)) in enumerate(zip(WNIDS, boxes, sizes, strict=True), start=1):
        name = f"ILSVRC2012_val_{i:08d}"
        noise(root / "val" / (wnid if foldered else "") / f"{name}.JPEG", width, height, i)
        xml(root / "bbox_val" / f"{name}.xml", width, height, [(wnid, box, False) for box in of_image])
    return root


def voc(root: Path) -> Path:
    """Two photographs: a small dog (and a flagged one) beside a large cat; a horse alone."""
    base = root / "VOCdevkit" / "VOC2007"
    (base / "ImageSets" / "Main").mkdir(parents=True)
    (base / "ImageSets" / "Main" / "test.txt").write_text("000001\n000002\n")
    noise(base / "JPEGImages" / "000001.jpg", 100, 80, 1)
    noise(base / "JPEGImages" / "000002.jpg", 60, 60, 2)
    xml(
        base / "Annotations" / "000001.xml",
        100,
        80,
        [("dog", (1, 1, 20, 30), False), ("dog", (90, 70, 100, 80), True), ("cat", (31, 11, 100, 80), False)],
    )
    xml(base / "Annotations" / "000002.xml", 60, 60, [("horse", (11, 11, 50, 50), False), ("sofa", (1, 1, 9, 9), True)])
    return root


def coco(root: Path) -> Path:
    """Two images: a triangular dog and a crowd of people; a cat in two parts."""
    noise(root / "val2014" / "one.jpg", 40, 40, 1)
    noise(root / "val2014" / "two.jpg", 50, 30, 2)
    annotation = {
        "images": [
            {"id": 7, "file_name": "two.jpg", "width": 50, "height": 30},
            {"id": 3, "file_name": "one.jpg", "width": 40, "height": 40},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 3,
                "category_id": 18,
                "iscrowd": 0,
                "area": 200,
                "bbox": [10, 10, 20, 20],
                "segmentation": [[10, 10, 30, 10, 10, 30]],
            },
            {
                "id": 2,
                "image_id": 3,
                "category_id": 1,
                "iscrowd": 1,
                "area": 100,
                "bbox": [0, 0, 10, 10],
                "segmentation": {"size": [40, 40], "counts": [0, 10] + [30, 10] * 9 + [30 + 30 * 40]},
            },
            {
                "id": 3,
                "image_id": 7,
                "category_id": 17,
                "iscrowd": 0,
                "area": 100,
                "bbox": [0, 0, 10, 10],
                "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]],
            },
            {
                "id": 4,
                "image_id": 7,
                "category_id": 17,
                "iscrowd": 0,
                "area": 200,
                "bbox": [30, 10, 20, 10],
                "segmentation": [[30, 10, 50, 10, 50, 20, 30, 20]],
            },
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(annotation))
    return root
