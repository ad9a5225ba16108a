"""Make the photographs and lists of the evaluation from scikit-image, matplotlib and timm, which must be installed.

python tools/make_evaluation_data.py
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "captum_clrp" / "data"
SHORTER_SIDE = 320
# Boxes are drawn by hand, in pixels of the original: left, top, right, bottom.
PHOTOGRAPHS: list[dict[str, Any]] = [
    {
        "package": "skimage",
        "source": "data/chelsea.png",
        "class": 282,
        "name": "tiger cat",
        "boxes": [[0, 0, 400, 300]],
    },
    {
        "package": "skimage",
        "source": "data/coffee.png",
        "class": 967,
        "name": "espresso",
        "boxes": [[172, 15, 407, 310]],
    },
    {
        "package": "skimage",
        "source": "data/rocket.jpg",
        "class": 657,
        "name": "missile",
        "boxes": [[303, 122, 342, 408]],
    },
    {
        "package": "skimage",
        "source": "data/camera.png",
        "class": 872,
        "name": "tripod",
        "boxes": [[228, 180, 410, 512]],
    },
    {
        "package": "matplotlib",
        "source": "mpl-data/sample_data/grace_hopper.jpg",
        "class": 652,
        "name": "military uniform",
        "boxes": [[163, 20, 372, 152], [10, 310, 512, 600]],
    },
]


def main() -> None:
    """Write the JPEG files, ``photographs.json`` and ``ilsvrc2012_wnids.txt``."""
    from PIL import Image

    annotations = []
    for entry in PHOTOGRAPHS:
        with (resources.files(entry["package"]) / entry["source"]).open("rb") as file:
            picture = Image.open(file).convert("RGB")
        factor = min(1.0, SHORTER_SIDE / min(picture.size))
        width, height = (round(side * factor) for side in picture.size)
        name = f"{Path(entry['source']).stem}.jpg"
        picture.resize((width, height), Image.Resampling.LANCZOS).save(FOLDER / name, quality=88, optimize=True)
        x, y = width / picture.width, height / picture.height
        annotations.append(
            {
                "file": name,
                "class": entry["class"],
                "name": entry["name"],
                "boxes": [[round(v * f, 1) for v, f in zip(box, (x, y, x, y), strict=True)] for box in entry["boxes"]],
            }
        )
    (FOLDER / "photographs.json").write_text(json.dumps(annotations, indent=1) + "\n")

    from timm.data import ImageNetInfo  # type: ignore[attr-defined]

    info = ImageNetInfo("imagenet-1k")
    wnids = [info.index_to_label_name(i) for i in range(info.num_classes())]
    (FOLDER / "ilsvrc2012_wnids.txt").write_text("\n".join(wnids) + "\n")


if __name__ == "__main__":
    main()
