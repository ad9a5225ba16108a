"""Results in ``docs/results``: every mean and interval of an evaluation follows from the values of its images."""

import gzip
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from captum_clrp.evaluation import METRICS, read_values, summarise

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
EVALUATIONS = [p.stem for p in sorted(RESULTS.glob("*.json")) if "conventions" in json.loads(p.read_text("utf-8"))]
NAMES = [name for name in EVALUATIONS if (RESULTS / f"{name}-values.json.gz").exists()]

pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="tests run apart from the checkout: there are no results")


def read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    summary = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return summary, json.loads(gzip.decompress((RESULTS / f"{name}-values.json.gz").read_bytes()))


def of_images(values: dict[str, Any], method: str, quantity: str) -> list[list[float]]:
    """For each image what was measured for its classes."""
    found = [
        [m["values"][method][quantity] for m in record["measured"] if method in m["values"]]
        for record in values["records"]
    ]
    measured = [[v for v in of_image if v is not None] for of_image in found]
    return [of_image for of_image in measured if of_image]


@pytest.mark.parametrize("name", NAMES)
def test_means_follow_from_the_values_of_the_images(name: str) -> None:
    summary, values = read(name)
    assert summary["made_with"]["average"] == "images"
    assert summary["rows"]
    means = {}
    for row in summary["rows"]:
        found = of_images(values, row["method"], row["quantity"])
        assert (row["n"], row["images"]) == (sum(map(len, found)), len(found))
        means[row["method"], row["quantity"]] = mean = fmean(map(fmean, found))
        assert row["mean"] == pytest.approx(mean, rel=1e-9, abs=1e-12), row
    for row in summary["rows"]:
        if row["difference"] is not None:
            difference = means[row["method"], row["quantity"]] - means["lrp", row["quantity"]]
            assert row["difference"] == pytest.approx(difference, rel=1e-9, abs=1e-12), row


@pytest.mark.parametrize("name", NAMES)
def test_intervals_curves_and_p_values_follow_from_the_values_of_the_images(name: str) -> None:
    summary = read(name)[0]
    made_with, records = read_values(RESULTS / f"{name}-values.json.gz")
    again = summarise(
        METRICS[summary["metric"]](),
        records,
        total=made_with["images"],
        over=made_with["average"],
        seed=made_with["seed"],
    )
    told = {key: summary[key] for key in ("metric", "rows", "curves", "images", "skipped", "extra")}
    assert_alike(json.loads(again.json()), told, name)


def assert_alike(found: Any, told: Any, where: str) -> None:
    """Equal but for rounding, which other versions may do otherwise."""
    if isinstance(told, dict):
        assert found.keys() >= told.keys(), where
        for key, value in told.items():
            assert_alike(found[key], value, f"{where}, {key}")
    elif isinstance(told, list):
        assert len(found) == len(told), where
        for position, value in enumerate(told):
            assert_alike(found[position], value, f"{where}, {position}")
    elif isinstance(told, float):
        assert found == pytest.approx(told, rel=1e-9, abs=1e-12), where
    else:
        assert found == told, where


@pytest.mark.parametrize("name", NAMES)
def test_values_say_which_data_and_weights_they_are_of(name: str) -> None:
    summary, values = read(name)
    told = summary["made_with"]
    assert told["data_fingerprint"]
    assert told["weights_checksum"]
    assert {key: told[key] for key in values["made_with"]} == values["made_with"]
    assert len(values["records"]) == summary["images"]["measured"] == told["images"]
    for key, flag in (("top_class", "top"), ("negative_score", "negative")):
        assert told["targets"][key] == sum(m[flag] for record in values["records"] for m in record["measured"])


def test_means_of_the_experiment_on_the_whole_contrast_follow_from_its_photographs() -> None:
    found = json.loads((RESULTS / "contrast-why.json").read_text(encoding="utf-8"))
    assert len(found["values"]) == found["photographs"]
    for metric, of_metric in found["means"].items():
        for order, told in of_metric.items():
            differences = [v[order][metric] - v["LRP"][metric] for v in found["values"]]
            assert told["mean"] == pytest.approx(fmean(v[order][metric] for v in found["values"]), rel=1e-9)
            assert told.get("difference", 0) == pytest.approx(fmean(differences), rel=1e-9, abs=1e-12)


CONTRASTS = (
    "contrast-lite0",
    "contrast-lite1",
    "contrast-lite2",
    "contrast-24-lite0",
    "contrast-24-lite1",
    "contrast-24-lite2",
    "contrast-full-lite1",
    "contrast-joined-lite1",
)


@pytest.mark.parametrize("name", [*CONTRASTS, "contrast-digits"])
def test_means_of_the_study_of_contrasts_follow_from_the_values_of_the_images(name: str) -> None:
    summary, values = read(name)
    networks = summary["networks"] if "networks" in summary else {"": summary["metrics"]}
    for network, metrics in networks.items():
        records = values[network] if network else values["records"]
        for metric, of_metric in metrics.items():
            for method, told in of_metric["methods"].items():
                measured = [r["values"][method][metric] for r in records if metric in r["values"].get(method, {})]
                assert len(measured) == of_metric["classes"]
                assert told["mean"] == pytest.approx(fmean(measured), abs=2e-5), (network, metric, method)
