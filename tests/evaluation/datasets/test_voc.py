"""PASCAL VOC in the shape in which it is published, tiny."""

from helpers import shaped

from captum_clrp.evaluation import VOC2007, Box


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
