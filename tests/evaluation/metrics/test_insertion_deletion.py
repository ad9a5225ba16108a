"""Insertion and deletion on images of four pixels."""

import math

import pytest
import torch
from torch import nn

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import Bench, InsertionDeletion, MethodSet, insertion_deletion
from captum_clrp.evaluation.metrics.fills import blurred
from captum_clrp.evaluation.metrics.imputation import imputed
from captum_clrp.evaluation.metrics.insertion_deletion import area_under, curve, pixel_order

HEAT = torch.tensor([[4.0, 1.0], [3.0, 2.0]])


class Sums(nn.Module):
    """Logits are the sums of the channels."""

    def forward(self, x):
        return x.sum((2, 3))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_pixels_go_by_value():
    assert pixel_order(HEAT).tolist() == [0, 2, 3, 1]
    assert pixel_order(torch.tensor([[-1.0, 2.0, -3.0]])).tolist() == [1, 0, 2]


def test_equal_pixels_go_in_random_order_and_others_do_not():
    heat = torch.cat([torch.full((1, 50), 2.0), torch.full((1, 50), 1.0)])
    orders = [pixel_order(heat, torch.Generator().manual_seed(s)).tolist() for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert sorted(order[:50]) == list(range(50))
        assert order[:50] != list(range(50))


def test_both_curves_share_the_batches():
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return x.sum((2, 3))

    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heat = image.sum(0)
    ours = insertion_deletion(counted, image, 1, heat, torch.zeros(3, 4, 4), other=2, steps=4, batch=7)
    assert sizes == [7, 3]  # five images of each curve
    order = pixel_order(heat)
    deletion = curve(Sums(), image, torch.zeros_like(image), order, [1, 2], steps=4)
    insertion = curve(Sums(), blurred(image), image, order, [1], steps=4)
    torch.testing.assert_close(torch.stack([ours.deletion, ours.bystander], 1), deletion)
    torch.testing.assert_close(ours.insertion, insertion[:, 0])


def test_area_by_trapezoids():
    assert float(area_under(torch.tensor([1.0, 0.5, 0.0, 0.0]))) == pytest.approx((0.75 + 0.25 + 0) / 3)
    assert float(area_under(torch.ones(9))) == 1


def test_deletion_by_hand():
    # Channel 0 holds the map's own values, channel 1 nothing. Logits go 10, 6, 3, 1, 0 as 4, 3, 2, 1 are deleted.
    image = torch.stack([HEAT, torch.zeros(2, 2)])
    scores = insertion_deletion(Sums(), image, 0, HEAT, torch.zeros(2, 2, 2), steps=4, start=torch.zeros(2, 2, 2))
    expected = [sigmoid(v) for v in (10, 6, 3, 1, 0)]
    assert scores.deletion.tolist() == pytest.approx(expected, abs=1e-6)
    # Inserting the other way: 0, 4, 7, 9, 10.
    assert scores.insertion.tolist() == pytest.approx([sigmoid(v) for v in (0, 4, 7, 9, 10)], abs=1e-6)
    assert scores.bystander.isnan().all()
    assert scores.areas()[0] == pytest.approx(
        sum((a + b) / 2 for a, b in zip(expected, expected[1:], strict=False)) / 4
    )


def test_the_bystander_is_watched_while_the_class_goes():
    # Class 0 lives on the left, class 1 on the right; the map of class 0 points left, so that class 1 gains.
    left, right = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    image = torch.stack([left, right])
    scores = insertion_deletion(Sums(), image, 0, left, torch.zeros(2, 1, 2), other=1, steps=2, start=image)
    assert scores.deletion.tolist() == pytest.approx([0.5, sigmoid(-3), 0.5], abs=1e-6)
    assert scores.bystander.tolist() == pytest.approx([0.5, sigmoid(3), 0.5], abs=1e-6)


def test_steps_are_rounded_to_whole_pixels():
    # 3 pixels in 2 steps: 0, 2 (1.5 rounds to even), 3 pixels.
    image = torch.tensor([[[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]]])
    probabilities = curve(Sums(), image, torch.zeros(2, 1, 3), torch.arange(3), [0], steps=2)
    assert probabilities[:, 0].tolist() == pytest.approx([sigmoid(v) for v in (3, 1, 0)], abs=1e-6)


def test_batches_do_not_change_the_curve():
    image, order = torch.rand(3, 5, 5), torch.randperm(25)
    curves = [curve(Sums(), image, torch.zeros(3, 5, 5), order, [0, 2], steps=10, batch=b) for b in (1, 3, 100)]
    assert torch.allclose(curves[0], curves[1])
    assert torch.allclose(curves[0], curves[2])


def test_the_metric_averages_areas():
    image = torch.stack([HEAT, torch.zeros(2, 2)])
    metric = InsertionDeletion(torch.zeros(2, 2, 2), steps=4)
    metric.update(
        Sums(), torch.stack([image, image]), torch.tensor([0, 0]), torch.stack([HEAT, HEAT]), torch.tensor([1, 1])
    )
    scores = metric.compute()
    assert float(scores["deletion"]) == pytest.approx(
        insertion_deletion(Sums(), image, 0, HEAT, torch.zeros(2, 2, 2), steps=4).areas()[0]
    )
    assert float(scores["bystander"]) == pytest.approx(1 - float(scores["deletion"]))  # of two classes


def test_a_baseline_of_another_size_is_refused():
    with pytest.raises(InvalidInputError, match="baseline"):
        insertion_deletion(Sums(), torch.rand(3, 4, 4), 0, torch.rand(4, 4), torch.zeros(3, 5, 5))
    with pytest.raises(InvalidInputError, match="step"):
        insertion_deletion(Sums(), torch.rand(3, 4, 4), 0, torch.rand(4, 4), torch.zeros(3, 4, 4), steps=0)


def test_missing_pixels_may_be_made_of_those_that_are_left():
    image = torch.tensor([[[0.0, 1, 2], [3, 4, 5]]]).double()
    heat = torch.tensor([[6.0, 5, 4], [3, 2, 1]])  # pixels go in reading order
    seen = []

    def without(missing):
        seen.append(missing.clone())
        return torch.where(missing, -1.0, image)

    def model(x):
        return torch.stack([x.flatten(1).sum(1), torch.zeros(len(x)).double()], dim=1)

    scores = insertion_deletion(model, image, 0, heat, without, steps=2, start=image)
    gone = [15.0, -3 + 12, -6]  # none, the first row, all
    assert scores.deletion.tolist() == pytest.approx(torch.tensor(gone).sigmoid().tolist())
    back = [-6.0, 3 - 3, 15]
    assert scores.insertion.tolist() == pytest.approx(torch.tensor(back).sigmoid().tolist(), abs=1e-6)
    assert [int(m.sum()) for m in seen] == [0, 3, 6, 6, 3, 0]


@pytest.mark.parametrize("fill", ["mean", "blur", "impute"])
def test_a_run_fills_missing_pixels_as_asked(counter, samples, fill):
    bench = Bench(counter, MethodSet(counter, ["lrp"]), mean=torch.zeros(3, 24, 24))
    ((measured,),) = InsertionDeletion(steps=3, fill=fill).measure_batch(bench, samples[:1])
    values = measured.values["lrp"]
    image = counter.inputs(samples[0].pixels)
    missing = torch.ones(24, 24, dtype=torch.bool)
    last = {"mean": torch.zeros_like(image), "blur": blurred(image), "impute": imputed(image, missing)}[fill]
    chance = float(counter.model(last[None]).softmax(1)[0, 0].detach())
    assert values["deletion_curve"][-1] == pytest.approx(chance, abs=1e-3)
    first = last if fill == "impute" else blurred(image)
    assert values["insertion_curve"][0] == pytest.approx(
        float(counter.model(first[None]).softmax(1)[0, 0].detach()), abs=1e-3
    )
