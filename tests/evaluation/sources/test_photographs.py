"""Photographs as the network sees them."""

import torch
from helpers import shaped

from captum_clrp.evaluation import ILSVRC2012, Geometry, PhotographSource


def test_a_sample_is_the_picture_and_its_places(tmp_path):
    source = PhotographSource(ILSVRC2012(shaped.ilsvrc(tmp_path)), Geometry(60, (60, 60)))
    first, second, third = source
    assert first.pixels.dtype == torch.uint8
    assert first.pixels.shape == (3, 60, 60)
    # 80 -> 60: pixels 10..50 x 20..60 become 7.5..37.5 x 15..45.
    rows, columns = first.explained[0].mask.nonzero().T
    edges = (rows.min(), rows.max(), columns.min(), columns.max())
    assert edges == (15, 44, 7, 36)  # centre 7.5 belongs, 37.5 does not
    # 100 x 60: the crop begins at column 20, so that only the second box is seen, at 40..80 (cut at 60).
    assert int(second.explained[0].mask.sum()) == 20 * 20
    assert third.explained == ()
    assert third.cropped_away == ("n04552348",)
