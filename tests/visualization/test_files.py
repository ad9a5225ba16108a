import io
import re

import numpy as np
import pytest
from PIL import ExifTags, Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.visualization import draw_map, encoded

TITLE, WORDS = "cat.jpg <1>", "network x; zebra: sum 0.5 & more"


@pytest.fixture(scope="module")
def figure():
    return draw_map(np.eye(16), np.full((16, 16, 3), 0.5), label="zebra")


def test_png_says_what_it_shows(figure):
    picture = Image.open(io.BytesIO(encoded(figure, "png", title=TITLE, description=WORDS)))
    assert picture.format == "PNG"
    assert {key: picture.info[key] for key in ("Software", "Title", "Description")} == {
        "Software": "captum-clrp",
        "Title": TITLE,
        "Description": WORDS,
    }


@pytest.mark.parametrize("ending", ["jpg", ".JPEG", "webp"])
def test_jpeg_and_webp_say_it_in_their_exif(figure, ending):
    picture = Image.open(io.BytesIO(encoded(figure, ending, title=TITLE, description=WORDS)))
    assert picture.format == ending.strip(".").upper().replace("JPG", "JPEG")
    exif = picture.getexif()
    assert exif[ExifTags.Base.Software] == "captum-clrp"
    assert exif[ExifTags.Base.ImageDescription] == f"{TITLE}\n{WORDS}"


def test_pdf_and_svg_say_it_too(figure):
    pdf = encoded(figure, "pdf", title="cat", description="zebra sums to 0.5")
    assert re.search(rb"/Title \(cat\)", pdf)
    assert re.search(rb"/Subject \(zebra sums to 0.5\)", pdf)
    svg = encoded(figure, "svg", title=TITLE, description=WORDS).decode()
    assert "<dc:title>cat.jpg &lt;1&gt;</dc:title>" in svg
    assert "<dc:description>network x; zebra: sum 0.5 &amp; more</dc:description>" in svg


@pytest.mark.parametrize("ending", ["png", "jpg", "pdf", "svg"])
def test_equal_maps_give_equal_bytes(ending):
    first, second = (encoded(draw_map(np.eye(16), style="heatmap", label="a"), ending) for _ in range(2))
    assert first == second


def test_the_resolution_is_the_one_asked_for(figure):
    small, large = (Image.open(io.BytesIO(encoded(figure, dpi=dpi))).size[0] for dpi in (60, 120))
    assert large == pytest.approx(2 * small, abs=2)


def test_another_format_is_refused(figure):
    with pytest.raises(InvalidInputError, match="choose from png, jpg"):
        encoded(figure, "gif")
