"""Runs: what is measured, what is left out, and that nothing depends on batches that were begun before."""

import json
import shutil
import time
from dataclasses import asdict, replace

import pytest
import torch
from evaluation.conftest import CLASSES, SIZE, ColourCounter, Squares, network
from helpers import shaped
from PIL import Image

from captum_clrp.classifiers import Classifier
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import (
    METRICS,
    VOC2007,
    Bench,
    Geometry,
    GridSource,
    ImageFolder,
    MethodSet,
    PhotographSource,
    PointingGame,
    Run,
    Team,
    read_values,
    summarise,
)
from captum_clrp.evaluation.metrics.neuron_ablation import NEURON_METHODS
from captum_clrp.evaluation.results.figures import figures
from captum_clrp.evaluation.results.records import read_records, without_nan
from captum_clrp.evaluation.running import provenance
from captum_clrp.evaluation.sources import Explained, Sample, Source
from captum_clrp.visualization import encoded

METHODS = ["random", "centre", "gradient", "lrp", "clrp1", "clrp2"]


def run(name, source, net, folder, methods=METHODS, **options):
    metric = METRICS[name](**({"steps": 3} if name == "randomisation" else {}))  # the networks here have three layers
    names = [m for m in NEURON_METHODS if m in methods] if name == "neurons" else methods
    bench = Bench(net, MethodSet(net, names, seed=options.get("seed", 0)) if metric.uses_methods else None)
    return Run(metric, source, bench, folder, quiet=True, **options)


@pytest.mark.parametrize("name", list(METRICS))
def test_every_experiment_runs_and_draws(name, deep, tmp_path):
    job = run(name, Squares(6), deep, tmp_path)
    summary = job.go()
    assert {row.quantity for row in summary.rows} == {q.name for q in job.metric.quantities}
    for file in ("run.json", "summary.json", "summary.csv", "values.json.gz"):
        assert (tmp_path / file).stat().st_size > 0
    made_with, records = read_values(tmp_path / "values.json.gz")
    assert made_with == json.loads((tmp_path / "run.json").read_text())
    again = summarise(job.metric, records, total=made_with["images"], seed=made_with["seed"])
    assert without_nan([asdict(row) for row in again.rows]) == without_nan([asdict(row) for row in summary.rows])
    assert without_nan(again.extra) == without_nan(summary.extra)
    assert summary.images == {"measured": 6, "total": 6}
    drawn = figures(job.metric, summary, read_records(tmp_path / "records"), job.source, job.bench)
    assert "bars" in drawn
    assert all(encoded(figure).startswith(b"\x89PNG") for figure in drawn.values())


def test_what_a_network_that_counts_colours_gets(counter, tmp_path):
    """The class is the colour of the square, so that input x gradient and CLRP are right on every image."""
    summary = run("pointing", Squares(9), counter, tmp_path, ["input-x-gradient", "clrp2", "centre"]).go()
    means = {row.method: row.mean for row in summary.rows}
    assert means["input-x-gradient"] == means["clrp2"] == 1
    assert means["centre"] < 1
    assert summary.rows[0].n == 12  # nine images, three of which show two classes


def test_the_summary_is_what_the_metric_gives(deep, tmp_path):
    source = Squares(7)
    summary = run("pointing", source, deep, tmp_path, ["gradient"], batch=3, average="classes").go()
    metric = PointingGame(average="classes")
    for sample in source:
        inputs = deep.inputs(sample.pixels)[None]
        concepts = [torch.tensor([[e.label]]) for e in sample.explained]
        maps = MethodSet(deep, ["gradient"]).maps(inputs, concepts, [sample.id])["gradient"][0]
        masks = torch.stack([e.mask for e in sample.explained])
        metric.update(maps, masks, torch.tensor([e.label for e in sample.explained]))
    assert summary.rows[0].mean == pytest.approx(float(metric.compute()))


class Stopped(Exception):
    pass


class StopsAfter(Source):
    """Fails when a sample beyond a position is read, as a process does that is killed."""

    def __init__(self, source, count):
        self.source, self.count = source, count
        self.name, self.description, self.ids = source.name, source.description, source.ids

    def sample(self, index):
        if index >= self.count:
            raise Stopped
        return self.source[index]

    def digest(self, index):
        return self.source.digest(index)


