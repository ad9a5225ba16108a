"""The pointing game, and what all metrics of maps refuse, on maps small enough to check by eye."""

import math

import pytest
import torch
from helpers.maps import HEAT, mask

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import EnergyPointingGame, PointingGame, critical_share, energy_inside, pointing_hit


def test_the_maximum_decides():
    assert pointing_hit(HEAT, mask("...", ".x.", "..."))
    assert not pointing_hit(HEAT, mask("xxx", "x.x", "xxx"))


def test_all_tied_maxima_must_lie_on_the_object():
    tied = torch.tensor([[5.0, 5.0, 0.0]])
    assert pointing_hit(tied, mask("xx."))
    assert not pointing_hit(tied, mask("x.."))
    assert not pointing_hit(tied, mask(".xx"))


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_an_all_equal_map_is_a_miss_even_if_everything_is_object(value):
    assert not pointing_hit(torch.full((3, 3), value), torch.ones(3, 3))


def test_tolerance_is_a_distance_between_pixel_centres():
    far = torch.zeros(5, 5)
    far[0, 0] = 1.0
    object_ = torch.zeros(5, 5)
    object_[3, 4] = 1  # 3 rows down and 4 columns right: distance 5
    assert pointing_hit(far, object_, tolerance=5.0)
    assert not pointing_hit(far, object_, tolerance=4.99)


def test_tolerance_counts_for_each_tied_maximum():
    two = torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0]])
    assert pointing_hit(two, mask(".xxx."), tolerance=1)
    assert not pointing_hit(two, mask(".x..."), tolerance=1)  # the right one is 3 away


def test_channels_are_summed():
    # Sums: 2 + 2 = 4 on the left beats 3 + 0 on the right, although 3 is the largest single value.
    heat = torch.tensor([[[2.0, 3.0]], [[2.0, 0.0]]])
    assert pointing_hit(heat, mask("x."))


def test_game_averages_over_images_or_classes():
    maps = torch.stack([HEAT] * 4)
    masks = torch.stack([mask("...", ".x.", "...")] * 3 + [mask("x..", "...", "...")])  # hit, hit, hit, miss
    labels = torch.tensor([7, 7, 7, 2])
    images, classes = PointingGame(), PointingGame(average="classes")
    images.update(maps, masks, labels)
    classes.update(maps, masks, labels)
    assert images.compute() == 0.75
    assert classes.compute() == 0.5  # class 7: 3 of 3; class 2: 0 of 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_a_metric_without_images_is_nan():
    assert math.isnan(PointingGame().compute())


@pytest.mark.parametrize(
    ("heat", "object_", "words"),
    [
        (torch.tensor([[math.nan, 1.0]]), mask("x."), "NaN"),
        (HEAT, mask("x."), "does not fit"),
        (HEAT, torch.zeros(3, 3), "marks no pixel"),
        (torch.zeros(3), torch.ones(3), "shape"),
    ],
)
def test_what_cannot_be_judged_is_refused(heat, object_, words):
    for judge in (pointing_hit, critical_share, energy_inside):
        with pytest.raises(InvalidInputError, match=words):
            judge(heat, object_)


def test_settings_are_checked():
    with pytest.raises(InvalidInputError, match="tolerance"):
        PointingGame(-1)
    with pytest.raises(InvalidInputError, match="average"):
        PointingGame(average="pixels")
    with pytest.raises(InvalidInputError, match="shares"):
        EnergyPointingGame(shares=(0.0, 0.5))
    with pytest.raises(InvalidInputError, match="one mask"):
        PointingGame().update(HEAT[None], torch.ones(2, 3, 3))
    with pytest.raises(InvalidInputError, match="labels"):
        PointingGame().update(HEAT[None], torch.ones(1, 3, 3), torch.tensor([1, 2]))
