"""Gradients against Captum, and every rectifier guided."""

import pytest
import torch
import torchvision
from captum.attr import GuidedBackprop, InputXGradient, LayerGradCam, Saliency
from helpers.concepts import CONCEPTS, IDS, SIZE, close
from torch import nn
from torch.nn import functional as F

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import MethodSet
from captum_clrp.evaluation.methods.gradients import GuidedRectifiers, gradient_maps, guided_maps


def test_gradients_are_captums(alexnet, inputs):
    maps = MethodSet(alexnet, ["gradient", "input-x-gradient", "grad-cam", "guided-backprop"]).maps(
        inputs, CONCEPTS, IDS
    )
    cam = LayerGradCam(alexnet.model, alexnet.model.avgpool)
    for k, concept in enumerate(CONCEPTS):
        x, target = inputs.clone().requires_grad_(), concept[:, 0]
        assert close(maps["gradient"][:, k], Saliency(alexnet.model).attribute(x, target).amax(1))
        assert close(maps["input-x-gradient"][:, k], InputXGradient(alexnet.model).attribute(x, target).sum(1).detach())
        coarse = cam.attribute(x, target, relu_attributions=True).detach()
        expected = F.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
        assert close(maps["grad-cam"][:, k], expected)
    copy = torchvision.models.alexnet(num_classes=7).eval()
    copy.load_state_dict(alexnet.model.state_dict())
    for module in copy.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # Captum's hooks cannot stand it
    guided = GuidedBackprop(copy)
    for k, concept in enumerate(CONCEPTS):
        expected = guided.attribute(inputs.clone().requires_grad_(), concept[:, 0]).abs().amax(1)
        assert close(maps["guided-backprop"][:, k], expected)


class Rectified(nn.Module):
    """The same rectifier in six spellings; the loss is the sum of squares through negative weights."""

    def __init__(self, spelling):
        super().__init__()
        self.spelling = spelling

    def forward(self, x):
        y = self.spelling(x * 1.0).flatten(1)
        return torch.stack([(y * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum(1), y.sum(1)], 1)


def ignoring_the_result(x):
    F.relu_(x)
    return x


@pytest.mark.parametrize(
    "spelling",
    [
        F.relu,
        F.relu6,
        torch.relu,
        nn.ReLU(inplace=True),
        nn.ReLU6(inplace=True),
        ignoring_the_result,
        lambda x: x.relu(),
        lambda x: x.clone().relu_(),
        lambda x: F.leaky_relu(x, 0.0),
        lambda x: F.hardtanh(x, 0.0, 6.0),
    ],
)
def test_every_rectifier_is_guided(spelling):
    x = torch.tensor([1.0, 2.0, -3.0, -4.0]).reshape(1, 1, 2, 2)
    model = Rectified(spelling)
    # Gradients at the rectifier's output are 1, -1, 1, -1: the negative ones stop; inputs 3 and 4 are switched off.
    assert guided_maps(model, x, [torch.tensor([[0]])]).flatten().tolist() == [1, 0, 0, 0]
    maps, logits = gradient_maps(model, x, [torch.tensor([[0]])], ["gradient"])
    assert maps["gradient"].flatten().tolist() == [1, 1, 0, 0]
    assert logits.equal(model(x))


def test_captums_guided_backprop_leaves_relu6_alone():
    """Why ours is not Captum's: on ReLU6, as in EfficientNet-Lite, Captum returns the plain gradient."""
    x = torch.tensor([1.0, 2.0, -3.0, -4.0]).reshape(1, 1, 2, 2).requires_grad_()
    theirs = GuidedBackprop(Rectified(nn.ReLU6())).attribute(x, 0)
    assert theirs.flatten().tolist() == [1, -1, 0, 0]


def test_guided_backprop_without_rectifier_is_refused():
    with pytest.raises(InvalidInputError, match="no rectifier"):
        guided_maps(Rectified(torch.tanh), torch.zeros(1, 1, 2, 2), [torch.tensor([[0]])])
    with GuidedRectifiers() as mode:
        F.relu(torch.zeros(1))
    assert mode.count == 0  # nothing with a gradient


def test_grad_cam_without_feature_map_is_refused():
    with pytest.raises(InvalidInputError, match="Grad-CAM"):
        gradient_maps(Rectified(torch.tanh), torch.zeros(1, 1, 2, 2), [torch.tensor([[0]])], ["grad-cam"])
