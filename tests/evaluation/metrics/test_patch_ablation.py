"""The paper's ablation on a network whose logits are mean colours, so that every drop can be worked out."""

import math

import pytest
import torch
from torch import nn

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import Bench, MethodSet, PatchAblation, ablate_patch, patch_drop
from captum_clrp.evaluation.metrics.fills import blurred
from captum_clrp.evaluation.metrics.imputation import imputed
from captum_clrp.evaluation.metrics.maps import Point, first_peak
from captum_clrp.evaluation.metrics.patch_ablation import patch_drops


class MeanColour(nn.Module):
    """Logits are the means of the channels."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return x.mean((2, 3))


def peak(row, column, size=10):
    heat = torch.zeros(size, size)
    heat[row, column] = 1
    return heat


def test_the_patch_is_centred_and_the_rest_stays():
    image = torch.arange(25.0).reshape(1, 5, 5)
    ablated = ablate_patch(image, Point(2, 1), -torch.ones(1, 5, 5), size=3)
    changed = (ablated != image)[0].int()
    assert changed.tolist() == [[0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert (ablated[0][changed.bool()] == -1).all()
    assert image[0, 2, 1] == 11  # the image itself is not touched


def test_the_mean_image_is_taken_at_the_same_position():
    mean = torch.arange(25.0).reshape(1, 5, 5)
    assert torch.equal(ablate_patch(torch.zeros(1, 5, 5), Point(2, 2), mean, size=5), mean)
    assert ablate_patch(torch.zeros(1, 5, 5), Point(4, 0), mean, size=1)[0, 4, 0] == 20


def test_at_the_border_the_patch_is_cut_off():
    ablated = ablate_patch(torch.ones(1, 10, 10), Point(0, 9), torch.zeros(1, 10, 10), size=9)
    assert int((ablated == 0).sum()) == 5 * 5


def test_drops_by_hand():
    # Class 0 has the mean 1 of 100 pixels; a 3 x 3 patch set to 0 takes 9 / 100 of it. Class 1 has 0 throughout.
    image = torch.stack([torch.ones(10, 10), torch.zeros(10, 10)])
    drop = patch_drop(MeanColour(), image, 0, peak(5, 5), torch.zeros(2, 10, 10), size=3)
    assert drop.logit == pytest.approx(0.09, abs=1e-6)
    before, after = (1 / (1 + math.exp(-logit)) for logit in (1.0, 0.91))
    assert drop.probability == pytest.approx(before - after, abs=1e-6)
    # In the corner 4 pixels are left of the patch.
    assert patch_drop(MeanColour(), image, 0, peak(9, 9), torch.zeros(2, 10, 10), 3).logit == pytest.approx(
        0.04, abs=1e-6
    )


def test_a_flat_map_replaces_nothing():
    image = torch.ones(2, 10, 10)
    for heat in (torch.zeros(10, 10), torch.ones(10, 10)):
        assert patch_drop(MeanColour(), image, 0, heat, torch.zeros(2, 10, 10)) == (0, 0)


def test_the_first_of_tied_maxima_is_taken():
    image = torch.zeros(1, 1, 4)
    image[0, 0, 1], image[0, 0, 2] = 4.0, 8.0
    heat = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    assert patch_drop(MeanColour(), image, 0, heat, torch.zeros(1, 1, 4), size=1).logit == 1.0  # 4 of 4 pixels


def test_maps_of_one_image_share_forward_passes_and_equal_points_share_images():
    model, image, mean = MeanColour(), torch.rand(2, 10, 10), torch.zeros(2, 10, 10)
    pairs = [(0, peak(2, 2)), (1, peak(2, 2)), (0, peak(7, 7)), (1, torch.zeros(10, 10))]
    drops = patch_drops(model, image, pairs, mean, size=3)
    assert model.seen == 3  # the image, and two different patches
    for drop, (label, heat) in zip(drops, pairs, strict=True):
        assert drop == patch_drop(MeanColour(), image, label, heat, mean, size=3)


def test_the_metric_averages():
    metric = PatchAblation(torch.zeros(2, 10, 10), size=3)
    images = torch.stack([torch.stack([torch.ones(10, 10) * k, torch.zeros(10, 10)]) for k in (1, 2)])
    metric.update(MeanColour(), images, torch.tensor([0, 0]), torch.stack([peak(5, 5), peak(5, 5)]))
    assert float(metric.compute()["logit"]) == pytest.approx((0.09 + 0.18) / 2, abs=1e-6)


def test_one_value_per_channel_may_stand_for_the_mean_image():
    ablated = ablate_patch(torch.zeros(3, 4, 4), Point(1, 1), torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1), 1)
    assert ablated[:, 1, 1].tolist() == [1, 2, 3]


@pytest.mark.parametrize("size", [0, 2, -3])
def test_a_patch_without_middle_is_refused(size):
    with pytest.raises(InvalidInputError, match="odd"):
        ablate_patch(torch.zeros(1, 4, 4), Point(0, 0), torch.zeros(1, 4, 4), size)


def test_a_mean_image_of_another_size_is_refused():
    with pytest.raises(InvalidInputError, match="does not fit"):
        ablate_patch(torch.zeros(1, 4, 4), Point(0, 0), torch.zeros(1, 3, 3))


def test_a_function_fills_what_is_missing():
    seen = []

    def without(missing):
        seen.append(missing)
        return torch.where(missing, -1.0, 1.0)[None]

    ablated = ablate_patch(torch.ones(1, 4, 5), Point(0, 4), without, size=3)
    assert seen[0].int().tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0] * 5, [0] * 5]  # cut off at the border
    assert ((ablated[0] == -1) == seen[0]).all()


@pytest.mark.parametrize("fill", ["mean", "blur", "impute"])
def test_a_run_fills_the_patch_as_asked(counter, samples, fill):
    mean = torch.full((3, 24, 24), 0.3)
    bench = Bench(counter, MethodSet(counter, ["lrp"]), mean=mean)
    ((measured, *_), *_) = PatchAblation(size=7, fill=fill).measure_batch(bench, samples[:1])
    image = counter.inputs(samples[0].pixels)
    heat = bench.maps(image[None], [torch.tensor([[measured.label]])], [samples[0].id])["lrp"][0, 0]
    point = first_peak(heat)
    missing = torch.zeros(24, 24, dtype=torch.bool)
    missing[max(0, point.row - 3) : point.row + 4, max(0, point.column - 3) : point.column + 4] = True
    full = {"mean": mean, "blur": blurred(image), "impute": imputed(image, missing, noise=0)}[fill]
    with torch.no_grad():
        expected = counter.model(torch.stack([image, torch.where(missing, full, image)]))[:, measured.label]
    drop = float(expected[0] - expected[1])
    assert drop > 0.05
    assert measured.values["lrp"]["logit"] == pytest.approx(drop, abs=0.03 if fill == "impute" else 1e-5)  # its noise
