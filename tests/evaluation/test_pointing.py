"""The pointing games and the share of energy inside, on maps small enough to check by eye."""

import math

import pytest
import torch

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import (
    EnergyInside,
    EnergyPointingGame,
    GridPointingGame,
    PointingGame,
    cell_mask,
    compose_grid,
    critical_share,
    energy_hits,
    energy_inside,
    grid_score,
    pointing_hit,
)

HEAT = torch.tensor([[0.0, 1.0, 2.0], [3.0, 9.0, 4.0], [0.0, -8.0, 5.0]])


def mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[c == "x" for c in row] for row in rows])


# -- pointing ------------------------------------------------------------------------------------------------------


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


# -- energy pointing -----------------------------------------------------------------------------------------------


def test_critical_share_by_hand():
    # Energy 1 + 2 + 3 + 9 + 4 + 5 = 24. Beside the object lie 0, 1, 2, 3: the foreground may hold what exceeds 3.
    assert critical_share(HEAT, mask("...", ".xx", ".xx")) == pytest.approx((9 + 4 + 5) / 24)
    # With 4 beside it, only 9 and 5 remain.
    assert critical_share(HEAT, mask("...", ".x.", "..x")) == pytest.approx((9 + 5) / 24)
    # With the largest beside it, nothing.
    assert critical_share(HEAT, mask("xxx", "x.x", "xxx")) == 0


def test_pixels_of_equal_value_enter_together():
    heat = torch.tensor([[4.0, 3.0, 3.0]])
    assert critical_share(heat, mask("xx.")) == pytest.approx(0.4)  # one 3 would bring the other along


def test_everything_on_the_object_is_a_hit_at_all_shares():
    assert critical_share(HEAT, torch.ones(3, 3)) == 1
    only_negative_beside = torch.tensor([[2.0, 1.0, -1.0]])
    assert critical_share(only_negative_beside, mask("xx.")) == 1


@pytest.mark.parametrize("heat", [torch.zeros(2, 2), torch.full((2, 2), 3.0), -torch.eye(2)])
def test_maps_without_foreground_miss_at_all_shares(heat):
    assert critical_share(heat, torch.ones(2, 2)) == 0


def literally(heat: torch.Tensor, object_: torch.Tensor, share: float) -> bool:
    """The paper's words: lower the threshold until the foreground holds the share, then look where it lies."""
    energy = heat.clamp(min=0).double()
    for threshold in energy.unique().flip(0):
        foreground = energy >= threshold
        if energy[foreground].sum() >= share * energy.sum() - 1e-12:
            return bool(object_[foreground].all())
    raise AssertionError


def test_the_curve_is_what_thresholding_gives():
    generator = torch.Generator().manual_seed(0)
    shares = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    for _ in range(200):
        heat = torch.randint(0, 6, (4, 5), generator=generator).float()  # with many ties
        object_ = torch.rand(4, 5, generator=generator) < 0.7
        if not object_.any() or heat.min() == heat.max():
            continue
        hits = energy_hits(torch.tensor([critical_share(heat, object_)]), shares)[0]
        assert hits.bool().tolist() == [literally(heat, object_, s) for s in shares]


def test_energy_game_gives_a_curve():
    game = EnergyPointingGame(shares=(0.25, 0.5, 1.0))
    game.update(HEAT[None].repeat(2, 1, 1), torch.stack([mask("...", ".x.", "..x"), torch.ones(3, 3).bool()]))
    # Critical shares 14 / 24 = 0.58 and 1.
    assert game.compute().tolist() == [1.0, 1.0, 0.5]


# -- energy inside -------------------------------------------------------------------------------------------------


def test_share_inside_by_hand():
    # Positive: 9 + 4 + 5 of 24; the -8 inside counts as nothing.
    assert energy_inside(HEAT, mask("...", ".xx", ".xx")) == pytest.approx(18 / 24)


def test_flat_maps_are_at_chance_and_zero_maps_at_zero():
    quarter = mask("x.", "..")
    assert energy_inside(torch.full((2, 2), 2.0), quarter) == 0.25
    assert energy_inside(torch.zeros(2, 2), quarter) == 0
    assert energy_inside(-torch.ones(2, 2), quarter) == 0


def test_energy_inside_is_averaged():
    metric = EnergyInside()
    metric.update(HEAT[None].repeat(2, 1, 1), torch.stack([mask("...", ".xx", ".xx"), torch.ones(3, 3).bool()]))
    assert metric.compute() == pytest.approx((0.75 + 1) / 2)


# -- grids ---------------------------------------------------------------------------------------------------------


def test_a_grid_is_filled_row_by_row():
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 2, 3)
    scene = compose_grid(images, 2)
    assert scene.shape == (1, 4, 6)
    for cell in range(4):
        assert scene[0][cell_mask(cell, 2, 4, 6)].unique().tolist() == [cell]


def test_grid_score_by_hand():
    heat = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert grid_score(heat, 3, 2) == (0.75, True)
    assert grid_score(heat, 0, 2) == (0.25, False)
    assert grid_score(torch.zeros(2, 2), 0, 2) == (0.0, False)


def test_grid_game():
    game = GridPointingGame(2)
    game.update(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]] * 2), torch.tensor([3, 0]))
    assert {k: float(v) for k, v in game.compute().items()} == {"share": 0.5, "hit": 0.5}


def test_grids_that_do_not_work_out_are_refused():
    with pytest.raises(InvalidInputError, match="do not fill"):
        compose_grid(torch.zeros(3, 1, 2, 2), 2)
    with pytest.raises(InvalidInputError, match="multiples of 2"):
        cell_mask(0, 2, 5, 4)
    with pytest.raises(InvalidInputError, match="no cell 4"):
        cell_mask(4, 2, 4, 4)
    with pytest.raises(InvalidInputError, match="no grid"):
        GridPointingGame(1)
    with pytest.raises(InvalidInputError, match="one cell"):
        GridPointingGame().update(torch.zeros(2, 2, 2), torch.tensor([0]))
