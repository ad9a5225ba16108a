"""Collages of handwritten digits: images with up to four objects whose places are known.

The digits are scikit-learn's (1797 images of 8x8 pixels, ten classes; they come with the package). The set is ordered by writer: the
first 1300 are for training, the others are held out. A collage is a canvas of 16x16 pixels with 2x2 cells; one to four cells hold
digits of different classes, each other cell is blank or holds clutter, a digit whose quarters are shuffled and turned.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

CLASSES = 10
DIGIT = 8  # pixels of a cell's side
SIZE = 2 * DIGIT  # pixels of the canvas's side
CELLS = 4  # row by row
BACKGROUND, INK = -1.0, 1.0  # range of the pixels
EMPTY = -1  # label of a cell without a digit
CLUTTER_SHARE = 0.7  # of the cells without a digit
TRAINING_DIGITS = 1300

Split = Literal["train", "held-out"]


@dataclass(frozen=True)
class Collages:
    """A batch of collages.

    Attributes:
        images: pixels in [-1, 1], -1 is the background; shape (N, 1, 16, 16).
        labels: class of the digit in each cell, row by row, -1 where there is none; shape (N, 4).
    """

    images: Tensor
    labels: Tensor

    @property
    def present(self) -> Tensor:
        """1.0 for each class that is in the image, else 0.0; shape (N, 10)."""
        there = torch.zeros(len(self.labels), CLASSES + 1)
        there.scatter_(1, self.labels.remainder(CLASSES + 1), 1.0)  # -1 becomes a column of its own
        return there[:, :CLASSES]


def draw(rng: np.random.Generator, count: int, split: Split, digits: int | None = None) -> Collages:
    """Draw collages.

    Args:
        rng: source of all chance.
        count: number of collages.
        split: whose digits, those for training or those held out.
        digits: number of digits in each collage, 1 to 4; ``None`` draws it for each collage.

    Returns:
        The collages. A digit is moved by up to one pixel in each direction; what leaves its cell is cut off.
    """
    pixels, members = _digits(split)
    numbers = rng.integers(1, CELLS + 1, count) if digits is None else np.full(count, digits)
    classes = rng.permuted(np.tile(np.arange(CLASSES), (count, 1)), axis=1)[:, :CELLS]
    labels = np.where(np.arange(CELLS) < numbers[:, None], classes, EMPTY)
    labels = rng.permuted(labels, axis=1)  # (N, 4)

    sizes = np.array([len(of_class) for of_class in members])
    wanted = np.where(labels == EMPTY, rng.integers(0, CLASSES, labels.shape), labels)  # clutter is made of any class
    chosen = (rng.random(labels.shape) * sizes[wanted]).astype(int)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    cells = pixels[np.concatenate(members)[offsets[wanted] + chosen]]  # (N, 4, 8, 8)

    is_digit = labels != EMPTY
    contents = np.zeros_like(cells)
    contents[is_digit] = _moved(cells[is_digit], rng)
    cluttered = ~is_digit & (rng.random(labels.shape) < CLUTTER_SHARE)
    contents[cluttered] = _shuffled(cells[cluttered], rng)

    canvas = contents.reshape(count, 2, 2, DIGIT, DIGIT).swapaxes(2, 3).reshape(count, 1, SIZE, SIZE)
    images = BACKGROUND + (INK - BACKGROUND) * canvas
    return Collages(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels))


@functools.cache
def _digits(split: Split) -> tuple[np.ndarray, list[np.ndarray]]:
    """All digits with ink from 0 to 1, shape (1797, 8, 8), and the indices of each class in the split."""
    data = load_digits()
    number = np.arange(len(data.target))
    inside = number < TRAINING_DIGITS if split == "train" else number >= TRAINING_DIGITS
    return data.images / 16.0, [number[inside & (data.target == c)] for c in range(CLASSES)]


def _moved(digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each digit moved by -1, 0 or 1 pixels in both directions; shape (M, 8, 8) as given."""
    padded = np.pad(digits, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (DIGIT, DIGIT), axis=(1, 2))  # (M, 3, 3, 8, 8)
    row, column = rng.integers(0, 3, (2, len(digits)))
    return windows[np.arange(len(digits)), row, column]


def _shuffled(digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The quarters of each digit in another order, each turned by a multiple of 90 degrees; shape (M, 8, 8) as given."""
    count, half = len(digits), DIGIT // 2
    quarters = digits.reshape(count, 2, half, 2, half).swapaxes(2, 3).reshape(count, CELLS, half, half)
    turned = np.stack([np.rot90(quarters, turns, axes=(2, 3)) for turns in range(4)], axis=2)  # (M, 4, turns, 4, 4)
    order = rng.permuted(np.tile(np.arange(CELLS), (count, 1)), axis=1)
    chosen = turned[np.arange(count)[:, None], order, rng.integers(0, 4, order.shape)]  # (M, 4, 4, 4)
    return chosen.reshape(count, 2, 2, half, half).swapaxes(2, 3).reshape(count, DIGIT, DIGIT)
