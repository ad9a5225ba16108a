"""MS COCO in the shape in which it is published, tiny."""

import numpy as np
import pytest
import torch
from helpers import shaped

from captum_clrp.evaluation import CocoDetection, Geometry, PhotographSource


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
    with pytest.raises(ImportError, match=r'install "\.\[coco\]"'):
        CocoDetection(shaped.coco(tmp_path))
