"""Noisy linear imputation: by hand, and by the equations that it solves."""

import pytest
import torch

from captum_clrp import InvalidInputError
from captum_clrp.evaluation.metrics.imputation import imputed


def test_one_pixel_becomes_the_weighted_mean_of_its_neighbours():
    image = torch.tensor([[[1.0, 2, 3], [4, 0, 6], [7, 8, 9]]]).double()
    missing = torch.zeros(3, 3, dtype=torch.bool)
    missing[1, 1] = True
    filled = imputed(image, missing, noise=0)
    assert filled[0, 1, 1] == pytest.approx((1 + 3 + 7 + 9) / 12 + (2 + 4 + 6 + 8) / 6)
    assert torch.equal(filled[:, ~missing], image[:, ~missing])
    assert image[0, 1, 1] == 0


def test_in_a_corner_the_neighbours_within_the_image_count():
    image = torch.tensor([[[0.0, 2], [4, 9]]]).double()
    missing = torch.tensor([[True, False], [False, False]])
    assert imputed(image, missing, noise=0)[0, 0, 0] == pytest.approx((2 / 6 + 4 / 6 + 9 / 12) / (5 / 12))


def test_missing_neighbours_count_with_their_own_means():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 9, 7, generator=generator, dtype=torch.float64)
    missing = torch.rand(9, 7, generator=generator) < 0.6
    filled = imputed(image, missing, noise=0)
    kernel = torch.tensor([[1 / 12, 1 / 6, 1 / 12], [1 / 6, 0, 1 / 6], [1 / 12, 1 / 6, 1 / 12]]).double()
    sums = torch.nn.functional.conv2d(filled[:, None], kernel[None, None], padding=1)[:, 0]
    weights = torch.nn.functional.conv2d(torch.ones(1, 1, 9, 7).double(), kernel[None, None], padding=1)[0]
    torch.testing.assert_close(filled[:, missing], (sums / weights)[:, missing], rtol=1e-10, atol=1e-12)


def test_noise_falls_on_missing_pixels_alone():
    image, missing = torch.zeros(1, 40, 40), torch.zeros(40, 40, dtype=torch.bool)
    missing[:20] = True
    filled = imputed(image, missing, noise=0.5, generator=torch.Generator().manual_seed(0))
    assert filled[:, 20:].count_nonzero() == 0
    assert float(filled[:, :20].std()) == pytest.approx(0.5, rel=0.1)


def test_nothing_missing_and_everything_missing():
    image = torch.tensor([[[1.0, 3.0]]])
    assert torch.equal(imputed(image, torch.zeros(1, 2, dtype=torch.bool)), image)
    assert imputed(image, torch.ones(1, 2, dtype=torch.bool), noise=0).tolist() == [[[2.0, 2.0]]]


def test_missing_pixels_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError, match=r"\(2, 2\) do not fit"):
        imputed(torch.zeros(1, 3, 3), torch.zeros(2, 2, dtype=torch.bool))