@pytest.mark.parametrize("name", ["energy-pointing", "ablation", "insertion-deletion"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_run_that_stopped_goes_on_and_gives_the_same(name, batch, deep, tmp_path):
    source = Squares(10)
    whole = run(name, source, deep, tmp_path / "whole", batch=batch).go()
    with pytest.raises(Stopped):
        stop_after_seven(run(name, source, deep, tmp_path / "stopped", batch=batch))
    (file,) = (tmp_path / "stopped" / "records").iterdir()
    done = read_records(tmp_path / "stopped" / "records")
    assert 0 < len(done) < 10
    file.write_text(file.read_text()[:-25])  # the last line was cut off as well
    again = run(name, source, deep, tmp_path / "stopped", batch=batch).go()
    assert again.rows == whole.rows
    assert again.curves == whole.curves
    assert (tmp_path / "stopped" / "summary.csv").read_bytes() == (tmp_path / "whole" / "summary.csv").read_bytes()
    assert again.made_with["cost"]["images"] == 10 - (len(done) - 1)


def stop_after_seven(job):
    """Start a run that stops where it would measure the eighth image."""
    measure, seen = job.metric.measure_batch, []

    def stopping(bench, samples):
        seen.extend(samples)
        if len(seen) > 7:
            raise Stopped
        return measure(bench, samples)

    job.metric.measure_batch = stopping
    job.go()


def test_a_run_whose_folder_another_one_begins_anew_does_not_average_what_is_left(deep, tmp_path):
    job = run("pointing", Squares(6), deep, tmp_path, ["gradient"], batch=2)
    measure, batches = job.metric.measure_batch, []

    def measuring_while_another_begins_anew(bench, samples):
        batches.append(samples)
        if len(batches) == 2:
            shutil.rmtree(tmp_path / "records")
        return measure(bench, samples)

    job.metric.measure_batch = measuring_while_another_begins_anew
    with pytest.raises(InvalidInputError, match=r"6 of 6 images have no record in .*begun anew"):
        job.go()
    assert not (tmp_path / "summary.json").exists()


def test_a_run_that_begins_anew_and_stops_leaves_nothing_of_the_old_one(deep, tmp_path):
    run("energy-pointing", Squares(8), deep, tmp_path, ["gradient"], batch=2).go()
    (tmp_path / "my notes.txt").write_text("mine")
    assert {path.name for path in tmp_path.iterdir()} >= {"curves.csv", "values.json.gz"}
    with pytest.raises(Stopped):
        stop_after_seven(run("pointing", Squares(8), deep, tmp_path, ["gradient"], batch=2, restart=True))
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "records", "my notes.txt"}


def test_images_of_one_name_are_refused(deep, tmp_path):
    source = Squares(3)
    source.ids = ["a", "b", "a"]
    with pytest.raises(InvalidInputError, match="2 images of .* are called 'a'"):
        run("pointing", source, deep, tmp_path).go()
    assert not tmp_path.joinpath("run.json").exists()


def test_a_finished_run_is_summarised_without_measuring(deep, tmp_path):
    first = run("pointing", Squares(4), deep, tmp_path).go()
    job = run("pointing", StopsAfter(Squares(4), 0), deep, tmp_path)
    assert job.go().rows == first.rows
    assert job.bench.attribution_seconds == 0


@pytest.mark.parametrize(
    ("metric", "method"),
    [("sparseness", "clrp2"), ("sparseness", "gradient"), ("sensitivity", "clrp2"), ("randomisation", "clrp2")],
)
def test_what_the_network_says_is_known_from_explanations_of_these_images(metric, method, deep, tmp_path):
    """A method that runs the network as it is tells the logits; where none does, the network is asked for them."""
    told, asked = (run(metric, Squares(6), deep, tmp_path / name, [name], batch=4) for name in (method, "random"))
    ran = []
    told.bench.model = lambda inputs, model=told.bench.model: ran.append(len(inputs)) or model(inputs)
    with torch.no_grad():
        deep.model.classifier.bias -= deep.model(deep.inputs(Squares(6)[0].pixels[None])).mean()  # scores of both signs
    told.go(), asked.go()
    assert not ran
    known, expected = (read_records(tmp_path / name / "records") for name in (method, "random"))
    standing = [(m.top, m.negative) for record in known for m in record.measured]
    assert standing == [(m.top, m.negative) for record in expected for m in record.measured]
    assert len(set(standing)) > 1
    assert told.bench.model_seconds == 0 < asked.bench.model_seconds


@pytest.mark.parametrize(("metric", "asked"), [("similarity", 1), ("ablation", 0), ("insertion-deletion", 0)])
def test_the_network_is_not_asked_twice_what_it_says_of_an_image(metric, asked, deep, tmp_path):
    job = run(metric, Squares(6), deep, tmp_path, ["clrp2", "gradient"], batch=6)
    job.source.sample = lambda index, sample=job.source.sample: replace(s := sample(index), explained=s.explained[:1])
    sizes = []  # that of the batch is the only one of 6: curves have 16 images and 2, patches 3 at most
    job.bench.model = lambda inputs, model=job.bench.model: sizes.append(len(inputs)) or model(inputs)
    job.go()
    assert sizes.count(6) == asked


class Half(Team):
    """One of two processes that do not meet."""

    def broadcast(self, value):
        return value

    def gather(self, value):
        return [value]

    def wait(self):
        pass


def test_two_processes_do_what_one_does(deep, tmp_path):
    whole = run("energy-inside", Squares(11), deep, tmp_path / "one", batch=2).go()
    with pytest.raises(InvalidInputError, match="5 of 11 images have no record"):  # it did the first, third, ... batch
        run("energy-inside", Squares(11), deep, tmp_path / "two", batch=2, team=Half(0, 2)).go()
    # The other one has found those batches done, and shares what is left; the rest is done by a third run.
    assert run("energy-inside", Squares(11), deep, tmp_path / "two", batch=2, team=Half(1, 2)).go() is None
    assert len(read_records(tmp_path / "two" / "records")) == 8
    assert not (tmp_path / "two" / "summary.json").exists()
    summary = run("energy-inside", Squares(11), deep, tmp_path / "two", batch=2).go()
    assert summary.rows == whole.rows


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 1}, "seed"),
        ({"batch": 2}, "batch"),
        ({"average": "classes"}, "average"),
        ({"methods": ["lrp"]}, "methods"),
    ],
)
def test_runs_that_differ_are_not_mixed(change, word, deep, tmp_path):
    run("pointing", Squares(3), deep, tmp_path).go()
    with pytest.raises(InvalidInputError, match=f"differs in .*{word}"):
        run("pointing", Squares(3), deep, tmp_path, **change).go()


