"""ILSVRC2012 in the shape in which it is published, tiny."""

import pytest
from helpers import shaped

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import ILSVRC2012, Box, MissingDatasetError


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


def test_missing_boxes_are_told_apart_from_missing_photographs(tmp_path):
    shaped.ilsvrc(tmp_path)
    for path in (tmp_path / "bbox_val").iterdir():
        path.unlink()
    with pytest.raises(MissingDatasetError, match="no boxes"):
        ILSVRC2012(tmp_path)
