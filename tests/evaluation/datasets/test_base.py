"""What all datasets have in common."""

import numpy as np
import pytest
from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import ILSVRC2012, VOC2007, Box, CocoDetection, ImageFolder, MissingDatasetError, box_mask
from captum_clrp.evaluation.datasets.base import Target, read_rgb, upright_targets


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (ILSVRC2012, "ILSVRC2012_img_val.tar"),
        (VOC2007, "VOCtest_06-Nov-2007.tar"),
        (CocoDetection, "val2014.zip"),
        (ImageFolder, "one folder per class"),
    ],
)
def test_a_missing_dataset_says_what_to_download_and_where_to_put_it(tmp_path, dataset, words):
    with pytest.raises(MissingDatasetError, match=words) as caught:
        dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(FileNotFoundError):
        dataset(tmp_path / "nowhere")


def test_a_damaged_photograph_is_named(tmp_path):
    (tmp_path / "3_a.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match="3_a.jpg"):
        ImageFolder(tmp_path)[0].read()


def test_grey_pictures_become_rgb(tmp_path):
    Image.new("L", (5, 5), 100).save(tmp_path / "1_grey.png")
    assert ImageFolder(tmp_path)[0].read().mode == "RGB"


def test_positions_count_from_both_ends(folder):
    dataset = ImageFolder(folder)
    assert dataset[-1].id == dataset[11].id
    assert [p.id for p in dataset[2:4]] == [dataset[2].id, dataset[3].id]
    with pytest.raises(IndexError):
        dataset[12]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_and_masks_turn_with_their_picture(tmp_path, orientation):
    """The object is white: whatever the camera said, its box and its mask lie where the upright picture is white."""
    width, height, box = 12, 8, Box(1, 2, 6, 5)
    stored = np.zeros((height, width, 3), np.uint8)
    stored[2:5, 1:6] = 255
    picture = Image.fromarray(stored)
    exif = picture.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    picture.save(path, exif=exif)
    mask = Image.fromarray(stored[..., 0])
    (target,) = upright_targets(path, [Target(0, "white", (box,), lambda: mask)])
    seen = np.asarray(read_rgb(path))[..., 0] > 0
    assert (box_mask(target.boxes, *seen.shape).numpy() == seen).all()
    assert ((np.asarray(target.mask()) > 0) == seen).all()


def test_datasets_decode_photographs_as_explain_does(tmp_path):
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(tmp_path / "deep.png")
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    for name, expected in (("deep.png", 117), ("clear.png", 255)):  # a transparent picture stands on white
        assert np.asarray(read_rgb(tmp_path / name)).min() == expected
