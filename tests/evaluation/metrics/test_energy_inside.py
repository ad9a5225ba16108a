"""The share of energy inside, on maps small enough to check by eye."""

import pytest
import torch
from helpers.maps import HEAT, mask

from captum_clrp.evaluation import EnergyInside, energy_inside


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
