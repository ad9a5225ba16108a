"""A run and a loop over a folder, with a network of two layers."""

import json
import time

import pytest
import torch
from torch import nn

from benchmarks import scale
from captum_clrp.classifiers import Classifier
from captum_clrp.evaluation import ImageFolder
from captum_clrp.geometry import Geometry


@pytest.fixture
def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1000))
    return Classifier("small", model.eval(), Geometry(32, (32, 32)), (0.0,) * 3, (1.0,) * 3)


def test_the_folder_holds_photographs_named_by_their_classes(tmp_path):
    scale.photographs(tmp_path, 7)
    found = ImageFolder(tmp_path)
    assert len(found) == 7
    assert all(max(photograph.read().size) == scale.SIDE for photograph in found)
    assert len({photograph.targets[0].label for photograph in found}) == 5
    assert found[0].targets[0].label in {photograph.targets[0].label for photograph in scale.Embedded()}


def test_a_clock_adds_up_what_calls_take_and_puts_them_back(monkeypatch):
    class Worker:
        def work(self, seconds):
            time.sleep(seconds)
            return seconds

    plain, clock = Worker.work, scale.Clock()
    with clock.watching([("sleep", Worker, "work")]):
        assert Worker().work(0.02) + Worker().work(0.03) == 0.05
    assert 0.05 <= clock.seconds["sleep"] < 0.5
    assert Worker.work is plain


def test_a_run_and_a_loop_are_measured_and_reported(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "load_classifier", lambda *_: small)
    arguments = ["--images", "5", "--batches", "1", "4", "--processes", "1", "--rounds", "2", "--output", str(tmp_path)]
    assert scale.main(arguments) == 0
    rows = json.loads((tmp_path / "scale-cpu.json").read_text())["rows"]
    assert [(row["batch"], row["processes"]) for row in rows] == [(1, 1), (4, 1)]
    for row in rows:
        assert row["run"]["images"] == row["loop"]["images"] == 5
        for one in (row["run"], row["loop"]):
            assert 0 < one["parts"]["attributions"] < sum(one["parts"].values()) <= one["seconds"]
        assert {"prepare", "metric", "records", "ends"} < set(row["run"]["parts"])
        assert row["run"]["read_beside"] > 0
        assert row["run"]["parts"]["model"] == 0  # the explanations tell what the network says
        assert row["loop"]["parts"]["read"] > 0
    text = (tmp_path / "scale-cpu.md").read_text()
    out = capsys.readouterr().out
    assert out.startswith(text)
    assert ", at most 1.15: " in out.removeprefix(text)
    assert f"| 1 | 4 | {5 / rows[1]['run']['seconds']:.1f} | {5 / rows[1]['loop']['seconds']:.1f} |" in text
    assert "| loop, batch 4 |" in text


def test_the_report_compares_a_run_with_the_attributions_in_it():
    row = {"batch": 8, "processes": 1, "loop": {"seconds": 2.0, "images": 10, "parts": {"attributions": 1.0}}}
    row["run"] = {"seconds": 2.4, "images": 10, "parts": {"attributions": 2.0, "metric": 0.1}}
    document = {"rows": [row], "environment": scale.report.environment(), "command": "that"}
    document |= dict.fromkeys(("model", "method", "metric", "images", "rounds"), "x")
    assert scale.ratio(row) == 1.2
    text = scale.markdown(document)
    assert "| 1 | 8 | 4.2 | 5.0 | 1.20 | 2.00 |" in text
    assert "| run, batch 8 |  |  | 200.0 |  | 10.0 |  |  | 30.0 |" in text
