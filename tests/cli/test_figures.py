import io
import warnings

import numpy as np
import pytest
from PIL import Image

from captum_clrp.cli import figures
from captum_clrp.cli.figures import Row, draw, stacked

SIDE = 20
PICTURE = np.full((SIDE, SIDE, 3), 0.5, np.float32)


def flat(value: float) -> np.ndarray:
    return np.full((3, SIDE, SIDE), value, np.float32)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)


def colour(png: bytes) -> np.ndarray:
    """How far from white each line of the picture's right is: the column of a single method."""
    colours = pixels(png)
    right = colours[:, -colours.shape[1] // 4 : -40]
    return 255 - right[..., 1].mean(1)


def test_maps_stand_one_below_the_other_with_a_gap_of_zeros():
    column = stacked([np.ones((50, 4)), np.full((50, 4), 2.0)])
    assert column.shape == (103, 4)
    assert column[:50].min() == column[:50].max() == 1
    assert (column[50:53] == 0).all()
    assert (column[53:] == 2).all()


def test_classes_share_a_scale_within_a_method():
    """The class with a quarter of the relevance is paler, though alone it would be as strong."""
    lines = colour(draw(PICTURE, "x", ["LRP"], [Row("much", [flat(4)]), Row("little", [flat(1)])]))
    half = len(lines) // 2
    assert lines[:half].max() > 2 * lines[half:-60].max() > 20
    alone = colour(draw(PICTURE, "x", ["LRP"], [Row("little", [flat(1)])]))
    assert alone.max() == pytest.approx(lines[:half].max(), abs=8)


def test_tiny_relevance_is_drawn_as_large_relevance_is():
    rows = [[Row("a", [flat(2 * size)]), Row("b", [flat(-size)])] for size in (1e-12, 1e6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny, large = (draw(PICTURE, "x", ["LRP"], row) for row in rows)
    differ = (pixels(tiny) != pixels(large)).any(-1)
    assert differ.mean() < 0.01  # the numbers in the corners


def test_no_relevance_at_all_is_white_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = draw(PICTURE, "x", ["CLRP1"], [Row("nothing", [flat(0)])])
    right = pixels(png)[:, -pixels(png).shape[1] // 4 :]
    assert (right > 250).mean() > 0.95  # but for the frame, the heading and the word "nothing"


def test_equal_maps_give_equal_bytes_and_names_need_no_escaping():
    rows = [Row("a $strange_name^", [flat(1), flat(2), flat(3)])] * 5
    title = r"$\frac{holiday}$.png"
    methods = ["LRP", "CLRP1", "CLRP2"]
    first = draw(PICTURE, title, methods, rows)
    assert first.startswith(b"\x89PNG")
    assert first == draw(PICTURE, title, methods, rows)


def test_long_names_are_wrapped_and_long_titles_shortened():
    assert figures._wrapped("black-and-tan coonhound\n3.1 %, logit 5.28", 19).split("\n") == [
        "black-and-tan",
        "coonhound",
        "3.1 %, logit 5.28",
    ]
    short = figures._shortened("a" * 100 + "_17.jpg", 32)
    assert len(short) <= 32
    assert short.endswith("_17.jpg")
    assert figures._shortened("cat.jpg", 32) == "cat.jpg"


def test_letters_that_the_font_lacks_become_boxes_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(PICTURE, "\u732b.png", ["LRP"], [Row("\u732b", [flat(1)])])
    assert figures._drawable("\u732b.png") == "\u25a1.png"
    assert figures._drawable("Katze \u00e9") == "Katze \u00e9"
