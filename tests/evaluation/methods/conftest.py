"""A small AlexNet and two images for it."""

import pytest
import torch
import torchvision
from helpers.concepts import SIZE

from captum_clrp.classifiers import Classifier
from captum_clrp.evaluation import Geometry


@pytest.fixture(scope="module")
def alexnet():
    torch.manual_seed(0)
    model = torchvision.models.alexnet(num_classes=7).eval()
    return Classifier("alexnet", model, Geometry(SIZE, (SIZE, SIZE)), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def inputs(alexnet):
    return alexnet.inputs(torch.randint(0, 256, (2, 3, SIZE, SIZE)))
