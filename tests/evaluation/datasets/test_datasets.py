"""Datasets in the shapes in which they are published, tiny."""

import numpy as np
import pytest
import torch
from helpers import shaped
from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import (
    ILSVRC2012,
    VOC2007,
    Box,
    CocoDetection,
    Embedded,
    Geometry,
    ImageFolder,
    MissingDatasetError,
    PhotographSource,
    box_mask,
)
from captum_clrp.evaluation.datasets.base import Target, read_rgb, upright_targets


@pytest.mark.parametrize("foldered", [False, True])
def test_ilsvrc(tmp_path, foldered):
    dataset = ILSVRC2012(shaped.ilsvrc(tmp_path, foldered))
    assert [p.id for p in dataset] == [f"ILSVRC2012_val_{i:08d}" for i in (1, 2, 3)]
    assert [p.targets[0].label for p in dataset] == [0, 340, 895]
    assert dataset[0].targets[0].boxes == (Box(10, 20, 50, 60),)  # pixels 10 to 49 and 20 to 59, counted from 0
    assert dataset[1].targets[0].boxes == (Box(0, 0, 20, 20), Box(60, 40, 100, 60))
    assert dataset[1].read().size == (100, 60)


def test_ilsvrc_photographs_without_boxes_have_the_class_of_their_folder(tmp_path):
    shaped.ilsvrc(tmp_path, foldered=True)
    (tmp_path / "bbox_val" / "ILSVRC2012_val_00000002.xml").unlink()
    target = ILSVRC2012(tmp_path)[1].targets[0]
    assert (target.label, target.located) == (340, False)


def test_an_unknown_class_is_named(tmp_path):
    shaped.ilsvrc(tmp_path)
    shaped.xml(tmp_path / "bbox_val" / "ILSVRC2012_val_00000001.xml", 80, 80, [("dog", (0, 0, 4, 4), False)])
    with pytest.raises(InvalidInputError, match="names dog"):
        ILSVRC2012(tmp_path)[0]


def test_voc(tmp_path):
    dataset = VOC2007(shaped.voc(tmp_path))
    first, second = dataset
    assert [(t.name, t.label, t.hard) for t in first.targets] == [("dog", 11, True), ("cat", 7, False)]
    assert first.targets[0].boxes == (Box(0, 0, 20, 30),)  # pixels 1 to 20 and 1 to 30, counted from 1; no flagged one
    assert [t.name for t in second.targets] == ["horse"]  # the flagged sofa is no target
    assert not second.targets[0].hard


def test_voc_flagged_objects_can_count(tmp_path):
    dataset = VOC2007(shaped.voc(tmp_path), flagged=True)
    assert dataset[0].targets[0].boxes == (Box(0, 0, 20, 30), Box(89, 69, 100, 80))
    assert [t.name for t in dataset[1].targets] == ["horse", "sofa"]


def test_voc_difficult_set_and_class_map(tmp_path):
    shaped.voc(tmp_path)
    # The dog covers 20 x 30 of 100 x 80 and is not alone; the cat covers 70 x 70, more than a quarter.
    assert [[t.name for t in p.targets] for p in VOC2007(tmp_path, hard=True)] == [["dog"], []]
    assert [[t.label for t in p.targets] for p in VOC2007(tmp_path, class_map={"cat": 281})] == [[281], []]


def test_coco(tmp_path):
    pytest.importorskip("pycocotools")
    first, second = CocoDetection(shaped.coco(tmp_path))
    assert (first.id, second.id) == ("3", "7")
    assert [(t.name, t.label) for t in first.targets] == [("dog", 2)]  # categories 1, 17, 18; a crowd alone is none
    assert [(t.name, t.label) for t in second.targets] == [("cat", 1)]
    mask = np.array(first.targets[0].mask()) > 0
    assert mask[12, 12]
    assert not mask[28, 28]  # in the box, but beyond the triangle
    assert abs(int(mask.sum()) - 200) < 25
    both = np.array(second.targets[0].mask()) > 0
    assert int(both.sum()) == 100 + 200
    assert [[t.name for t in p.targets] for p in CocoDetection(tmp_path, hard=True)] == [["dog"], []]


def test_coco_masks_follow_their_pictures(tmp_path):
    pytest.importorskip("pycocotools")
    source = PhotographSource(CocoDetection(shaped.coco(tmp_path)), Geometry(60, (60, 60)))
    mask = source[1].explained[0].mask  # 50 x 30 doubled is 100 x 60; the crop begins at column 20
    expected = torch.zeros(60, 60, dtype=torch.bool)
    expected[20:40, 40:60] = True  # 30..50 x 10..20 -> 60..100 x 20..40 -> 40..80
    assert torch.equal(mask, expected)


def test_coco_without_pycocotools(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match=r"captum-clrp\[coco\]"):
        CocoDetection(shaped.coco(tmp_path))


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


