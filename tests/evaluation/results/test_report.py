"""What is said below a table holds for that table."""

from pathlib import Path

import pytest

from captum_clrp.evaluation import PointingGame, PoolingIndices, summarise
from captum_clrp.evaluation.metrics import PerImageMetric
from captum_clrp.evaluation.results.records import Measured, Record
from captum_clrp.evaluation.results.report import report

MADE = {
    "model": "small",
    "weights": "random",
    "data": "two pictures",
    "targets": {"top_class": 1, "explained": 2, "negative_score": 0},
    "cost": {"images": 2, "seconds": 3.0, "attribution_seconds": 2.0, "model_seconds": 0.0},
}


@pytest.mark.parametrize(
    ("metric", "methods", "explained", "brackets"),
    [
        (PointingGame(), ["lrp", "clrp1"], True, True),
        (PointingGame(), ["clrp1"], True, False),
        (PoolingIndices(), ["features.4"], False, False),
    ],
)
def test_only_what_a_table_holds_is_explained(
    metric: PerImageMetric, methods: list[str], explained: bool, brackets: bool
) -> None:
    values = {method: {quantity.name: 0.5 for quantity in metric.quantities} for method in methods}
    summary = summarise(metric, [Record(str(i), i, (Measured(i, "", values),)) for i in range(2)], total=2)
    summary.made_with.update(MADE)
    text = report(metric, summary, Path("results"))
    assert ("top one in 1 of 2 cases" in text) == explained
    assert ("In brackets behind a method" in text) == brackets
    assert text.endswith("2 images in 3.0 s, of which attributions 2.0 s\n-> results\n")
