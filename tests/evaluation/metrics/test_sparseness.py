"""The Gini index of a map."""

import pytest
import torch

from captum_clrp.evaluation import Sparseness, gini


def test_gini_by_hand():
    # Sizes 1, 2, 3, 4: weights -3, -1, 1, 3; (-3 - 2 + 3 + 12) / (4 * 10).
    assert gini(torch.tensor([[4.0, -2], [1, 3]])) == pytest.approx(0.25)
    assert gini(torch.ones(5, 5)) == pytest.approx(0)
    assert gini(torch.eye(10)[:1]) == pytest.approx(0.9)


def test_gini_is_the_mean_difference_of_two_pixels():
    values = torch.rand(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = (values.flatten()[:, None] - values.flatten()[None, :]).abs()
    assert gini(values) == pytest.approx(float(pairs.mean() / (2 * values.mean())))
    assert gini(1e-300 * values) == pytest.approx(gini(values))


def test_a_map_of_zeros_is_not_sparse():
    assert gini(torch.zeros(3, 3)) == 0


def test_sparseness_is_averaged():
    metric = Sparseness()
    metric.update(torch.stack([torch.tensor([[4.0, -2], [1, 3]]), torch.ones(2, 2)]))
    assert metric.compute() == pytest.approx(0.125)
