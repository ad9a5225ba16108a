"""The command on a toy network and on one trained on digits."""

import json

import pytest

pytest.importorskip("timm")
pytest.importorskip("sklearn")

from benchmarks import precision


def test_time_and_accuracy_are_reported(tmp_path, capsys):
    arguments = ["--networks", "toy/plain", "--trained", "digits/cnn-relu", "--scenes", "1", "--rounds", "1"]
    assert precision.main([*arguments, "--output", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "precision-cpu.json").read_text())
    (times,) = document["times"]
    assert set(times["seconds"]) == {"saliency: gradient", *(f"ours: {work}" for work in precision.WORKS)}
    assert not times["failed"]
    by_precision = {(row["method"], row["precision"]): row for row in document["accuracy"]}
    assert len(by_precision) == 6
    for method in precision.METHODS:
        single, brief = by_precision[method, "float32"], by_precision[method, "bfloat16"]
        assert single["maps"] == len(single["distances"]) == 4
        assert single["distance"] < 1e-5 < brief["distance"] < 1e-2
        assert single["share"] == pytest.approx(brief["share"], abs=0.005)
    assert by_precision["CLRP1", "float32"]["share"] > 0.9
    report = (tmp_path / "precision-cpu.md").read_text()
    assert report == capsys.readouterr().out.removesuffix("\n")
    assert report.count("| digits/cnn-relu |") == 3
