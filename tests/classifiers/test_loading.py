import re

import pytest
import torch
import torchvision

from captum_clrp.classifiers import load_classifier, loading, model_names
from captum_clrp.classifiers.classifier import Found
from captum_clrp.classifiers.preprocessing import Preprocessing
from captum_clrp.errors import ClassifierError
from captum_clrp.geometry import Geometry


def test_names_are_those_of_imagenet_in_both_libraries():
    pytest.importorskip("timm")
    for name in ("squeezenet1_1", "timm/resnet10t"):
        names = load_classifier(name, "random").class_names
        assert (names[340], names[386], len(names)) == ("zebra", "African elephant", 1000)


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    before = torch.get_rng_state()
    first, second = (load_classifier("squeezenet1_1", "random").model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet121", "googlenet", "timm/resnet10t"])
def test_a_file_of_weights_is_loaded(tmp_path, name):
    if name.startswith("timm/"):
        net = pytest.importorskip("timm").create_model("resnet10t")
    else:  # the published files of GoogLeNet carry its auxiliary outputs too
        extra = {"init_weights": True, "aux_logits": True} if name == "googlenet" else {}
        net = torchvision.models.get_model(name, weights=None, **extra)
    published = net.state_dict()
    if name == "densenet121":  # names with a dot, as in the published file
        published = {re.sub(r"\.(norm|conv)([12])\.", r".\1.\2.", key): value for key, value in published.items()}
        assert set(published) != set(net.state_dict())
    torch.save(published, tmp_path / "w.pth")
    loaded = load_classifier(name, str(tmp_path / "w.pth"))
    assert loaded.weights == str(tmp_path / "w.pth")
    own = loaded.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["squeezenet1_1", "alexnet", "timm/resnet10t"])
def test_a_network_trained_on_other_classes_keeps_its_outputs(tmp_path, name):
    if name.startswith("timm/"):
        state = pytest.importorskip("timm").create_model("resnet10t", num_classes=7).state_dict()
    else:
        state = torchvision.models.get_model(name, weights=None, num_classes=7).state_dict()
    torch.save(state, tmp_path / "w.pth")
    classifier = load_classifier(name, str(tmp_path / "w.pth"))
    assert classifier.class_names == tuple(f"class {i}" for i in range(7))
    own = classifier.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("name", "weights", "argument", "says"),
    [
        ("resnt50", None, "name", "nearest names are: resnet50"),
        ("keras/vgg16", None, "name", "torchvision/NAME or timm/NAME"),
        ("torchvision/tf_efficientnet_lite0", "random", "name", "unknown model"),
        ("alexnet", "IMAGENET1K_V9", "weights", "IMAGENET1K_V1, DEFAULT, random"),
        ("alexnet", None, "weights", r"download https://.*alexnet.*\.pth elsewhere and give the path of the file"),
        ("alexnet", "IMAGENET1K_V1", "weights", r"AlexNet_Weights.IMAGENET1K_V1 are not on this machine"),
        ("timm/resnet18", "nosuch", "weights", "a1_in1k"),
        ("timm/resnet18", "a1_in1k", "weights", r"download https://.*a1_in1k.*/model.safetensors elsewhere"),
        ("timm/resnet18.tv_in1k", None, "weights", r"resnet18.tv_in1k are not on this machine"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(name, weights, argument, says):
    if "timm" in name:
        pytest.importorskip("timm")
    with pytest.raises(ClassifierError, match=says) as caught:
        load_classifier(name, weights)
    assert "\n" not in str(caught.value)
    assert caught.value.argument == argument
    assert not re.search(r"--\w", str(caught.value))  # of the command's options the library knows nothing


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "w.pth")
    for name in ("alexnet", "tf_efficientnet_lite0"):
        if name.startswith("tf_"):
            pytest.importorskip("timm")
        with pytest.raises(ClassifierError, match=f"does not hold the weights of {name}"):
            load_classifier(name, str(tmp_path / "w.pth"))


def test_a_device_that_is_not_there_is_refused():
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ClassifierError, match="cannot be used here") as caught:
            load_classifier("squeezenet1_1", "random", device)
        assert caught.value.argument == "device"


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (torch.nn.Softmax(1), "flat returns probabilities, .* leave the softmax out"),
        (torch.nn.LogSoftmax(1), "flat returns logarithms of probabilities, .* leave the softmax out"),
        (torch.nn.Sigmoid(), None),
        (torch.nn.Identity(), None),
    ],
)
def test_probabilities_in_place_of_logits_are_noted(monkeypatch, recwarn, last, says):
    torch.manual_seed(0)
    how = Preprocessing(Geometry(4, (4, 4)), (0.0,) * 3, (1.0,) * 3)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5), last)
    monkeypatch.setattr(loading.torchvision, "load", lambda *_: Found("flat", model, "none", how, None))
    load_classifier("squeezenet1_1")
    assert [bool(re.search(says or "", str(one.message))) for one in recwarn.list] == ([True] if says else [])


def test_weights_of_another_type_are_told(monkeypatch):
    how = Preprocessing(Geometry(4, (4, 4)), (0.0,) * 3, (1.0,) * 3)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)).double()
    monkeypatch.setattr(loading.torchvision, "load", lambda *_: Found("flat", model, "none", how, None))
    with pytest.raises(ClassifierError, match=r"weights of flat are torch.float64 .* model.float\(\)") as caught:
        load_classifier("squeezenet1_1")
    assert caught.value.argument == "name"


def test_what_returns_no_logits_is_no_classifier(monkeypatch):
    how = Preprocessing(Geometry(4, (4, 4)), (0.0,) * 3, (1.0,) * 3)
    flat = Found("flat", torch.nn.Flatten(0), "none", how, None)
    monkeypatch.setattr(loading.torchvision, "load", lambda *_: flat)
    with pytest.raises(ClassifierError, match=r"flat is no classifier: its output is of shape \(48,\)"):
        load_classifier("squeezenet1_1")


def test_names_hold_both_libraries_once():
    names = model_names()
    assert len(names) == len(set(names))
    assert {"alexnet", "vgg16", "resnet50"} <= set(names)
