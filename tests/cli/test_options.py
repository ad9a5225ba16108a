"""One's own network on the command line, for both commands."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from captum_clrp.cli import explained, explaining, main
from captum_clrp.cli.options import DEFAULT_MODEL

NAMES = ["great tit", "blue tit", "robin", "wren", "house sparrow"]
CODE = """
from torch import nn

def build(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))

def grey():
    return build(1)
"""
SMALL = ["--mean", "0.5", "--std", "0.25", "--size", "32"]


@pytest.fixture(autouse=True)
def own(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with code, class names and a photograph; it is not among the places of imports."""
    (workplace / "own_nets.py").write_text(CODE)
    (workplace / "birds.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    Image.effect_noise((40, 36), 80).convert("RGB").save(workplace / "bird.png")
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(workplace))])
    return workplace


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The classifiers that explain."""
    seen: list[object] = []
    ask = explaining.asked_classifier

    def recording(*given: object) -> object:
        seen.append(ask(*given))
        return seen[-1]

    monkeypatch.setattr(explaining, "asked_classifier", recording)
    return seen


def explain(*arguments: object) -> int:
    return main(["explain", *map(str, arguments)])


def test_a_fine_tuned_resnet_with_classes_of_ones_own_is_one_line(own, capsys, shown):
    torch.manual_seed(2)
    trained = torchvision.models.resnet18(num_classes=5)
    state = {f"model.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7}, "birds.ckpt")
    arguments = "bird.png --model resnet18 --weights birds.ckpt --labels birds.txt --target wren,top1 --method clrp1"
    assert explain(*arguments.split()) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert "  * wren" in out
    assert "resnet18, weights: birds.ckpt" in out
    assert Image.open("bird_clrp.png").format == "PNG"
    (classifier,) = shown
    assert torch.equal(classifier.model.fc.weight, trained.fc.weight)


def test_a_function_in_the_current_folder(own, capsys, shown):
    before = list(sys.path)
    assert (
        explain(
            "bird.png",
            "--model",
            "own_nets:build",
            *SMALL,
            "--crop",
            "24,28",
            "-t",
            "blue_tit",
            "--labels",
            "birds.txt",
        )
        == 0
    )
    (classifier,) = shown
    assert (classifier.input_size, classifier.mean, classifier.std) == ((24, 28), (0.5,) * 3, (0.25,) * 3)
    assert "own_nets:build, weights: as own_nets:build has them" in capsys.readouterr().out
    assert sys.path == before


def test_a_preprocessing_by_name(own, shown):
    assert explain("bird.png", "--model", "own_nets:build", "--preprocessing", "vgg16", "--std", "0.5", "-t", "0") == 0
    (classifier,) = shown
    assert classifier.mean == tuple(torchvision.models.VGG16_Weights.DEFAULT.transforms().mean)
    assert (classifier.std, classifier.input_size) == ((0.5,) * 3, (224, 224))


def test_a_grey_scan_of_twelve_bits(own, capsys, shown, monkeypatch):
    pictures = []
    draw = explained.draw_maps

    def recording(picture: object, *rest: object, **more: object) -> object:
        pictures.append(picture)
        return draw(picture, *rest, **more)

    monkeypatch.setattr(explained, "draw_maps", recording)
    values = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    Image.fromarray(values).save("scan.png")
    for more in (["--range", "0,4095"], []):
        assert explain("scan.png", "--model", "own_nets:grey", *SMALL, "-t", "0", "-o", "x.png", *more) == 0
        err = capsys.readouterr().err
        assert ("note: the values of scan.png go from" in err) == (not more)
    assert shown[0].low.shape == (1, 1, 1, 1)
    np.testing.assert_allclose(np.asarray(pictures[0][0]), values / 4095, atol=1 / 255)
    assert pictures[1].max() < 0.07


def test_evaluate_takes_the_same_network(own, capsys):
    pytest.importorskip("torchmetrics")
    Path("photos").mkdir()
    for i, name in enumerate(("wren", "robin", "great tit")):
        (Path("photos") / name).mkdir()
        Image.effect_noise((40, 36), 80 + i).convert("RGB").save(Path("photos") / name / f"{i}.png")
    arguments = "ablation --data photos --model own_nets:build --labels birds.txt --methods random,clrp1 --patch 5 --no-figures --quiet"
    assert main(["evaluate", *arguments.split(), *SMALL, "--cache", "cache", "--output", "out"]) == 0
    records = [json.loads(line) for file in Path("out/records").iterdir() for line in file.read_text().splitlines()]
    assert {measured["label"] for one in records for measured in one["measured"]} == {0, 2, 3}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--model own_nets:biuld", "--model: own_nets (FOLDER/own_nets.py) has no biuld; it has build"),
        ("--model nowhere.nets:build", "--model: nowhere.nets cannot be imported"),
        ("--model own_nets:build", "--preprocessing: how a picture becomes the input of own_nets:build is not known"),
        ("--model own_nets:build --mean 0.5,0.5 --std 1 --size 32", "--mean: 0.5, 0.5 are 2 values"),
        ("--model own_nets:build --mean a --std 1 --size 32", "argument --mean: 'a' holds something else than numbers"),
        ("--model own_nets:build --mean 0 --std 0 --size 32", "--std: 0 are no standard deviations"),
        ("--model own_nets:build --mean 0 --std 1 --size 0", "argument --size: '0' is no number of pixels"),
        ("--model own_nets:build --mean 0 --std 1 --size 2", "--preprocessing: own_nets:build does not take pictures"),
        (
            "--model resnet18 --weights random --labels birds.txt",
            "--labels: 5 names do not fit resnet18, which has 1000 outputs",
        ),
        ("--labels nowhere.txt", "--labels: the class names nowhere.txt cannot be read (No such file"),
        ("--range 5,5", "argument --range: '5,5' is no range"),
        ("--range 0,100", "bird.png is no grey picture"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_option(own, arguments, says, capsys):
    assert explain("bird.png", *arguments.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says.replace("FOLDER", str(own)) in err


def test_the_default_network_is_that_of_the_library():
    from captum_clrp.classifiers import load_classifier

    assert load_classifier.__defaults__[0] == DEFAULT_MODEL