def test_other_data_and_other_weights_are_not_mixed(deep, tmp_path):
    run("pointing", Squares(3), deep, tmp_path).go()
    with pytest.raises(InvalidInputError, match=r"images \(3 there, 4 here\), data_fingerprint \(the photographs"):
        run("pointing", Squares(4), deep, tmp_path).go()
    with torch.no_grad():
        deep.model.classifier.weight[0, 0] += 1
    with pytest.raises(InvalidInputError, match="weights_checksum"):
        run("pointing", Squares(3), deep, tmp_path).go()


def test_records_without_their_run_are_not_mixed(deep, tmp_path):
    run("pointing", Squares(3), deep, tmp_path).go()
    (tmp_path / "run.json").unlink()
    with pytest.raises(InvalidInputError, match=r"nothing says what they are of; .* delete .*records"):
        run("pointing", Squares(3), deep, tmp_path, seed=1).go()
    assert not (tmp_path / "run.json").exists()


def test_other_versions_are_not_mixed(deep, tmp_path, monkeypatch):
    run("pointing", Squares(3), deep, tmp_path).go()
    found = provenance.packages()
    monkeypatch.setattr(provenance, "packages", lambda: found | {"torch": "9.9"})
    with pytest.raises(InvalidInputError, match=r'differs in torch \(".*" there, "9.9" here\)'):
        run("pointing", Squares(3), deep, tmp_path).go()


