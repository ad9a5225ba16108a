"""A classifier small enough that the command can be tried many times, and a few pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.classifiers import tiny_classifier
from PIL import Image

from captum_clrp.classifiers import Classifier
from captum_clrp.cli import explaining

NAMES = ("zebra", "African elephant", "tabby cat", "crane", "crane", "Cardigan", "cardigan", "cup")


@pytest.fixture
def tiny() -> Classifier:
    """Eight classes, 16 x 16 pixels, random weights."""
    return tiny_classifier(NAMES)


@pytest.fixture
def with_tiny(tiny: Classifier, monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """The command loads the tiny classifier, whatever it is asked for."""
    monkeypatch.setattr(explaining, "asked_classifier", lambda *_: tiny)
    return tiny


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A colourful PNG of 24 x 20 pixels, outside the current folder."""
    path = tmp_path / "holiday.png"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
