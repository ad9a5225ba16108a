"""The pointing game with an energy threshold, on maps small enough to check by eye."""

import pytest
import torch
from helpers.maps import HEAT, mask

from captum_clrp.evaluation import EnergyPointingGame, critical_share, energy_hits


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
