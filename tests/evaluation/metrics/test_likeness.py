"""Rank correlation and structural similarity of maps: by hand, and against SciPy."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from captum_clrp import InvalidInputError
from captum_clrp.evaluation.metrics.likeness import rank_correlation, structural_similarity


def maps(seed=0, size=(24, 20)):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(size, generator=generator, dtype=torch.float64)
    return first, (first + 0.7 * torch.rand(size, generator=generator, dtype=torch.float64)).round(decimals=1)


def test_rank_correlation_by_hand():
    # Ranks 1 2 3 4 and 1 3 2 4: 1 - 6 (0 + 1 + 1 + 0) / (4 (16 - 1)).
    assert rank_correlation(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[0.0, 9, 5, 10]])) == pytest.approx(0.8)
    assert rank_correlation(torch.tensor([[1.0, 2, 3]]), torch.tensor([[-1.0, -2, -3]])) == pytest.approx(-1)


def test_rank_correlation_is_scipys_with_equal_values_as_well():
    first, second = maps()
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first.flatten(), second.flatten()).statistic)


def test_structural_similarity_by_its_definition():
    first, second = (m.numpy() / m.max().item() for m in maps())
    local = partial(gaussian_filter, sigma=1.5, mode="mirror", truncate=3.5)
    m1, m2 = local(first), local(second)
    v1, v2, both = local(first**2) - m1**2, local(second**2) - m2**2, local(first * second) - m1 * m2
    spread = max(first.max(), second.max()) - min(first.min(), second.min())
    a, b = (0.01 * spread) ** 2, (0.03 * spread) ** 2
    similar = (2 * m1 * m2 + a) * (2 * both + b) / ((m1**2 + m2**2 + a) * (v1 + v2 + b))
    first, second = maps()
    assert structural_similarity(first, second) == pytest.approx(similar.mean(), abs=1e-6)
    assert structural_similarity(first, first) == pytest.approx(1)


def test_scale_does_not_matter_and_channels_are_summed():
    first, second = maps()
    for likeness in (rank_correlation, structural_similarity):
        assert likeness(first, 1e-12 * second) == pytest.approx(likeness(first, second))
        assert likeness(torch.stack([first / 2, first / 2]), second) == pytest.approx(likeness(first, second))


@pytest.mark.parametrize("likeness", [rank_correlation, structural_similarity])
def test_a_flat_map_is_like_no_other(likeness):
    first, _ = maps()
    assert likeness(first, torch.zeros_like(first)) == likeness(torch.ones_like(first), first) == 0


@pytest.mark.parametrize("likeness", [rank_correlation, structural_similarity])
def test_maps_of_two_sizes_are_refused(likeness):
    with pytest.raises(InvalidInputError, match=r"\(24, 20\) and \(20, 24\)"):
        likeness(torch.rand(24, 20), torch.rand(20, 24))
    with pytest.raises(InvalidInputError, match="NaN"):
        likeness(torch.full((24, 20), np.nan), torch.rand(24, 20))
