"""The study of contrasts: its maps are those of the public classes, and its pieces do what they say."""

import gzip
import json
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("torchmetrics")
pytest.importorskip("timm")

from evaluation.conftest import Deep, network

from benchmarks.contrast import __main__ as contrast
from benchmarks.contrast import jobs, maps, measure, peers, why
from benchmarks.contrast.measuring import remembering
from benchmarks.contrast.summary import summarise
from benchmarks.report import environment
from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta


def test_strengths_that_are_combined_are_those_of_the_classes():
    torch.manual_seed(0)
    net = network(Deep(9))
    inputs, labels = torch.rand(1, 3, 24, 24), [2, 5]
    found = dict(maps.maps_of_setting(net, maps.CORE[0], inputs, labels))
    low, high = net.bounds
    signs = net.model(inputs)[0, labels].sign()[:, None, None].detach()
    lrp = LRPZBeta(net.model, low, high).attribute_classes(inputs, labels)[0].sum(1) * signs
    torch.testing.assert_close(found["lrp"], lrp)
    for name, kind in (("clrp1", ContrastiveLRP1), ("clrp2", ContrastiveLRP2)):
        for strength in maps.STRENGTHS:
            expected = kind(net.model, low, high, strength=strength).attribute_classes(inputs, labels)[0].sum(1)
            title = name if strength == 1 else f"{name}-s{strength:g}"
            torch.testing.assert_close(found[title], expected, rtol=1e-3, atol=1e-6)
    assert {name.partition("-")[0] for name in found} == {"lrp", *maps.CURVED}


def test_joined_maps_are_zero_where_the_contrast_is_silent():
    torch.manual_seed(0)
    net = network(Deep(9))
    inputs = 2 * torch.rand(1, 3, 24, 24) - 1
    with torch.no_grad():
        target = net.model(inputs).argmax(1)
    lrp = LRPZBeta(net.model, -1.0, 1.0).attribute(inputs, target)[0].sum(0).abs()
    contrast = ContrastiveLRP1(net.model, -1.0, 1.0).attribute(inputs, target)[0].sum(0)
    gated, mean = (kind(net.model).attribute(inputs, target)[0, 0] for kind in (peers.Gated, peers.GeometricMean))
    assert (contrast > 0).any() and not (contrast > 0).all()
    torch.testing.assert_close(gated[contrast > 0], lrp[contrast > 0])
    assert not gated[contrast <= 0].any()
    torch.testing.assert_close(mean**2, lrp * contrast)


def test_patches_have_the_sum_of_their_pixels():
    heat = torch.arange(20.0).reshape(4, 5)
    summed = measure.by_patches(heat, 2)
    assert summed[0].tolist() == [12, 12, 20, 20, 13]  # 0 + 1 + 5 + 6, 2 + 3 + 7 + 8, 4 + 9
    assert summed[2, 0] == 10 + 11 + 15 + 16