CHANGES = {
    "class map": lambda root: VOC2007(root, class_map={"dog": 1, "cat": 2, "horse": 0}),
    "difficult set": lambda root: VOC2007(root, class_map=ANIMALS, hard=True),
    "flagged objects": lambda root: VOC2007(root, class_map=ANIMALS, flagged=True),
    "another photograph of the same name": lambda root: replaced(root, "JPEGImages/000002.jpg", b"\xff\xd9"),
    "another box": lambda root: replaced(root, "Annotations/000002.xml", b"<!-- -->", of=b"<xmax>50", by=b"<xmax>40"),
}
ANIMALS = {"dog": 0, "cat": 1, "horse": 2}


def replaced(root, file, more, of=b"", by=b""):
    path = root / "VOCdevkit" / "VOC2007" / file
    path.write_bytes(path.read_bytes().replace(of, by) + more)
    return VOC2007(root, class_map=ANIMALS)


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_number_is_part_of_the_identity_of_a_run(change, deep, tmp_path):
    root = shaped.voc(tmp_path / "voc")
    geometry = Geometry(SIZE, (SIZE, SIZE))
    run("pointing", PhotographSource(VOC2007(root, class_map=ANIMALS), geometry), deep, tmp_path / "out").go()
    run("pointing", PhotographSource(VOC2007(root, class_map=ANIMALS), geometry), deep, tmp_path / "out").go()
    with pytest.raises(InvalidInputError, match="holds another run, which differs in"):
        run("pointing", PhotographSource(CHANGES[change](root), geometry), deep, tmp_path / "out").go()


def test_the_layer_of_grad_cam_is_part_of_the_identity_of_a_run(deep, tmp_path):
    def job(layer):
        bench = Bench(deep, MethodSet(deep, ["grad-cam"], layer=deep.model.get_submodule(layer)))
        return Run(METRICS["pointing"](), Squares(3), bench, tmp_path, quiet=True)

    job("features.3").go()
    with pytest.raises(InvalidInputError, match=r"cam_layer \(\"features.3\" there, \"features.0\" here\)"):
        job("features.0").go()


