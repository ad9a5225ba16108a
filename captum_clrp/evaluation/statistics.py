"""Means with bootstrap intervals, where images are drawn with all that was measured on them; and a test of signs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Average = Literal["images", "classes"]
"""What a mean is taken over."""
DRAWS = 1000
_CHUNK = 50
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Means:
    """Means of Q quantities.

    Attributes:
        mean: ``(Q,)``.
        draws: ``(B, Q)``, the means of B bootstrap samples, the same samples for all quantities.
    """

    mean: Array
    draws: Array

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Lower and upper ends of the percentile intervals, each ``(Q,)``."""
        return _percentiles(self.draws, level)

    def difference(self, first: int, second: int, level: float = 0.95) -> tuple[float, float, float]:
        """Quantity ``first`` minus quantity ``second`` on the same images, with its interval."""
        low, high = _percentiles((self.draws[:, first] - self.draws[:, second])[:, None], level)
        return float(self.mean[first] - self.mean[second]), float(low[0]), float(high[0])


def _percentiles(draws: Array, level: float) -> tuple[Array, Array]:
    tail = (1 - level) / 2
    with np.errstate(all="ignore"):
        low, high = (
            np.nanquantile(draws, [tail, 1 - tail], axis=0) if len(draws) else np.full((2, draws.shape[1]), np.nan)
        )
    return low, high


def _of_images(values: Array, images: NDArray[np.int64], count: int) -> Array:
    """The mean over each image's rows, ``(count, Q)``."""
    sums, counts = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
    np.add.at(sums, images, np.nan_to_num(values))
    np.add.at(counts, images, ~np.isnan(values))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def bootstrap(
    values: Array,
    images: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    over: Average = "images",
    draws: int = DRAWS,
    seed: int = 0,
) -> Means:
    """Means and bootstrap samples of them.

    Args:
        values: ``(n, Q)``, a row for each explained class of each image; NaN where a quantity was not measured.
        images: ``(n,)``, the image of each row, numbered from 0 without gaps; whole images are drawn.
        labels: ``(n,)``, the class of each row.
        over: ``"images"``: mean over images of the mean over an image's rows; ``"classes"``: mean over classes of the mean
            over a class's rows.
        draws: Number of bootstrap samples.
        seed: Seed of the drawing.

    Returns:
        Means and samples; NaN where nothing was measured.
    """
    count = int(images.max()) + 1 if len(images) else 0
    if over == "images" and count:
        values, images, labels = _of_images(values, images, count), np.arange(count), np.zeros(count, dtype=np.int64)
    rng = np.random.default_rng(seed)
    measured = ~np.isnan(values)
    filled = np.where(measured, values, 0.0)
    _, group = np.unique(labels if over == "classes" else np.zeros_like(labels), return_inverse=True)
    order = np.argsort(group, kind="stable")
    filled, measured, rows = filled[order], measured[order].astype(np.float64), images[order]
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def means(weights: Array) -> Array:
        """Weights of rows ``(n,)`` to means ``(Q,)``."""
        sums = np.add.reduceat(weights[:, None] * filled, starts, axis=0)
        counts = np.add.reduceat(weights[:, None] * measured, starts, axis=0)
        of_class = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
        present = ~np.isnan(of_class)
        total = np.where(present, of_class, 0.0).sum(0)
        return np.divide(total, present.sum(0), out=np.full_like(total, np.nan), where=present.any(0))

    if not count:
        return Means(np.full(values.shape[1], np.nan), np.full((0, values.shape[1]), np.nan))
    drawn = []
    for first in range(0, draws, _CHUNK):
        weights = rng.multinomial(count, np.full(count, 1 / count), size=min(_CHUNK, draws - first))
        drawn += [means(w[rows].astype(np.float64)) for w in weights]
    return Means(means(np.ones(len(values))), np.array(drawn).reshape(len(drawn), values.shape[1]))


def sign_flip_test(differences: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> float:
    """One-sided p-value of the hypothesis that differences are as often above 0 as below (permutation of signs).

    Images are the units, because the regions of one image are not independent. All signs are tried where there
    are no more than ``draws`` patterns (up to 13 images).

    Args:
        differences: One for each image; NaN is left out.
        draws: How many patterns are drawn where there are more.
        seed: Seed of the drawing.

    Returns:
        The share of sign patterns with a mean at least as large as observed; NaN without differences.

    Example::

        >>> sign_flip_test([0.1, 0.2, 0.3])  # of 8 patterns only the observed one reaches 0.2
        0.125
    """
    values = [d for d in differences if not math.isnan(d)]
    if not values:
        return math.nan
    if len(values) == 1:  # for which scipy has no test
        return 0.5 if values[0] > 0 else 1.0
    tested = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=draws,
        random_state=np.random.default_rng(seed),
    )
    return float(tested.pvalue)
