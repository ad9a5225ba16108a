"""Folders of photographs."""

import pytest
from helpers import shaped
from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import ImageFolder, MissingDatasetError


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