def test_the_summary_says_what_it_was_made_with(deep, tmp_path):
    run("pointing", Squares(3), deep, tmp_path, seed=5).go()
    made = json.loads((tmp_path / "summary.json").read_text())["made_with"]
    assert made["seed"] == 5
    assert made["methods"] == METHODS
    assert made["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert set(made) >= {"commit", "data", "model", "weights", "weights_checksum", "cost", "settings"}


class Odd(Source):
    name, description = "odd", ""
    ids = ("placed", "cropped away", "no place", "nothing")

    def sample(self, index):
        pixels = torch.full((3, SIZE, SIZE), 30 * index, dtype=torch.uint8)
        mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        mask[:5] = True
        explained = [(Explained(0, "red", mask),), (), (Explained(1, "green"),), ()][index]
        return Sample(self.ids[index], pixels, explained, ("blue",) if index == 1 else ())


def test_what_cannot_be_measured_is_counted(deep, tmp_path):
    summary = run("pointing", Odd(), deep, tmp_path / "a", ["gradient"]).go()
    assert summary.rows[0].n == 1
    assert summary.skipped == {"object cropped away": 1, "place of the object unknown": 1, "no class to explain": 1}
    summary = run("ablation", Odd(), deep, tmp_path / "b", ["gradient"]).go()  # needs no place
    assert summary.rows[0].n == 2
    summary = run("similarity", Odd(), deep, tmp_path / "c", ["gradient"]).go()  # nor a class
    assert summary.rows[0].n == 4


def test_a_class_that_the_network_does_not_have_is_refused(counter, tmp_path):
    class Beyond(Squares):
        def sample(self, index):
            return Sample(str(index), torch.zeros(3, SIZE, SIZE, dtype=torch.uint8), (Explained(3, "violet"),))

    with pytest.raises(InvalidInputError, match="class 3 .violet., but tiny has 3 outputs"):
        run("ablation", Beyond(2), counter, tmp_path).go()


def test_images_of_different_size_need_a_batch_of_one(tmp_path):
    class Growing(Squares):
        def sample(self, index):
            sample = Squares(1, SIZE + 2 * index).sample(0)
            return Sample(self.ids[index], sample.pixels, sample.explained)

    net = network(ColourCounter())
    with pytest.raises(InvalidInputError, match="differ in size"):
        run("pointing", Growing(3), net, tmp_path / "a").go()
    assert run("pointing", Growing(3), net, tmp_path / "b", batch=1).go().images["measured"] == 3


def test_methods_that_explain_no_neuron_are_refused(deep, tmp_path):
    bench = Bench(deep, MethodSet(deep, ["gradient"]))
    with pytest.raises(InvalidInputError, match="does not explain neurons"):
        Run(METRICS["neurons"](), Squares(2), bench, tmp_path, quiet=True).go()
    assert not (tmp_path / "run.json").exists()


def test_contrast_tells_neurons_apart_where_lrp_does_not(tmp_path):
    torch.manual_seed(5)
    from evaluation.conftest import Deep

    net = network(Deep())
    summary = run("neurons", Squares(6), net, tmp_path).go()
    alike = {row.method: row.mean for row in summary.rows if row.quantity == "cosine"}
    assert alike["clrp2"] < alike["lrp"]
    drops = summary.extra["drops"]
    assert set(drops) == {"random", "lrp", "clrp2"}
    assert len(drops["lrp"]) == len(drops["lrp"][0]) == 8


def test_similarity_finds_lrp_alike_and_the_contrast_not(tmp_path, deep):
    summary = run("similarity", Squares(6), deep, tmp_path, ["lrp", "clrp1", "clrp2", "centre"]).go()
    alike = {row.method: row.mean for row in summary.rows if row.quantity == "cosine"}
    assert alike["centre"] == pytest.approx(1)
    assert alike["clrp1"] < alike["lrp"]


def test_a_folder_of_photographs_from_file_to_figure(folder, tmp_path):
    net = network(ColourCounter())
    source = PhotographSource(ImageFolder(folder), net.geometry)
    summary = run(
        "ablation", source, net, tmp_path / "out", ["random", "clrp2"], batch=4, cache=tmp_path / "cache"
    ).go()
    drops = {(row.method, row.quantity): row.mean for row in summary.rows}
    assert drops["clrp2", "logit"] > drops["random", "logit"] > -0.1
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_grids_of_colours(folder, tmp_path):
    """Three classes fill no 2 x 2 grid; four do."""
    import numpy as np

    for k in range(4):
        pixels = np.zeros((30, 30, 3), dtype=np.uint8)
        pixels[..., k % 3] = 200
        pixels[5:20, 5:20] = 255 if k == 3 else pixels[5, 5]
        Image.fromarray(pixels).save(folder / f"{k + 3}_plain.png")
    names = (*CLASSES, "r", "g", "b", "white")
    torch.manual_seed(0)
    from evaluation.conftest import Deep

    net = Classifier("deep", Deep(7).eval(), Geometry(24, (24, 24)), (0.0,) * 3, (1.0,) * 3, names)
    source = GridSource(ImageFolder(folder), net.geometry, 2)
    summary = run("grid", source, net, tmp_path / "out", ["centre", "clrp1"]).go()
    share = {row.method: row.mean for row in summary.rows if row.quantity == "share"}
    assert share["centre"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.slow
def test_the_evaluation_costs_little_beside_the_attributions(lite0, tmp_path):
    """At most 1.15 times the attributions in it (and the network's own forward passes)."""
    from captum_clrp.evaluation import Embedded

    net = lite0
    source = PhotographSource(Embedded(collages=False), net.geometry)
    ratios = []
    for attempt in range(5):  # whatever else the machine does only adds
        job = run("energy-pointing", source, net, tmp_path / str(attempt), ["lrp", "clrp1", "clrp2"], batch=1)
        began = time.perf_counter()
        job.go()
        seconds = time.perf_counter() - began
        ratios.append(seconds / (job.bench.attribution_seconds + job.bench.model_seconds))
    assert min(ratios) <= 1.15, ratios
