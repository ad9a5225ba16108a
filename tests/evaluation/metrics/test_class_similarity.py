"""Similarity of maps, by hand and against NumPy."""

import math

import numpy as np
import pytest
import torch

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import ClassSimilarity, class_similarity, mean_similarity

RIGHT, UP, BOTH = (torch.tensor([v]) for v in ([1.0, 0.0], [0.0, 2.0], [3.0, 3.5]))


def test_cosine_by_hand():
    maps = torch.stack([RIGHT, UP, torch.tensor([[3.0, 4.0]])])
    expected = [[1, 0, 0.6], [0, 1, 0.8], [0.6, 0.8, 1]]
    assert np.allclose(class_similarity(maps), expected)
    assert mean_similarity(maps) == pytest.approx((0 + 0.6 + 0.8) / 3)


def test_scale_does_not_matter_but_sign_does():
    heat = torch.rand(1, 6, 6)
    maps = torch.cat([heat, 1e-30 * heat, -heat])
    assert np.allclose(class_similarity(maps)[0], [1, 1, -1])


def test_correlation_ignores_a_constant():
    heat = torch.rand(1, 6, 6)
    maps = torch.cat([heat, heat + 100, torch.rand(1, 6, 6)])
    similar = class_similarity(maps, "correlation")
    assert similar[0, 1] == pytest.approx(1)
    assert np.allclose(similar, np.corrcoef(maps.reshape(3, -1).numpy()), atol=1e-4)


def test_ranks_share_the_mean_where_values_are_equal():
    # Ranks of (1, 1, 5) are (0.5, 0.5, 2), of (3, 4, 9): (0, 1, 2). Minus 1: (-.5, -.5, 1) and (-1, 0, 1).
    maps = torch.tensor([[[1.0, 1.0, 5.0]], [[3.0, 4.0, 9.0]]])
    assert class_similarity(maps, "rank")[0, 1] == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_a_flat_map_cannot_tell_classes_apart():
    for flat in (torch.zeros(1, 2), torch.full((1, 2), 7.0)):
        for measure in ("cosine", "correlation", "rank"):
            similar = class_similarity(torch.stack([RIGHT, UP, flat]), measure)
            assert similar[2].tolist() == similar[:, 2].tolist() == [1, 1, 1]
            assert similar[0, 1] < 0.5


def test_the_metric_averages_images():
    metric = ClassSimilarity()
    metric.update(torch.stack([torch.stack([RIGHT, UP]), torch.stack([RIGHT, RIGHT])]))
    assert float(metric.compute()) == 0.5


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InvalidInputError, match="at least two"):
        mean_similarity(torch.rand(1, 4, 4))
    with pytest.raises(InvalidInputError, match="cosine"):
        class_similarity(torch.rand(2, 4, 4), "euclidean")
