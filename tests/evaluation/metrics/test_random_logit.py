"""The map of another class beside that of the class."""

import pytest
import torch

from captum_clrp import InvalidInputError
from captum_clrp.evaluation import Bench, MethodSet, RandomLogit
from captum_clrp.evaluation.metrics.random_logit import another_class


def test_another_class_is_any_other_one():
    drawn = [another_class(2, 4, seed) for seed in range(400)]
    assert set(drawn) == {0, 1, 3}
    assert min(drawn.count(c) for c in (0, 1, 3)) > 100
    assert another_class(2, 4, 7) == another_class(2, 4, 7)
    with pytest.raises(InvalidInputError, match="no other class"):
        another_class(0, 1, 0)


def test_maps_that_know_no_class_are_alike_and_those_of_colours_are_not(counter, samples):
    # The network counts colours, each class in a channel of its own; noise and centre know nothing of classes.
    methods = ["centre", "clrp1"]
    found = RandomLogit().measure_batch(Bench(counter, MethodSet(counter, methods)), samples)
    for (measured,) in found:
        assert measured.values["centre"] == pytest.approx({"rank": 1, "ssim": 1})
        assert measured.values["clrp1"]["rank"] < 0.5


def test_maps_are_compared_one_by_one():
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    metric = RandomLogit()
    metric.update(maps, maps)
    metric.update(maps[:1], -maps[:1])
    assert metric.compute()["rank"] == pytest.approx((3 - 1) / 4)
