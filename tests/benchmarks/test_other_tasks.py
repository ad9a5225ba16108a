"""Two networks: one whose backbone and head are explained while the whole is refused, and one for video."""

import json

import pytest

pytest.importorskip("torchvision")

from benchmarks import other_tasks


def test_what_is_explained_and_what_is_refused(tmp_path):
    names = ["fasterrcnn_mobilenet_v3_large_320_fpn", "r3d_18"]
    assert other_tasks.main(["--networks", *names, "--output", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "other-tasks.json").read_text())["trials"]
    whole, proposals, video = rows
    assert (whole["outcome"], whole["detail"]) == ("refused", "roi_align")
    assert proposals["outcome"] == video["outcome"] == "explained"
    assert video["detail"].endswith("% at the input")
    assert (tmp_path / "other-tasks.md").read_text().count("| detection |") == 2
