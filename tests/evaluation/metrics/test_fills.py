"""What missing pixels become."""

import math

import pytest
import torch

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import Bench, InsertionDeletion, PatchAblation
from captum_clrp.evaluation.metrics.fills import blurred, stand_in
from captum_clrp.evaluation.metrics.imputation import imputed


def test_blur_keeps_flat_images_and_flattens_others():
    assert torch.allclose(blurred(torch.ones(3, 64, 64)), torch.ones(3, 64, 64))
    spot = torch.zeros(1, 64, 64)
    spot[0, 32, 32] = 1
    # The peak of a Gaussian of sigma 5 pixels is 1 / (2 pi 25).
    assert float(blurred(spot).max()) == pytest.approx(1 / (2 * math.pi * 25), rel=1e-3)


def test_small_images_can_be_blurred():
    assert blurred(torch.rand(3, 6, 6)).shape == (3, 6, 6)


def test_the_mean_and_the_blurred_image_are_taken_as_they_are(counter):
    image, mean = torch.rand(3, 24, 24), torch.rand(3, 24, 24)
    bench = Bench(counter, None, mean=mean)
    assert torch.equal(stand_in("mean", image, bench, "a"), mean)
    assert torch.equal(stand_in("blur", image, bench, "a"), blurred(image))


def test_the_noise_of_imputation_is_that_of_the_image_and_of_the_run(counter):
    image, missing = torch.rand(3, 24, 24), torch.rand(24, 24) < 0.3

    def filled(seed, id_):
        return stand_in("impute", image, Bench(counter, None, seed=seed), id_)(missing)

    first = filled(0, "a")
    assert torch.equal(filled(0, "a"), first)
    assert not torch.equal(filled(0, "b"), first)
    assert not torch.equal(filled(1, "a"), first)
    torch.testing.assert_close(first, imputed(image, missing, noise=0), rtol=0, atol=0.06)  # six standard deviations
    assert torch.equal(first[:, ~missing], image[:, ~missing])


@pytest.mark.parametrize("metric", [InsertionDeletion, PatchAblation])
def test_an_unknown_fill_is_refused(metric):
    with pytest.raises(InvalidInputError, match="choose 'mean', 'blur' or 'impute'"):
        metric(fill="black")
