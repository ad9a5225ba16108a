import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from captum_clrp.classifiers import Classifier, load_classifier
from captum_clrp.errors import InvalidInputError
from captum_clrp.geometry import Geometry


@pytest.fixture(scope="module")
def squeezenet() -> Classifier:
    return load_classifier("squeezenet1_1", "random")


def tiny(prepare, **changed) -> Classifier:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    settings = {"mean": (0.5, 0.25, 0.0), "std": (0.5, 0.25, 1.0), "class_names": ("cat", "cup")}
    return Classifier("tiny", model, prepare, **{**settings, **changed})


def test_black_and_white_lie_on_the_bounds(squeezenet):
    for colour, bound in (("black", squeezenet.low), ("white", squeezenet.high)):
        inputs = squeezenet.inputs(Image.new("RGB", (300, 300), colour))
        torch.testing.assert_close(inputs, bound.expand_as(inputs))
    assert torch.equal(torch.cat(squeezenet.bounds), torch.cat([squeezenet.low, squeezenet.high]))


def test_inputs_are_of_pictures_or_of_pixels():
    one = tiny(Geometry(4, (4, 4)))
    picture = Image.new("RGB", (8, 6), (255, 0, 51))
    # (1 - 0.5) / 0.5 = 1, (0 - 0.25) / 0.25 = -1, (0.2 - 0) / 1 = 0.2
    expected = torch.tensor([1.0, -1.0, 0.2]).reshape(3, 1, 1).expand(3, 4, 4)
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 4, 4)
    torch.testing.assert_close(one.inputs(picture), expected[None])
    torch.testing.assert_close(one.inputs([picture, picture]), torch.stack([expected] * 2))
    torch.testing.assert_close(one.inputs(pixels), expected)
    torch.testing.assert_close(one.inputs(torch.stack([pixels] * 3)), torch.stack([expected] * 3))
    torch.testing.assert_close(one.normalize(pixels / 255), expected)


def test_geometry_and_size_are_those_of_the_preprocessing():
    steps = [transforms.Resize(6), transforms.CenterCrop((4, 5)), transforms.ToTensor()]
    one = tiny(transforms.Compose(steps))
    assert one.geometry == Geometry(6, (4, 5))
    assert one.input_size == (4, 5)
    with pytest.raises(InvalidInputError, match="RandomCrop"):
        _ = tiny(transforms.Compose([transforms.RandomCrop(4), transforms.ToTensor()])).geometry


def test_outputs_have_names():
    one = tiny(Geometry(4, (4, 4)))
    assert [one.class_name(label) for label in (0, 1, 2)] == ["cat", "cup", "class 2"]


def test_the_device_is_that_of_the_weights():
    assert tiny(Geometry(4, (4, 4))).device == torch.device("cpu")
    assert Classifier("plain", nn.Flatten(), Geometry(4, (4, 4)), (0.0,), (1.0,)).device == torch.device("cpu")


def test_the_checksum_follows_the_weights():
    one = tiny(Geometry(4, (4, 4)))
    before = one.checksum()
    assert one.checksum() == before
    with torch.no_grad():
        one.model[1].bias[1] += 1e-3
    assert one.checksum() != before
