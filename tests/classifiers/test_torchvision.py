from pathlib import Path

import pytest
import torch
import torchvision

from captum_clrp.classifiers import load_classifier
from captum_clrp.images import example_picture


@pytest.mark.parametrize("name", ["alexnet", "inception_v3"])
def test_torchvision_preprocessing_is_that_of_the_weights(name):
    classifier = load_classifier(name, "random")
    expected = torchvision.models.get_model_weights(name).DEFAULT.transforms()(example_picture())
    torch.testing.assert_close(classifier.inputs(example_picture())[0], expected, rtol=0, atol=1e-6)


def test_a_published_file_brings_its_own_preprocessing(tmp_path):
    """ResNet-50 was published twice, with different sizes before cropping; the file's name tells which."""
    state = torchvision.models.resnet50().state_dict()
    picture, prepared = example_picture().resize((500, 400)), {}
    for entry in torchvision.models.ResNet50_Weights:
        path = tmp_path / Path(entry.url).name
        torch.save(state, path)
        prepared[entry.name] = load_classifier("resnet50", str(path)).inputs(picture)[0]
        torch.testing.assert_close(prepared[entry.name], entry.transforms()(picture), rtol=0, atol=1e-6)
    assert not torch.equal(*prepared.values())
