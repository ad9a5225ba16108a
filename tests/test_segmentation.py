"""Dense outputs: a pixel of a segmentation by its target, a region through ``initial_relevance``; both conserve."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta, check_conservation


class UNet(nn.Module):
    """Two levels, a transposed convolution and a skip connection."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.second = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True)
        )
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = nn.Sequential(
            nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.first(x)
        return self.last(torch.cat([shallow, self.up(self.second(shallow))], 1))


def fcn() -> nn.Module:
    return torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=5
    )


def deeplab() -> nn.Module:
    return torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )


Network = tuple[nn.Module, tuple[object, ...], Callable[[object], Tensor]]


@pytest.fixture(params=["fcn", "deeplab", "unet"])
def network(request: pytest.FixtureRequest) -> Network:
    """Model, what its targets begin with, and how its dense output is found."""
    torch.manual_seed(0)
    if request.param == "unet":
        return UNet().eval(), (), lambda output: output  # type: ignore[return-value]
    model = fcn() if request.param == "fcn" else deeplab()
    return model.eval(), ("out",), lambda output: output["out"]  # type: ignore[index]


def test_a_pixel_is_explained_and_conserved(network: Network) -> None:
    model, prefix, dense = network
    x = torch.rand(1, 3, 64, 64)
    target = (*prefix, 2, 30, 40)
    relevance, delta = LRPZBeta(model, conserve=True).attribute(
        x, target, return_convergence_delta=True
    )
    score = dense(model(x))[0, 2, 30, 40]
    assert relevance.shape == x.shape
    torch.testing.assert_close(relevance.sum(), score.detach(), rtol=1e-3, atol=1e-6)
    assert abs(float(delta)) <= 1e-3 * abs(float(score)) + 1e-6
    report = check_conservation(model, x, target)
    assert abs(report.unaccounted) <= 1e-3 * abs(report.score)


def test_a_region_is_the_sum_of_its_pixels(network: Network) -> None:
    """Relevance is linear in what it starts from; a region is a mask through ``initial_relevance``."""
    model, prefix, dense = network
    x = torch.rand(1, 3, 64, 64)
    pixels = [(1, 10, 10), (1, 10, 11)]

    def region(output: object) -> object:
        scores = dense(output)
        mask = torch.zeros_like(scores)
        mask[:, 1, 10, 10:12] = 1
        return {"out": mask * scores} if prefix else mask * scores

    lrp = LRPZBeta(model)
    whole = lrp.attribute(x, initial_relevance=region)
    parts = sum(lrp.attribute(x, (*prefix, *pixel)) for pixel in pixels)
    torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))


def test_contrasts_of_a_pixel_compare_classes_at_that_pixel(network: Network) -> None:
    model, prefix, _ = network
    x = torch.rand(1, 3, 64, 64)
    for method in (ContrastiveLRP1(model, conserve=True), ContrastiveLRP2(model, conserve=True)):
        signed, delta = method.attribute(
            x, (*prefix, 2, 30, 40), return_convergence_delta=True, relu_attributions=False
        )
        assert signed.isfinite().all()
        assert signed.abs().max() > 0
        assert abs(float(delta)) <= 1e-3 * float(signed.abs().sum()) + 1e-6
