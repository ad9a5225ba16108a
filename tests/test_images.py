import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.images import example_picture, open_picture, orientation_of

ROOT = Path(__file__).resolve().parents[1]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than it holds: a bomb for whoever allocates first."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_the_example_is_a_square_rgb_picture():
    picture = example_picture()
    assert (picture.mode, picture.size) == ("RGB", (256, 256))


@pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="tests run apart from the checkout")
def test_the_example_is_what_its_script_makes(monkeypatch):
    data = pytest.importorskip("skimage.data")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    try:
        data.chelsea(), data.coffee()
    except Exception as error:  # scikit-image fetches photographs that it was not packaged with
        pytest.skip(f"scikit-image's photographs are not on this machine: {error}")
    import make_example_picture

    made, kept = np.asarray(make_example_picture.make(), int), np.asarray(example_picture(), int)
    assert np.abs(made - kept).max() <= 2  # resampling may round otherwise in another Pillow


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "picture.tif" if mode == "CMYK" else tmp_path / "picture.png"
    Image.new("RGB", (8, 6), (200, 200, 200)).convert(mode).save(path)
    opened = open_picture(path)
    assert (opened.mode, opened.size) == ("RGB", (8, 6))


def test_transparent_parts_are_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    opened = np.asarray(open_picture(tmp_path / "clear.png"))
    assert opened[0, 0].tolist() == [10, 20, 30]
    assert opened[1, 1].tolist() == [255, 255, 255]


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(open_picture(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 128, 255]


def test_a_photograph_taken_upright_stands_upright(tmp_path):
    picture = Image.new("RGB", (8, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was turned
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (4, 8)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif"])
def test_half_a_file_is_refused(tmp_path, ending):
    path = tmp_path / f"half.{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInputError, match=r"damaged or incomplete"):
        open_picture(path)


@pytest.mark.parametrize("size", [(100_000, 100_000), (11_000, 11_000)])
def test_a_giant_picture_is_refused_before_it_is_decoded(tmp_path, size):
    (tmp_path / "giant.png").write_bytes(png_claiming(*size))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor does Pillow's warning reach the terminal
        with pytest.raises(InvalidInputError, match="more than 100 million; shrink it"):
            open_picture(tmp_path / "giant.png")


def test_a_thread_of_pixels_is_refused(tmp_path):
    Image.new("RGB", (4, 400)).save(tmp_path / "thread.png")
    with pytest.raises(InvalidInputError, match="crop it first"):
        open_picture(tmp_path / "thread.png")


@pytest.mark.parametrize(("content", "says"), [(b"", "is empty"), (b"hello", "known format")])
def test_what_is_no_picture_is_refused(tmp_path, content, says):
    (tmp_path / "note.jpg").write_bytes(content)
    with pytest.raises(InvalidInputError, match=says):
        open_picture(tmp_path / "note.jpg")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="there is no picture"):
        open_picture(tmp_path / "nowhere.jpg")
    with pytest.raises(InvalidInputError, match="is a folder"):
        open_picture(tmp_path)


def test_addresses_are_not_fetched(tmp_path):
    with pytest.raises(InvalidInputError, match=r"https://example\.com/a\.jpg is an address; download"):
        open_picture(Path("https://example.com/a.jpg"))


def test_twelve_bits_in_sixteen_get_a_note(tmp_path):
    Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(tmp_path / "dark.png")
    with pytest.warns(UserWarning, match="go from 4000 to 4000, while 0 is shown as black and 65535 as white"):
        open_picture(tmp_path / "dark.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_picture(tmp_path / "dark.png", (0, 4095))
        Image.fromarray(np.array([[0, 40000]], np.uint16)).save(tmp_path / "bright.png")
        open_picture(tmp_path / "bright.png")


@pytest.mark.parametrize("values", [[32768 + 1000, 32768 + 3000], [-1000, 400]])
def test_values_elsewhere_in_a_wide_range_get_a_note(tmp_path, values):
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "scan.tif")
    with pytest.warns(UserWarning, match=f"go from {values[0]} to {values[1]}, while 0"):
        open_picture(tmp_path / "scan.tif")


@pytest.mark.parametrize(
    ("values", "kind", "value_range"),
    [
        ([0, 1024, 2048, 4095, 5000], np.uint16, (0, 4096)),
        ([-2000, -512, 0, 512, 2000], np.int32, (-1024, 1024)),
        ([-0.5, 0.25, 0.5, 1.0, 7.0], np.float32, (0.0, 1.0)),
        ([10, 60, 110, 210, 255], np.uint8, (10, 210)),
    ],
)
def test_a_range_says_what_is_black_and_white(tmp_path, values, kind, value_range):
    Image.fromarray(np.array([values], kind)).save(tmp_path / "scan.tif")
    low, high = value_range
    expected = [round(255 * min(max((value - low) / (high - low), 0), 1)) for value in values]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(open_picture(tmp_path / "scan.tif", value_range))
    assert found.shape == (1, 5, 3)
    assert found[0, :, 0].tolist() == found[0, :, 2].tolist() == expected


def test_colours_have_no_range(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(InvalidInputError, match="is no grey picture"):
        open_picture(tmp_path / "colour.png", (0, 100))


def test_without_an_orientation_a_picture_is_as_it_is_stored(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "none.jpg").write_text("no picture")
    assert orientation_of(tmp_path / "plain.png") == orientation_of(tmp_path / "none.jpg") == 1
