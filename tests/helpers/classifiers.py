"""A classifier for commands and pages, quick to load and to explain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torchvision import transforms

from captum_clrp.classifiers import Classifier


def tiny_classifier(names: Sequence[str]) -> Classifier:
    """One of 16 x 16 pixels, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, len(names))
        ).eval()
    prepare = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16), transforms.ToTensor()])
    return Classifier("tiny", model, prepare, (0.5,) * 3, (0.25,) * 3, names, "random")
