"""Whole networks and pictures that several test files explain, and how two maps are compared."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
LOW, HIGH = -MEAN / STD, (1 - MEAN) / STD


def distance(actual: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).norm() / expected.norm())


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Equal but for float64 rounding, in another order of sums at most."""
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=tolerance, atol=tolerance)


def row(*values: float) -> Tensor:
    """One example of a few features."""
    return torch.tensor([values], dtype=torch.float64)


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """Normalised pictures (count, 3, size, size) with structures large and small, within LOW and HIGH."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    fine = torch.rand(count, 3, size, size, generator=generator)
    return ((0.7 * smooth + 0.3 * fine).clamp(0, 1) - MEAN) / STD


def randomised(model: nn.Module, size: int = 64, seed: int = 0) -> nn.Module:
    """Biases, affine weights and batch statistics such as training leaves behind; zeros and ones hide leaks."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            elif parameter.dim() == 1:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average
            norm.train()
        if norms:
            model(pictures(8, size, seed=1))
    return model.eval()


def torchvision_network(name: str, size: int = 64, classes: int = 1000) -> nn.Module:
    """A network of torchvision with `randomised` weights, in evaluation mode; the same at every call."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some constructors say that their initialisation will change
        torch.manual_seed(0)
        options = {"init_weights": False} if name.startswith("vgg") else {}  # PyTorch's own: faster
        model = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
        return randomised(model.eval(), size)


class SmallNet(nn.Module):
    """Two convolutions, pooling of both kinds, batch norm, a functional sum in place and two linear layers."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.fc1 = nn.Linear(6, 8)
        self.fc2 = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.conv1(x))))
        y = self.conv2(x)
        y += x
        y = torch.relu(y).mean((2, 3))
        return self.fc2(torch.relu(self.fc1(y)))


def small_net(classes: int = 5, dtype: torch.dtype = torch.float32) -> nn.Module:
    """`SmallNet` with `randomised` weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomised(SmallNet(classes), size=12).to(dtype)


def small_pictures(count: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """Input of `small_net`, (count, 3, 12, 12)."""
    return pictures(count, 12, seed=2).to(dtype)


def two_layer_net(bias: float = 0.0) -> nn.Sequential:
    """For x = (1, 1) the hidden activations are (1, 2) and the scores (1, 0, 2) + bias."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 3)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        model[2].weight.copy_(torch.tensor([[3.0, -1.0], [2.0, -1.0], [0.0, 1.0]]))
        model[2].bias.fill_(bias)
    return model


BOX = (0.0, 4.0)
"""With this domain and no negative weight in the first layer z^beta shares in proportion to x w."""


class Segmenter(nn.Module):
    """Scores (N, 4, 5, 5) for pictures (N, 3, 10, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


def segmenter() -> nn.Module:
    return Segmenter().double().eval()


def zennit_map(composite: Any, model: nn.Module, x: Tensor, target: int) -> Tensor:
    """Relevance for a class by a composite of Zennit."""
    model, x = copy.deepcopy(model), x.clone().requires_grad_()
    with composite.context(model) as prepared:
        output = prepared(x)
        initial = torch.zeros_like(output)
        initial[:, target] = output[:, target].detach()
        (relevance,) = torch.autograd.grad(output, x, initial)
    return relevance
