"""Networks of one's own: from the place of their code to an explanation's classifier."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from captum_clrp.classifiers import load_classifier
from captum_clrp.errors import ClassifierError

CODE = """
import torch
from torch import nn
from captum_clrp.classifiers import Classifier
from captum_clrp.geometry import Geometry


class Small(nn.Sequential):
    def __init__(self, channels=3, classes=5):
        super().__init__(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def build():
    return Small()


def grey():
    return Small(channels=1)


def wide():
    return Small(classes=1000)


def classifier():
    return Classifier("mine", Small(), Geometry(20, (16, 16)), (0.5,) * 3, (0.25,) * 3, tuple("abcde"), "by hand")


def of_timm():
    import timm

    return timm.create_model("tf_efficientnet_lite0", num_classes=5)


def needy(size):
    return Small()


class Zoo:
    build = staticmethod(build)


network = Small().train()
number = 3
"""
FED = {"mean": [0.5], "std": [0.25], "size": 16}


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the user's with networks, in the current folder."""
    package = tmp_path / "my_own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(CODE)
    (package / "broken.py").write_text("import no_such_library_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("my_own_package")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.parametrize("name", ["build", "Small", "network", "Zoo.build"])
def test_a_function_a_class_or_a_network(name):
    mine = load_classifier(f"my_own_package.nets:{name}", **FED)
    assert mine.name == f"my_own_package.nets:{name}"
    assert not mine.model.training
    assert (mine.mean, mine.std, mine.input_size) == ((0.5,) * 3, (0.25,) * 3, (16, 16))
    assert mine.class_names == tuple(f"class {i}" for i in range(5))
    assert mine.model(mine.inputs(Image.new("RGB", (30, 20)))).shape == (1, 5)


def test_a_classifier_brings_everything():
    mine = load_classifier("my_own_package.nets:classifier")
    assert (mine.name, mine.mean, mine.input_size, mine.class_names) == ("mine", (0.5,) * 3, (16, 16), tuple("abcde"))
    assert mine.weights == "by hand"
    assert load_classifier("my_own_package.nets:classifier", mean=[0.0], std=[1.0]).mean == (0.0,) * 3


def test_a_network_of_timm_brings_its_preprocessing():
    pytest.importorskip("timm")
    mine = load_classifier("my_own_package.nets:of_timm", "random")
    theirs = load_classifier("tf_efficientnet_lite0", "random")
    assert (mine.mean, mine.std, mine.input_size) == (theirs.mean, theirs.std, theirs.input_size)
    picture = Image.effect_noise((300, 260), 60).convert("RGB")
    assert torch.equal(mine.inputs(picture), theirs.inputs(picture))
    assert mine.class_names == tuple(f"class {i}" for i in range(5))


@pytest.mark.parametrize("like", ["resnet18", "timm/tf_efficientnet_lite0"])
def test_the_preprocessing_of_another_network(like):
    if like.startswith("timm"):
        pytest.importorskip("timm")
    mine = load_classifier("my_own_package.nets:build", preprocessing=like)
    theirs = load_classifier(like, "random")
    picture = Image.effect_noise((300, 260), 60).convert("RGB")
    assert torch.equal(mine.inputs(picture), theirs.inputs(picture))


def test_a_network_of_one_channel_sees_grey():
    mine = load_classifier("my_own_package.nets:grey", **FED)
    assert (mine.mean, mine.std, mine.low.shape) == ((0.5,), (0.25,), (1, 1, 1, 1))
    colourful = Image.effect_noise((30, 20), 90).convert("RGB")
    colourful.putpixel((3, 3), (255, 0, 0))
    small = colourful.resize((16, 16))
    grey = torch.from_numpy(np.array(small.convert("L"))) / 255
    found = mine.inputs([small])  # already of the network's size
    torch.testing.assert_close(found[0, 0], (grey - 0.5) / 0.25, rtol=0, atol=4 / 255)  # Pillow rounds to whole numbers
    white = mine.inputs(Image.new("RGB", (16, 16), "white"))
    torch.testing.assert_close(white, mine.high.expand_as(white))


def test_a_checkpoint_of_lightning_is_loaded(code):
    torch.manual_seed(5)
    from my_own_package.nets import Small

    trained = Small()
    state = {f"model.{key}": value for key, value in trained.state_dict().items()} | {"loss.weight": torch.ones(5)}
    torch.save({"state_dict": state, "hyper_parameters": {"lr": 1.0}}, code / "last.ckpt")
    mine = load_classifier("my_own_package.nets:build", "last.ckpt", class_names=list("vwxyz"), **FED)
    assert all(torch.equal(mine.model.state_dict()[key], value) for key, value in trained.state_dict().items())
    assert (mine.weights, mine.class_names) == ("last.ckpt", tuple("vwxyz"))


def test_random_weights_are_the_same_every_time():
    first, second = (load_classifier("my_own_package.nets:build", "random", **FED) for _ in range(2))
    assert first.checksum() == second.checksum()
    assert first.weights == "random"
    other = load_classifier("my_own_package.nets:build", **FED)
    assert other.weights == "as my_own_package.nets:build has them"


def test_a_thousand_classes_of_ones_own_are_not_those_of_imagenet(code):
    mine = load_classifier("my_own_package.nets:wide", **FED)
    assert mine.class_names[340] == "class 340"
    names = [f"mine {i}" for i in range(1000)]
    torch.save(torchvision.models.squeezenet1_1(num_classes=1000).state_dict(), code / "w.pth")
    assert load_classifier("squeezenet1_1", "w.pth", class_names=names).class_names[340] == "mine 340"


@pytest.mark.parametrize(
    ("name", "given", "argument", "says"),
    [
        ("no_such_package.nets:build", FED, "name", "no_such_package.nets cannot be imported (ModuleNotFoundError"),
        ("my_own_package.broken:build", FED, "name", "no_such_library_at_all"),
        ("my_own_package.nets:biuld", FED, "name", "has no biuld; it has build"),
        ("my_own_package.nets:", FED, "name", "has no name behind the colon"),
        ("my_own_package.nets:needy", FED, "name", "failed when it was called without arguments (TypeError"),
        ("my_own_package.nets:number", FED, "name", "is a int; name a network"),
        ("my_own_package.nets:build", {}, "preprocessing", "or mean and std and size"),
        ("my_own_package.nets:build", {"preprocessing": "resnt18"}, "preprocessing", "nearest names are: resnet18"),
        ("my_own_package.nets:build", {**FED, "class_names": "ab"}, "class_names", "2 names do not fit"),
        ("my_own_package.nets:build", {**FED, "weights": "nosuch"}, "weights", "no weights named 'nosuch'"),
        ("my_own_package.nets:network", {**FED, "weights": "random"}, "weights", "is a network already"),
        (
            "my_own_package.nets:grey",
            {**FED, "mean": [0.1, 0.2, 0.3]},
            "preprocessing",
            "pictures of 3 channels and 16 x 16",
        ),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(name, given, argument, says):
    with pytest.raises(ClassifierError) as caught:
        load_classifier(name, **given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.argument == argument


def test_weights_of_another_network_are_refused(code):
    torch.save(nn.Linear(3, 2).state_dict(), code / "w.pth")
    with pytest.raises(ClassifierError, match="does not hold the weights of my_own_package.nets:build"):
        load_classifier("my_own_package.nets:build", "w.pth", **FED)


def test_ones_own_network_can_be_put_together_in_python():
    mine = load_classifier("my_own_package.nets:classifier")
    assert dataclasses.replace(mine, class_names=("v", "w", "x", "y", "z")).class_name(4) == "z"