def test_missing_boxes_are_told_apart_from_missing_photographs(tmp_path):
    shaped.ilsvrc(tmp_path)
    for path in (tmp_path / "bbox_val").iterdir():
        path.unlink()
    with pytest.raises(MissingDatasetError, match="no boxes"):
        ILSVRC2012(tmp_path)


def test_folder_of_named_files(folder):
    dataset = ImageFolder(folder)
    assert len(dataset) == 12
    assert dataset[0].id == "0_00"
    assert [t.label for p in dataset for t in p.targets] == [0] * 4 + [1] * 4 + [2] * 4
    assert not dataset[0].targets[0].located


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (("7", "11"), [7, 11]),
        (("n01440764", "n02391049"), [0, 340]),
        (("big_cat", "dog"), [1, 0]),
        (("here", "there"), [0, 1]),
    ],
)
def test_folders_are_named_in_several_ways(tmp_path, folders, labels):
    for k, name in enumerate(folders):
        shaped.noise(tmp_path / name / "a.jpg", 8, 8, k)
    dataset = ImageFolder(tmp_path, class_names=("dog", "big cat"))
    assert {p.id: p.targets[0].label for p in dataset} == {f"{n}/a": i for n, i in zip(folders, labels, strict=True)}


def test_a_folder_that_is_named_otherwise_than_the_rest_is_refused(tmp_path):
    for name in ("n01440764", "holiday"):
        shaped.noise(tmp_path / name / "a.jpg", 8, 8, 0)
    with pytest.raises(InvalidInputError, match="holiday"):
        ImageFolder(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path):
    shaped.noise(tmp_path / "3_a.jpg", 8, 8, 0)
    shaped.noise(tmp_path / "3_a.png", 8, 8, 0)
    with pytest.raises(InvalidInputError, match="3_a"):
        ImageFolder(tmp_path)


def test_a_damaged_photograph_is_named(tmp_path):
    (tmp_path / "3_a.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match="3_a.jpg"):
        ImageFolder(tmp_path)[0].read()


def test_grey_pictures_become_rgb(tmp_path):
    Image.new("L", (5, 5), 100).save(tmp_path / "1_grey.png")
    assert ImageFolder(tmp_path)[0].read().mode == "RGB"


def test_embedded():
    dataset = Embedded()
    assert len(dataset) == 10
    assert [len(p.targets) for p in dataset] == [1] * 5 + [4] * 5
    for photograph in dataset:
        width, height = photograph.read().size
        for target in photograph.targets:
            assert target.located
            for box in target.boxes:
                assert box.area > 0
                assert box == box.cut(width, height)
    assert len(Embedded(collages=False)) == 5


def test_a_collage_shows_each_object_where_its_box_is():
    collage = Embedded()[8]  # without the tripod: cat, espresso, missile, uniform
    assert [t.name for t in collage.targets] == ["tiger cat", "espresso", "missile", "military uniform"]
    corners = [(t.boxes[0].left // 224, t.boxes[0].top // 224) for t in collage.targets]
    assert corners == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_the_network_knows_what_is_on_the_embedded_photographs(lite0):
    for photograph in Embedded(collages=False):
        logits = lite0.model(lite0.inputs(photograph.read()))[0]
        assert photograph.targets[0].label in logits.topk(3).indices.tolist(), photograph.id


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


def photograph(path):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (8, 8)).save(path)


def test_names_of_classes_match_whatever_their_capitals(tmp_path):
    for name in ("Zebra", "african_elephant"):
        photograph(tmp_path / name / "a.png")
    dataset = ImageFolder(tmp_path, ["cat", "zebra", "African elephant"])
    assert {p.id: p.targets[0].label for p in dataset} == {"Zebra/a": 1, "african_elephant/a": 2}
    assert dataset.own_classes is None


def test_numbers_of_a_camera_are_no_classes(tmp_path):
    for name in ("0001.png", "0002.png"):
        photograph(tmp_path / name)
    with pytest.raises(MissingDatasetError, match="tells its class"):
        ImageFolder(tmp_path)


def test_what_is_left_out_is_said_and_pictures_of_ours_are_none(tmp_path):
    photograph(tmp_path / "3_a.png")
    photograph(tmp_path / "holiday.png")
    photograph(tmp_path / "explained" / "3_a_clrp.png")
    with pytest.warns(UserWarning, match=r"1 of 2 files in .* are left out.*holiday\.png"):
        dataset = ImageFolder(tmp_path)
    assert list(dataset.ids) == ["3_a"]


def test_folders_that_name_no_class_number_their_own(tmp_path):
    for name in ("flat", "raw", "frames"):
        photograph(tmp_path / name / "a.png")
    assert ImageFolder(tmp_path, ["cat", "dog"]).own_classes == 3
