"""Tests of signs and bootstrap intervals."""

import math

import numpy as np
import pytest

from captum_clrp.evaluation.statistics import bootstrap, sign_flip_test


def test_signs_are_flipped():
    assert sign_flip_test([1.0, 1.0, 1.0]) == 1 / 8
    assert sign_flip_test([1.0, -1.0]) == 3 / 4  # sums 0, 0, 2 of -2, 0, 0, 2 reach the observed 0
    assert sign_flip_test([0.1, math.nan, 0.2]) == 1 / 4
    assert math.isnan(sign_flip_test([math.nan]))
    assert sign_flip_test([1.0] * 40) == 1 / 10_001
    assert sign_flip_test([0.0] * 20) == 1


def test_means_by_hand():
    values = np.array([[1.0], [0.0], [4.0], [np.nan]])
    images, labels = np.array([0, 0, 1, 2]), np.array([7, 7, 9, 9])
    assert bootstrap(values, images, labels).mean == pytest.approx([(0.5 + 4) / 2])  # of images, not of their classes
    assert bootstrap(values, images, labels, over="classes").mean == pytest.approx([(0.5 + 4) / 2])


def test_intervals_are_those_of_the_normal_law_for_many_images():
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 3.0, (400, 1))
    means = bootstrap(values, np.arange(400), np.zeros(400, dtype=int))
    (low,), (high,) = means.interval()
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_images_are_drawn_whole():
    """Ten rows of one image are no more evidence than one."""
    rng = np.random.default_rng(1)
    once = rng.normal(size=(50, 1))
    tenfold = np.repeat(once, 10, axis=0)
    one = bootstrap(once, np.arange(50), np.zeros(50, dtype=int), seed=3)
    ten = bootstrap(tenfold, np.repeat(np.arange(50), 10), np.zeros(500, dtype=int), seed=3)
    assert np.allclose(one.draws, ten.draws)


def test_quantities_share_their_samples_so_that_differences_are_paired():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=60)
    values = np.stack([noise, noise + 0.1], axis=1)
    difference, low, high = bootstrap(values, np.arange(60), np.zeros(60, dtype=int)).difference(1, 0)
    assert (difference, low, high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_same_seed_gives_the_same_samples():
    values, images = np.random.default_rng(3).normal(size=(20, 2)), np.arange(20)
    labels = images % 4
    for over in ("images", "classes"):
        first, second, third = (bootstrap(values, images, labels, over=over, seed=s) for s in (1, 1, 2))
        assert np.array_equal(first.draws, second.draws)
        assert not np.array_equal(first.draws, third.draws)


def test_one_image_has_an_interval_of_no_width_and_none_has_none():
    one = bootstrap(np.array([[3.0]]), np.array([0]), np.array([0]))
    assert [v.tolist() for v in one.interval()] == [[3], [3]]
    none = bootstrap(np.zeros((0, 2)), np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    assert np.isnan(none.mean).all()
    assert np.isnan(none.interval()).all()
