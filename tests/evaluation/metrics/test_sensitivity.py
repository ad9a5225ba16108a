"""Noise within what pixels can be, and the change of a map in units of the map."""

import math

import pytest
import torch
from captum.attr import InputXGradient
from captum.metrics import sensitivity_max

from captum_clrp import InvalidInputError
from captum_clrp.evaluation import Bench, MethodSet, Sensitivity
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


def test_the_largest_and_the_mean_change_are_averaged():
    metric = Sensitivity()
    before = torch.tensor([[[3.0, 4.0]]])
    metric.update(before, torch.tensor([[[[3.0, 3.0]], [[3.0, 9.0]]]]))  # changes of 1/5 and 5/5
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx({"max": 1, "mean": 0.6})


@pytest.mark.parametrize("settings", [{"samples": 0}, {"radius": 0.0}, {"radius": 2.0}])
def test_settings_that_measure_nothing_are_refused(settings):
    with pytest.raises(InvalidInputError):
        Sensitivity(**settings)


def test_a_run_notices_which_method_looks_at_the_image(deep, samples):
    bench = Bench(deep, MethodSet(deep, ["centre", "lrp"]), seed=3)
    small, large = (Sensitivity(2, radius).measure_batch(bench, samples) for radius in (0.001, 0.5))
    for (before,), (after,) in zip(small, large, strict=True):
        assert before.values["centre"] == after.values["centre"] == {"max": 0, "mean": 0}
        assert 0 < before.values["lrp"]["max"] < after.values["lrp"]["max"]
        assert after.values["lrp"]["mean"] < after.values["lrp"]["max"]


@pytest.fixture
def explained(deep):
    """Two images, their explanations with three channels, four noisy copies of each, and the explanations of those."""
    images = torch.rand(2, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    seeds = [torch.Generator().manual_seed(i) for i in range(8)]
    copies = torch.stack([noisy(images[i // 4], zero, one, 0.1, seed) for i, seed in enumerate(seeds)])
    method = InputXGradient(deep.model.double())
    return images, copies, *(method.attribute(x.clone().requires_grad_(), target=1).detach() for x in (images, copies))


def captums(images, copies, before, after):
    """Captum's number where explanations are what was computed before; a tuple for a tuple, as Captum's methods do."""
    answers = {len(images): (before,), len(copies): (after,)}
    return sensitivity_max(
        lambda x: answers[len(x[0] if isinstance(x, tuple) else x)],
        images,
        lambda _: copies,
        n_perturb_samples=len(copies) // len(images),
    ).tolist()


def test_it_is_captums_sensitivity_max_of_the_sum_over_channels(explained):
    images, copies, before, after = explained
    metric = Sensitivity()
    metric.update(before, after.unflatten(0, (2, 4)))
    ours = metric.per_image()[0][:, 0].tolist()
    assert ours == pytest.approx(captums(images, copies, before.sum(1, True), after.sum(1, True)), rel=1e-12)
    # Of channels that are not summed it is another number.
    assert ours != pytest.approx(captums(images, copies, before, after), rel=1e-3)


def test_what_captum_makes_of_a_bare_tensor():
    # For a function that returns no tuple, each noisy copy counts as often as there are copies: three give sqrt(3).
    before, after = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[3.0, 3.0]]]])
    answers = iter([before, after.expand(3, -1, -1, -1)])
    bare = float(sensitivity_max(lambda _: next(answers), before, lambda x: x, n_perturb_samples=3))
    ours = relative_change(before[0], after[0])
    assert ours == pytest.approx(0.2)
    assert bare == pytest.approx(math.sqrt(3) * ours) or bare == pytest.approx(ours)  # once Captum does otherwise


def test_channels_that_agree_and_change_apart():
    # Each channel is the same map; their changes have the same size and nothing to do with each other.
    before = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    signs = torch.tensor([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).reshape(1, 3, 2, 2)
    after = before + 0.1 * signs
    twice = torch.cat([after, after])
    assert captums(before, twice, before, twice) == pytest.approx([0.1])
    assert relative_change(before[0], after[0]) == pytest.approx(0.1 / math.sqrt(3))
