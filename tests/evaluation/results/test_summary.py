"""Means, intervals, tables."""

import csv
import io
import json
import math

import pytest

from captum_clrp.evaluation import EnergyPointingGame, PointingGame, summarise
from captum_clrp.evaluation.results.records import Measured, Record


def records(**hits):
    """One image for each position, with a hit or miss of each method."""
    return [
        Record(f"image {i}", i, (Measured(i % 2, "", {name: {"hit": float(of[i])} for name, of in hits.items()}),))
        for i in range(len(next(iter(hits.values()))))
    ]


def test_a_table_compares_with_lrp():
    summary = summarise(PointingGame(), records(lrp=[1, 0, 0, 0], clrp1=[1, 1, 1, 0]), total=9)
    lrp, clrp1 = summary.rows
    assert (lrp.method, lrp.mean, clrp1.method, clrp1.mean) == ("lrp", 0.25, "clrp1", 0.75)
    assert clrp1.difference == 0.5
    assert 0 <= clrp1.difference_low <= 0.5 <= clrp1.difference_high <= 1
    assert math.isnan(lrp.difference)
    assert (lrp.n, lrp.images) == (4, 4)
    assert summary.images == {"measured": 4, "total": 9}
    assert "0.7500" in summary.table(PointingGame())


def test_files_can_be_read_back():
    summary = summarise(PointingGame(), records(lrp=[1, 0, 0, 0], clrp1=[1, 1, 1, 0]), total=4)
    read = json.loads(summary.json())
    assert read["rows"][1]["mean"] == 0.75
    assert read["rows"][0]["difference"] is None
    assert [row["difference_to"] for row in read["rows"]] == ["", "lrp"]
    lines = list(csv.DictReader(io.StringIO(summary.csv())))
    assert [line["method"] for line in lines] == ["lrp", "clrp1"]
    assert float(lines[1]["mean"]) == 0.75
    assert lines[0]["difference"] == ""
    assert [line["difference_to"] for line in lines] == ["", "lrp"]


def test_curves_are_averaged_point_by_point():
    measured = [Measured(0, "", {"lrp": {"critical": c}}) for c in (0.2, 0.6)]
    summary = summarise(EnergyPointingGame(), [Record(str(i), i, (m,)) for i, m in enumerate(measured)], total=2)
    (curve,) = summary.curves
    at = dict(zip(curve.x, curve.mean, strict=True))
    assert [at[0.2], at[0.25], at[0.6], at[0.65]] == [1.0, 0.5, 0.5, 0.0]
    assert summary.rows[0].mean == pytest.approx(0.4)
    assert summary.curves_csv().startswith("curve,method,x,mean,low,high\naccuracy,lrp,0.05,1.0,")


def test_images_without_anything_to_explain_are_told():
    skipped = [Record("a", 0, (), ("object cropped away",)), Record("b", 1, (), ("object cropped away", "no class"))]
    summary = summarise(PointingGame(), skipped, total=2)
    assert summary.rows == []
    assert summary.skipped == {"object cropped away": 2, "no class": 1}


def test_the_area_of_the_objects_is_averaged_as_the_quantities_are():
    def record(i, *areas):
        return Record(f"image {i}", i, tuple(Measured(i, "", {"lrp": {"hit": 1.0}}, area=a) for a in areas))

    records = [record(0, 0.2, 0.4), record(1, 0.5)]
    assert summarise(PointingGame(), records, total=2, draws=10).extra["area"] == pytest.approx((0.3 + 0.5) / 2)
    unknown = [*records, record(2, None)]
    assert "area" not in summarise(PointingGame(), unknown, total=3, draws=10).extra
    again = [Record.of_content(r.content()) for r in unknown]
    assert [m.area for r in again for m in r.measured] == [0.2, 0.4, 0.5, None]
