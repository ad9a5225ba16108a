"""``captum-clrp evaluate``, in this process and in others that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import shaped
from PIL import Image

from captum_clrp.cli import evaluate, main
from captum_clrp.evaluation import METRICS, ImageFolder
from captum_clrp.evaluation.datasets.voc import VOC_CLASSES
from captum_clrp.evaluation.results.records import Recorder, read_records

pytest.importorskip("timm")

TINY = ["--model", "timm/test_resnet", "--weights", "random", "--device", "cpu"]
"""A network of 160 x 160 pixels that answers in milliseconds."""


def call(*arguments) -> int:
    return main(["evaluate", *map(str, arguments)])


def summary(folder: Path):
    return json.loads((folder / "summary.json").read_text())


def test_the_help_knows_what_there_is(capsys):
    """Help is told from a file, without torch; ``python tools/write_catalogue.py`` brings it up to date."""
    assert json.loads(evaluate.CATALOGUE.read_text()) == json.loads(json.dumps(evaluate.catalogue()))
    assert call("--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, metric in METRICS.items():
        assert f"{name} {metric.asks}" in printed
    assert "--split NAME coco, voc07: part of the dataset (default: val2014 for coco, test for voc07)" in printed


@pytest.mark.parametrize("metric", list(METRICS))
def test_every_metric_runs_on_the_embedded_data(metric, tmp_path, capsys):
    methods = {"neurons": "lrp,clrp2", "insertion-deletion": "centre,clrp2"}.get(metric, "gradient,lrp,clrp1,clrp2")
    named = ["--methods", methods] if METRICS[metric].uses_methods else []
    code = call(metric, *TINY, *named, "--limit", 3, "-o", tmp_path / "out", "--cache", tmp_path, "--quiet")
    assert code == 0, capsys.readouterr().err
    assert summary(tmp_path / "out")["images"] == {"measured": 3, "total": 3}
    assert (tmp_path / "out" / "figures" / "bars.png").is_file()
    printed = capsys.readouterr().out
    assert METRICS[metric].title in printed
    assert str(tmp_path / "out") in printed


@pytest.mark.parametrize(
    ("make", "data", "metric", "more"),
    [
        (shaped.ilsvrc, "ilsvrc:", "energy-pointing", []),
        (shaped.voc, "voc07:", "pointing", ["--hard", "--tolerance", "15", "--average", "classes", "--class-map"]),
        (shaped.coco, "coco:", "energy-inside", ["--class-map"]),
    ],
)
def test_published_datasets_go_through(make, data, metric, more, tmp_path):
    if make is shaped.coco:
        pytest.importorskip("pycocotools")
    make(tmp_path)
    out = tmp_path / "out"
    classes = {"voc07:": VOC_CLASSES, "coco:": ("dog", "person", "cat")}.get(data, ())
    (tmp_path / "map.json").write_text(json.dumps({name: i for i, name in enumerate(classes)}))
    more = [*more, tmp_path / "map.json"] if more else more
    assert call(metric, *TINY, "--data", f"{data}{tmp_path}", "-m", "centre,clrp1", "-o", out, "--quiet", *more) == 0
    found = summary(out)
    assert found["rows"][0]["n"] == {"ilsvrc:": 2, "voc07:": 1, "coco:": 2}[data]
    assert found["skipped"] == (
        {"object cropped away": 1} if data == "ilsvrc:" else {"no class to explain": 1} if "voc" in data else {}
    )


def test_a_map_of_classes(tmp_path):
    shaped.voc(tmp_path)
    (tmp_path / "map.json").write_text('{"cat": 281}')
    options = ["--data", f"voc07:{tmp_path}", "--class-map", tmp_path / "map.json", "-m", "lrp", "-o", tmp_path / "out"]
    assert call("pointing", *TINY, *options, "--quiet") == 0
    (record, _) = read_records(tmp_path / "out" / "records")
    assert [m.label for m in record.measured] == [281]


def test_a_folder_of_photographs_in_grids(tmp_path):
    folder = tmp_path / "pictures"
    for k in (0, 1, 2, 0, 1, 2, 3, 4):
        shaped.noise(folder / f"{k}_x.png", 40, 40, k)
    assert call("grid", *TINY, "--data", folder, "-m", "centre", "-o", tmp_path / "out", "--shrink", "--quiet") == 0
    rows = {row["quantity"]: row["mean"] for row in summary(tmp_path / "out")["rows"]}
    assert rows["share"] == pytest.approx(0.25, abs=0.02)


def test_grey_photographs_of_few_bits_are_shown_by_their_range(tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    values = np.linspace(0, 4095, 40 * 40).reshape(40, 40).astype(np.uint16)
    Image.fromarray(values).save(folder / "1_scan.png")
    with pytest.warns(UserWarning, match="black and white"):
        dark = np.asarray(ImageFolder(folder)[0].read())
    bright = np.asarray(ImageFolder(folder, value_range=(0, 4095))[0].read())
    assert dark.max() <= 16
    np.testing.assert_allclose(bright[..., 0], values / 4095 * 255, atol=1)
    assert ImageFolder(folder).digest(0) != ImageFolder(folder, value_range=(0, 4095)).digest(0)

    asked = ["sparseness", *TINY, "--data", folder, "-m", "centre", "-o", tmp_path / "out", "--quiet"]
    assert call(*asked, "--range", "0,4095") == 0
    assert summary(tmp_path / "out")["made_with"]["data_settings"] == {"value_range": [0, 4095]}
    assert call(*asked, "--range", "0,2000") == 2
    assert "value_range" in capsys.readouterr().err


MISTAKES = [
    (["pointing", "--range", "0,4095", "--data", "voc07:/"], "--range is for data of folder"),
    (["sparseness", "--range", "5,5", "--data", "."], "'5,5' is no range"),
    (["pointing", "--data", "/no/such/folder"], "there is no folder /no/such/folder"),
    (["pointing", "--data", "ilsvrc:/no/such/folder"], "ILSVRC2012_img_val.tar"),
    (["pointing", "--data", "voc07"], "VOCtest_06-Nov-2007.tar"),
    (["pointing", "--methods", "clrp3"], "unknown method 'clrp3'"),
    (["neurons", "--methods", "gradient"], "does not explain neurons"),
    (["neurons", "--layer", "nowhere"], "no layer 'nowhere'"),
    (["pointing", "--cam-layer", "nowhere"], "no module 'nowhere'"),
    (["pointing", "--class-map", "/no/such/file", "--data", "voc07:/"], "class map /no/such/file"),
    (["pointing", "--limit", "0"], "at least 1"),
    (["ablation", "--patch", "4"], "odd"),
    (["grid", "--grid", "1"], "at least 2"),
    (["grid", "--grid", "5"], "too few"),
    (["pointing", "--model", "no_such_network"], "no_such_network"),
    (["nothing"], "nothing"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda a: " ".join(a) if isinstance(a, list) else "")
def test_mistakes_are_one_line_and_code_2(arguments, words, tmp_path, capsys):
    known = TINY if "--model" not in arguments else []
    code = call(*arguments, *known, "-o", tmp_path / "out", "--quiet")
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert words in printed.err


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert call("pointing", *TINY, "-o", tmp_path / "file" / "out") == 2
    assert "choose another folder" in capsys.readouterr().err


def test_another_run_in_the_folder_is_kept_unless_told_otherwise(tmp_path, capsys):
    options = [*TINY, "-o", tmp_path / "out", "--limit", 2, "--quiet", "--no-figures"]
    assert call("pointing", *options, "-m", "lrp") == 0
    before = (tmp_path / "out" / "summary.json").read_bytes()
    assert call("pointing", *options, "-m", "clrp1") == 2
    assert "differs in methods" in capsys.readouterr().err
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert call("pointing", *options, "-m", "clrp1", "--restart") == 0
    assert summary(tmp_path / "out")["rows"][0]["method"] == "clrp1"


def test_without_torchmetrics_the_extra_is_named(monkeypatch, capsys):
    for name in [n for n in sys.modules if n.startswith("captum_clrp.evaluation")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    assert call("pointing") == 2
    assert 'pip install ".[eval]"' in capsys.readouterr().err


# -- processes -----------------------------------------------------------------------------------------------------

COUNT = 24
SLOW = [
    "insertion-deletion",
    *TINY,
    "-m",
    "random,clrp1,clrp2",
    "--steps",
    "16",
    "--batch",
    "2",
    "--quiet",
    "--no-figures",
]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": os.devnull}


@pytest.fixture(scope="module")
def photographs_and_truth(tmp_path_factory):
    """A folder of photographs, and what one process that nobody disturbs finds."""
    root = tmp_path_factory.mktemp("runs")
    for i in range(COUNT):
        shaped.noise(root / "data" / f"{i}_x.jpg", 170, 190, i)
    subprocess.run(command(root, "truth"), check=True, env=ENVIRONMENT, capture_output=True)
    return root


def command(root: Path, out: str, processes: int = 0) -> list[str]:
    start = [sys.executable]
    if processes:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [
        "-m",
        "captum_clrp",
        "evaluate",
        *SLOW,
        "--data",
        root / "data",
        "-o",
        root / out,
        "--cache",
        root / "cache",
    ]
    return start + [str(a) for a in arguments]


def same(root: Path, out: str) -> bool:
    truth, found = summary(root / "truth"), summary(root / out)
    records = [read_records(root / name / "records") for name in ("truth", out)]
    return (
        records[0] == records[1]
        and all(truth[key] == found[key] for key in ("rows", "curves", "images", "skipped"))
        and (root / "truth" / "summary.csv").read_bytes() == (root / out / "summary.csv").read_bytes()
    )


def lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))


def wait_for_lines(process: subprocess.Popen, folder: Path, count: int) -> None:
    deadline = time.monotonic() + 240
    while lines(folder) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no results came"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_killed_in_the_middle_gives_the_uninterrupted_result(photographs_and_truth):
    root = photographs_and_truth
    process = subprocess.Popen(command(root, "killed"), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_lines(process, root / "killed" / "records", 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = lines(root / "killed" / "records")
    assert 3 <= left < COUNT
    assert not (root / "killed" / "summary.json").exists()
    subprocess.run(command(root, "killed"), check=True, env=ENVIRONMENT, capture_output=True)
    assert same(root, "killed")
    assert summary(root / "killed")["made_with"]["cost"]["images"] == COUNT - left


@pytest.mark.slow
def test_two_gloo_processes_give_the_result_of_one(photographs_and_truth):
    root = photographs_and_truth
    done = subprocess.run(command(root, "two", 2), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = sorted((root / "two" / "records").iterdir())
    assert [f.name for f in files] == ["process-00000.jsonl", "process-00001.jsonl"]
    assert [f.read_bytes().count(b"\n") for f in files] == [COUNT // 2] * 2
    assert summary(root / "two")["made_with"]["processes"] == 2
    assert same(root, "two")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for a worker in /proc, as on Linux")
def test_a_lost_worker_costs_only_unfinished_images(photographs_and_truth):
    root = photographs_and_truth
    records = root / "lost" / "records"
    process = subprocess.Popen(
        command(root, "lost", 2), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_lines(process, records, 4)
    os.kill(worker(process.pid, rank=1), signal.SIGKILL)
    process.communicate()
    assert process.returncode != 0
    left = lines(records)
    assert 4 <= left < COUNT
    # One process does what two have left.
    subprocess.run(command(root, "lost"), check=True, env=ENVIRONMENT, capture_output=True)
    assert same(root, "lost")
    assert summary(root / "lost")["made_with"]["cost"]["images"] == COUNT - left


def worker(parent: int, rank: int) -> int:
    """The process id of a worker of torchrun."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(status[1]) == parent and f"RANK={rank}".encode() in variables:
            return int(entry.name)
    raise AssertionError(f"no worker of rank {rank}")