def test_one_map_chooses_and_the_other_orders():
    chooses, orders = torch.tensor([[4.0, 3.0], [2.0, 1.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    ranks = why.crossed(chooses, orders).flatten()
    assert ranks.argsort(descending=True).tolist() == [1, 0, 3, 2]


def test_only_what_is_asked_for_is_measured():
    settings, others = maps.chosen(maps.SETTINGS, maps.OTHERS, ("clrp1-s0.9", "clrp2-even", "SmoothGrad", "lrp"))
    assert [(s.suffix, s.strengths, s.signed) for s in settings] == [
        ("", {"clrp1": (0.9,)}, ()),
        ("-even", {"clrp2": (1.0,)}, ()),
    ]
    assert others == ("benchmarks.contrast.peers:SmoothGrad",)
    torch.manual_seed(0)
    net = network(Deep(9))
    inputs = torch.rand(1, 3, 24, 24)
    few = dict(maps.maps_of_setting(net, settings[0], inputs, [2]))
    assert list(few) == ["lrp", "clrp1-s0.9"]
    every = dict(maps.maps_of_setting(net, maps.CORE[0], inputs, [2]))
    for name, heat in few.items():
        torch.testing.assert_close(heat, every[name])
    with pytest.raises(ValueError, match="clrp9: not among"):
        maps.chosen(maps.CORE, maps.CORE_OTHERS, ("clrp1", "clrp9"))
    with pytest.raises(ValueError, match="no contrast"):
        maps.chosen(maps.CORE, maps.CORE_OTHERS, ("random",))


def test_images_that_are_known_are_run_once():
    sizes = []

    def model(images):
        sizes.append(len(images))
        return images.sum((2, 3))

    images = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    run = remembering(model, [images[3], images[0]])
    torch.testing.assert_close(run(images), images.sum((2, 3)))
    torch.testing.assert_close(run(images[[0, 3, 0]]), images[[0, 3, 0]].sum((2, 3)))
    assert sizes == [2, 3]


def test_one_class_of_each_scene_in_turn(tmp_path, monkeypatch):
    asked = jobs.Asked("lite0", True, (), None, None, 1, 1, 0)
    seen = []

    def scene(network, settings, others, sample, faithful, steps):
        seen.append([k for k in range(4) if faithful(k, "lrp")])
        assert not any(faithful(k, "input-x-gradient") for k in range(4))
        return []

    grids = [SimpleNamespace(explained=[None] * 4)] * 6
    monkeypatch.setattr(jobs, "measure_scene", scene)
    monkeypatch.setattr(jobs, "bench_of", lambda asked: (None, (), None, [], grids, None))
    for index in range(6):
        jobs.measure((asked, "scene", index, tmp_path / "scene.json"))
    jobs.measure((asked._replace(scene_classes=None), "scene", 5, tmp_path / "scene.json"))
    assert seen == [[0], [1], [2], [3], [0], [1], [0, 1, 2, 3]]


def test_the_report_covers_every_network_that_lies_there_and_tells_how_far_a_contrast_is_from_lrp(tmp_path):
    for name, shift in (("lite2", 0.5), ("lite1", 0.25)):
        values = [{"lrp": {"deletion": 0.5, "insertion": 0.5}, "clrp1": {"deletion": 0.5 - shift, "insertion": 1.0}}]
        shares = [{"lrp": {"share": 0.25}, "clrp1": {"share": 0.75}}]
        records = [{"id": str(i), "label": i, "values": v} for i, v in enumerate((values + shares) * 2)]
        made = {"command": f"measure {name}", "environment": environment()}
        document = {"made_with": made, "metrics": summarise(records)}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    text = contrast.report(tmp_path)
    assert text == (tmp_path / "contrast.md").read_text()
    one, two = text.partition("EfficientNet-Lite2")[::2]
    assert "EfficientNet-Lite1" in one and "measure lite1" in one and "measure lite2" in two
    change = "+0.500 [+0.500, +0.500]"
    assert f"| clrp1 | 0.750 [0.750, 0.750] | -0.250 [-0.250, -0.250] | {change} |" in one
    assert f"| clrp1 | 0.750 [0.750, 0.750] | -0.500 [-0.500, -0.500] | {change} |" in two
    assert (tmp_path / "contrast.png").stat().st_size > 0


@pytest.mark.slow
def test_processes_share_the_study(tmp_path, monkeypatch):
    monkeypatch.delenv("CLRP_SAMPLE_IMAGES", raising=False)
    settings = ["--core", "--limit", "1", "--scenes", "1", "--steps", "1"]
    for processes in ("1", "2"):
        output = str(tmp_path / processes)
        assert contrast.main([*settings, "--processes", processes, "--output", output]) == 0
    values = [(tmp_path / processes / "lite0-values.json.gz").read_bytes() for processes in ("1", "2")]
    one, two = (json.loads(gzip.decompress(packed))["records"] for packed in values)
    assert len(one) == len(two) > 1
    for ours, theirs in zip(one, two, strict=True):
        assert ours == theirs


def test_the_experiment_reports_every_order(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CLRP_SAMPLE_IMAGES", raising=False)  # the embedded photographs
    assert why.main(["--network", "lite0", "--limit", "2", "--steps", "2", "--output", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "contrast-why.json").read_text())
    assert document["photographs"] == len(document["values"]) == 2
    for metric in ("deletion", "insertion"):
        assert set(document["means"][metric]) == set(why.ORDERS)
        mean = sum(row["CLRP1"][metric] for row in document["values"]) / 2
        assert document["means"][metric]["CLRP1"]["mean"] == pytest.approx(mean)
    assert (tmp_path / "contrast-why.md").read_text() in capsys.readouterr().out
