"""Make captum_clrp/data/cat_and_coffee.png, the picture that ``captum-clrp explain`` shows without arguments.

Two CC0 photographs of scikit-image stand side by side, each filling half of a square of 256 x 256 pixels, of which a
network with the usual preprocessing sees the middle 224 x 224. Run from the repository (needs scikit-image):

    python tools/make_example_picture.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).resolve().parent.parent / "captum_clrp" / "data" / "cat_and_coffee.png"
SIDE = 256
# Left, top, right, bottom: upright crops, twice as high as wide, around the cat's face and around the cup.
CAT, CUP = (115, 0, 265, 300), (200, 0, 400, 400)


def make() -> Image.Image:
    """The cat on the left, the cup of coffee on the right."""
    from skimage import data

    picture = Image.new("RGB", (SIDE, SIDE))
    for column, (photograph, box) in enumerate(((data.chelsea(), CAT), (data.coffee(), CUP))):
        half = Image.fromarray(photograph).crop(box)
        half = half.resize((SIDE // 2, SIDE), Image.Resampling.LANCZOS)
        picture.paste(half, (column * SIDE // 2, 0))
    return picture


if __name__ == "__main__":
    make().save(PICTURE, optimize=True)
    sys.stdout.write(f"wrote {PICTURE}\n")
