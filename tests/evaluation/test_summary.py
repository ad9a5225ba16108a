"""Means, intervals, tables."""

import csv
import io
import json
import math

import numpy as np
import pytest

from captum_clrp.evaluation import summarise
from captum_clrp.evaluation.bootstrap import bootstrap
from captum_clrp.evaluation.experiments import EnergyPointing, Pointing
from captum_clrp.evaluation.records import Measured, Record


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


def records(**hits):
    """One image for each position, with a hit or miss of each method."""
    return [
        Record(f"image {i}", i, (Measured(i % 2, "", {name: {"hit": float(of[i])} for name, of in hits.items()}),))
        for i in range(len(next(iter(hits.values()))))
    ]


def test_a_table_compares_with_lrp():
    summary = summarise(Pointing(), records(lrp=[1, 0, 0, 0], clrp1=[1, 1, 1, 0]), total=9)
    lrp, clrp1 = summary.rows
    assert (lrp.method, lrp.mean, clrp1.method, clrp1.mean) == ("lrp", 0.25, "clrp1", 0.75)
    assert clrp1.difference == 0.5
    assert 0 <= clrp1.difference_low <= 0.5 <= clrp1.difference_high <= 1
    assert math.isnan(lrp.difference)
    assert (lrp.n, lrp.images) == (4, 4)
    assert summary.images == {"measured": 4, "total": 9}
    assert "0.7500" in summary.table(Pointing())


def test_files_can_be_read_back():
    summary = summarise(Pointing(), records(lrp=[1, 0, 0, 0], clrp1=[1, 1, 1, 0]), total=4)
    read = json.loads(summary.json())
    assert read["rows"][1]["mean"] == 0.75
    assert read["rows"][0]["difference"] is None
    lines = list(csv.DictReader(io.StringIO(summary.csv())))
    assert [line["method"] for line in lines] == ["lrp", "clrp1"]
    assert float(lines[1]["mean"]) == 0.75
    assert lines[0]["difference"] == ""


def test_curves_are_averaged_point_by_point():
    measured = [Measured(0, "", {"lrp": {"critical": c}}) for c in (0.2, 0.6)]
    summary = summarise(EnergyPointing(), [Record(str(i), i, (m,)) for i, m in enumerate(measured)], total=2)
    (curve,) = summary.curves
    at = dict(zip(curve.x, curve.mean, strict=True))
    assert [at[0.2], at[0.25], at[0.6], at[0.65]] == [1.0, 0.5, 0.5, 0.0]
    assert summary.rows[0].mean == pytest.approx(0.4)
    assert summary.curves_csv().startswith("curve,method,x,mean,low,high\naccuracy,lrp,0.05,1.0,")


def test_images_without_anything_to_explain_are_told():
    skipped = [Record("a", 0, (), ("object cropped away",)), Record("b", 1, (), ("object cropped away", "no class"))]
    summary = summarise(Pointing(), skipped, total=2)
    assert summary.rows == []
    assert summary.skipped == {"object cropped away": 2, "no class": 1}