@pytest.mark.parametrize(("make", "data"), [(shaped.voc, "voc07:"), (shaped.coco, "coco:")])
def test_a_dataset_of_other_classes_needs_a_class_map(make, data, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    make(tmp_path)
    assert call("pointing", *TINY, "--data", f"{data}{tmp_path}", "-m", "lrp", "-o", tmp_path / "out", "--quiet") == 2
    assert "classes of its own" in capsys.readouterr().err


def test_a_negative_seed_is_refused_before_anything_is_measured(tmp_path, capsys):
    assert call("pointing", *TINY, "--seed", "-1", "-o", tmp_path / "out") == 2
    assert "at least 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_metric_that_needs_boxes_says_so(tmp_path, capsys):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "1_red.png")
    assert call("pointing", *TINY, "--data", tmp_path, "-m", "lrp", "-o", tmp_path / "out", "--quiet") == 2
    assert "has no boxes; use a dataset with boxes" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "records")

    monkeypatch.setattr(Recorder, "add", full)
    assert call("energy-inside", *TINY, "-m", "centre", "-o", tmp_path / "out", "--quiet", "--limit", "2") == 2
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert err.count("\n") == 1
    monkeypatch.undo()
    assert call("energy-inside", *TINY, "-m", "centre", "-o", tmp_path / "out", "--quiet", "--limit", "2") == 0


