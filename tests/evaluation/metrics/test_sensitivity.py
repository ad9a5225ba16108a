"""Noise within what pixels can be, and the change of a map in units of the map."""

import math

import pytest
import torch

from captum_clrp import InvalidInputError
from captum_clrp.evaluation.metrics.sensitivity import noisy, relative_change

LOW, HIGH = torch.tensor([0.0, -1.0, 0.0]).reshape(3, 1, 1), torch.tensor([1.0, 1.0, 10.0]).reshape(3, 1, 1)


def test_relative_change_by_hand():
    # Channels are summed first: (3, 4) becomes (3, 1).
    before, after = torch.tensor([[[1.0, 4]], [[2.0, 0]]]), torch.tensor([[[1.0, 1]], [[2.0, 0]]])
    assert relative_change(before, after) == pytest.approx(3 / 5)
    assert relative_change(1e-30 * before, 1e-30 * after) == pytest.approx(3 / 5)


def test_maps_that_hold_nothing():
    nothing, something = torch.zeros(2, 2), torch.eye(2)
    assert relative_change(nothing, nothing) == 0
    assert math.isnan(relative_change(nothing, something))
    assert relative_change(something, nothing) == pytest.approx(1)
    with pytest.raises(InvalidInputError, match=r"\(2, 2\) and \(3, 3\)"):
        relative_change(nothing, torch.eye(3))


def test_noise_is_uniform_in_units_of_each_channels_range():
    image = (LOW + HIGH) / 2 + torch.zeros(3, 60, 60)
    noise = noisy(image, LOW, HIGH, 0.1, torch.Generator().manual_seed(0)) - image
    spread = torch.tensor([0.1, 0.2, 1.0])
    assert (noise.abs().amax((1, 2)) <= spread + 1e-6).all()
    assert torch.allclose(noise.std((1, 2)), spread / math.sqrt(3), rtol=0.05)
    again = noisy(image, LOW, HIGH, 0.1, torch.Generator().manual_seed(0)) - image
    assert torch.equal(again, noise)


def test_noise_leaves_pixels_what_pixels_can_be():
    image = LOW.expand(3, 20, 20)
    changed = noisy(image, LOW, HIGH, 0.5, torch.Generator().manual_seed(0))
    assert (changed >= LOW).all()
    assert 0.4 < float((changed == LOW).float().mean()) < 0.6  # half of the noise would leave the range


@pytest.mark.parametrize("radius", [0, -0.1, 1.5, math.nan])
def test_a_radius_is_a_share(radius):
    with pytest.raises(InvalidInputError, match="share of the range"):
        noisy(torch.zeros(3, 2, 2), LOW, HIGH, radius, torch.Generator())
