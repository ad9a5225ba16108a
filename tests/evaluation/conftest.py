"""What the tests of the evaluation share: a tiny network with a known weakness for red, and a folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import shaped
from PIL import Image
from torch import Tensor, nn

pytest.importorskip("torchmetrics")

from captum_clrp.classifiers import Classifier
from captum_clrp.evaluation import Geometry, ImageFolder, Sample, Source
from captum_clrp.evaluation.sources import Explained

SIZE = 24
CLASSES = ("red", "green", "blue")


class ColourCounter(nn.Module):
    """Logit k is 10 times the mean of channel k where it exceeds 0.5; an ordinary convolutional network otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            self.conv.bias.fill_(-0.5)
            self.out.weight.copy_(20 * torch.eye(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(torch.relu(self.conv(x))).flatten(1))


class Deep(nn.Module):
    """A small network of two convolutions with random weights."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def network(model: nn.Module, size: int = SIZE, names: Sequence[str] = CLASSES) -> Classifier:
    return Classifier("tiny", model.eval(), Geometry(size, (size, size)), (0.0,) * 3, (1.0,) * 3, names, "by hand")


@pytest.fixture
def counter() -> Classifier:
    return network(ColourCounter())


@pytest.fixture
def deep() -> Classifier:
    torch.manual_seed(3)
    return network(Deep())


def picture(rng: np.random.Generator, label: int, width: int = 40, height: int = 30) -> Image.Image:
    """Noise with a square of the class's colour."""
    pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    pixels[8:20, 12:26, label] = 250
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures named by class index, four of each class."""
    root = tmp_path / "pictures"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        picture(rng, i % 3).save(root / f"{i % 3}_{i:02d}.png")
    return root


class Squares(Source):
    """Samples with a square of the class's colour, and the square as its place; every third one shows two classes."""

    name = "squares"
    description = ""

    def __init__(self, count: int = 10, size: int = SIZE) -> None:
        self.ids = [f"square {i}" for i in range(count)]
        self.size = size

    def sample(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(0, 90, (3, self.size, self.size), generator=generator, dtype=torch.uint8)
        explained = []
        for k in range(2 if index % 3 == 0 else 1):
            label = (index + k) % 3
            mask = torch.zeros(self.size, self.size, dtype=torch.bool)
            mask[4 + 10 * k : 12 + 10 * k, 3 + index : 9 + index] = True
            pixels[label][mask] = 250
            explained.append(Explained(label, CLASSES[label], mask))
        return Sample(self.ids[index], pixels, tuple(explained))


@pytest.fixture
def samples() -> list[Sample]:
    """Three pictures, each with a square of its class's colour, as the tiny networks see them."""
    rng = np.random.default_rng(0)
    pixels = [torch.from_numpy(np.array(picture(rng, label, SIZE, SIZE))).permute(2, 0, 1) for label in range(3)]
    return [Sample(f"{k}", x.contiguous(), (Explained(k, CLASSES[k]),)) for k, x in enumerate(pixels)]


@pytest.fixture
def many(tmp_path):
    for i in range(14):
        shaped.noise(tmp_path / f"{i % 5}_{i:02d}.png", 40, 30, i)
    return ImageFolder(tmp_path)