def test_restarting_throws_old_figures_away_and_the_report_says_who_was_explained(tmp_path, capsys):
    out = tmp_path / "out"
    options = ["-m", "lrp,centre", "-o", out, "--quiet", "--limit", "2"]
    assert call("energy-inside", *TINY, *options) == 0
    assert (out / "figures").exists()
    assert call("energy-inside", *TINY, *options, "--restart", "--no-figures") == 0
    assert not (out / "figures").exists()
    printed = capsys.readouterr().out
    assert "The explained class is the network's top one in " in printed
    assert "(lrp " in printed
    assert set(summary(out)["made_with"]["targets"]) == {"explained", "top_class", "negative_score"}


def test_one_image_has_no_interval(tmp_path, capsys):
    assert call("energy-inside", *TINY, "-m", "centre", "-o", tmp_path / "out", "--quiet", "--limit", "1") == 0
    assert " -" in capsys.readouterr().out
    assert summary(tmp_path / "out")["rows"][0]["low"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pointing", "--steps", "3"], "--steps is for insertion-deletion; it makes no difference to pointing"),
        (["pointing", "--neurons", "2"], "--neurons is for neurons"),
        (["ablation", "--tolerance", "4"], "--tolerance is for pointing"),
        (["pointing", "--hard"], "--hard is for data of coco or voc07; it makes no difference to embedded"),
        (
            ["pooling-indices", "-m", "lrp"],
            "--methods makes no difference to pooling-indices, which compares no methods",
        ),
        (["pointing", "--flagged", "--data", "coco:x"], "--flagged is for data of voc07"),
        (["pointing", "--shrink"], "--shrink is for scenes"),
        (["pointing", "--cam-layer", "x", "-m", "lrp"], "--cam-layer is for grad-cam"),
        (["pointing", "--tolerance", "-5"], "no distance in pixels"),
        (["pointing", "--limit", "1.5"], "'1.5' is not a whole number of at least 1"),
        (["insertion-deletion", "--steps", "0"], "0 steps make no curve"),
        (["insertion-deletion", "--steps", "99999999"], "give from 1 to 1000"),
        (["pointing", "--crop", "99999"], "99999 pixels would fill the memory"),
        (["my.module:x"], "the metric my.module:x cannot be imported (No module named 'my')"),
        (["captum_clrp:LRPZBeta"], "captum_clrp:LRPZBeta is no metric"),
        (["pointing", "--data", "captum_clrp:LRPZBeta"], "captum_clrp:LRPZBeta is no dataset"),
        (["pointing", "--tolerance", "nan"], "no distance in pixels"),
        (["ablation", *TINY, "--patch", "999"], "larger than the network's input"),
        (["neurons", *TINY, "--neurons", "100000"], "not from 1 to 256"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, says, tmp_path, capsys):
    assert call(*arguments, "-o", tmp_path / "out", "--quiet") == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


# -- from outside the package --------------------------------------------------------------------------------------

OUTSIDE = '''
import torch
from PIL import Image

from captum_clrp.evaluation import Dataset, MapMetric, Option, Photograph, Quantity, Target


class LeftShare(MapMetric):
    """How much of the magnitude of a map lies in its left part."""

    name = "left-share"
    title = "Share of the left"
    asks = "does the map look left?"
    conventions = "An empty map scores 0."
    quantities = (Quantity("left", "share on the left", ""),)
    options = (Option("cut", "where the left ends, as a share of the width", float, "SHARE"),)

    def __init__(self, cut=0.5, **options):
        super().__init__(**options)
        self.cut = cut

    def score(self, heat, mask):
        heat = heat.abs()
        return {"left": float(heat[:, : round(self.cut * heat.shape[1])].sum() / heat.sum().clamp(min=1e-30))}

    def report(self, summary):
        return [f"cut at {self.cut}"]


class Colours(Dataset):
    """One-coloured pictures."""

    key = "colours"
    holds = "pictures of one colour"
    takes_folder = False
    has_places = False
    options = (Option("shade", "of the colours", int, "N"),)
    name = "colours"

    def __init__(self, shade=255):
        self.shade = shade
        self.ids = ["red", "green"]

    def photograph(self, index):
        colour = [0, 0, 0]
        colour[index] = self.shade
        return Photograph(self.ids[index], (Target(index, "x"),), lambda: Image.new("RGB", (64, 64), tuple(colour)))


class Rightmost:
    def __init__(self, model):
        self.model = model

    def attribute(self, inputs, target):
        heat = torch.zeros_like(inputs)
        heat[..., -1] = 1.0
        return heat
'''


@pytest.mark.usefixtures("registries")
def test_a_metric_a_dataset_and_a_method_from_outside(tmp_path, monkeypatch, capsys):
    """One file of somebody else's, named on the command line: nothing in the package is touched."""
    (tmp_path / "my_module.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.setitem(sys.modules, "my_module", None)
    del sys.modules["my_module"]  # and again at the end
    named = ["my_module:LeftShare", "--data", "my_module:Colours", "--methods", "my_module:Rightmost,lrp"]
    code = call(*named, "--cut", "0.25", "--shade", "200", *TINY, "-o", "out", "--quiet")
    printed = capsys.readouterr()
    assert code == 0, printed.err
    found = summary(tmp_path / "out")
    assert found["metric"] == "left-share"
    assert found["made_with"]["settings"]["cut"] == 0.25
    assert len(found["made_with"]["settings"]["source"]) == 16  # of my_module: another version is another run
    rows = {row["method"]: row for row in found["rows"]}
    assert rows["my_module:Rightmost"]["mean"] == 0
    assert rows["my_module:Rightmost"]["n"] == 2
    assert 0 < rows["lrp"]["mean"] < 1
    assert "cut at 0.25" in printed.out
    assert (tmp_path / "out" / "figures" / "examples.png").is_file()
    assert call("pointing", "--cut", "0.25", *TINY) == 2  # known now, and not this metric's
    assert "--cut is for left-share; it makes no difference to pointing" in capsys.readouterr().err
    assert call("my_module:LeftShare", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "left-share: where the left ends, as a share of the width (default: 0.5)" in text
    assert "left-share does the map look left?" in text
    assert "colours: of the colours (default: 255)" in text
    assert "colours pictures of one colour" in text
