"""Does the map change when the image hardly does? Sensitivity to small noise (Yeh et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods.base import image_seed
from captum_clrp.evaluation.metrics.base import PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Case, Measured, concepts_of, over_cases
from captum_clrp.evaluation.metrics.maps import as_pair
from captum_clrp.evaluation.registry import Option
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import Average

RADIUS = 0.05
"""Largest noise, as a share of the range of pixel values."""
SAMPLES = 8


def relative_change(before: Tensor, after: Tensor) -> float:
    """Size of the change of a map in units of the map: ``norm(after - before) / norm(before)``.

    Args:
        before: ``(H, W)`` or ``(C, H, W)``; channels are summed.
        after: Likewise, of the noisy image.

    Returns:
        A number of 0 or more; 0 where neither map holds anything, NaN where only the first holds nothing.

    Raises:
        InvalidInputError: for maps of different sizes, or a map with NaN.

    Example::

        >>> round(relative_change(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]])), 9)
        0.2
    """
    one, other = as_pair(before, after)
    scale = one.abs().max()
    if not scale > 0:
        return math.nan if bool(other.any()) else 0.0
    return float((other / scale - one / scale).norm() / (one / scale).norm())


def noisy(image: Tensor, low: Tensor, high: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """The image with uniform noise, cut to what pixels can be.

    Args:
        image: ``(C, H, W)``, as the model takes it.
        low: Lowest value of each channel, ``(C, 1, 1)``.
        high: Highest value of each channel, ``(C, 1, 1)``.
        radius: Largest noise, as a share of ``high - low``.
        generator: Generator of the noise, on the CPU.

    Raises:
        InvalidInputError: for a ``radius`` that is not between 0 and 1.
    """
    _checked_radius(radius)
    drawn = 2 * torch.rand(image.shape, generator=generator) - 1
    return torch.clamp(image + radius * (high - low) * drawn.to(image), low, high)


class Sensitivity(PerImageMetric):
    r"""Largest and mean change of a map, relative to its length (Frobenius norm), over noisy copies of its image; low is good.

    ``max`` is what ``captum.metrics.sensitivity_max`` and Quantus' Max-Sensitivity give for the map ``(H, W)`` on the same
    noisy images. Three things can make theirs another number:

    - Channels are summed here first; both others take what the method returns. Where three channels agree and their changes
      have nothing to do with each other, theirs is :math:`\sqrt{3}` times as large.
    - Noise is a share of each channel's range here, cut to what pixels can be; there it is in units of the input, the same
      for each channel, and not cut.
    - Captum (0.9) hands a tuple to the explaining function. A function that returns a tensor for it, and not a tuple as
      Captum's own methods do, has images, channels and copies mixed up: :math:`\sqrt{3}` too much for one image with three
      noisy copies and one channel, or with one copy and three channels of one size; elsewhere an error.

    Args:
        samples: Noisy copies of each image. Default: 8.
        radius: Largest noise, as a share of the range of pixel values. Default: 0.05.
        average: ``"images"`` or ``"classes"``.

    Raises:
        InvalidInputError: for fewer than one copy, or a radius that is not above 0 and at most 1.
    """

    name = "sensitivity"
    title = "Sensitivity to small noise"
    asks = "does the map change when the image hardly does?"
    conventions = (
        "Uniform noise, cut to what pixels can be; the class stays. Changes are in units of the map's own size. Methods that "
        "do not look at the image score 0; a map of zeros that changes is left out."
    )
    quantities = (Quantity("max", "largest relative change", "low"), Quantity("mean", "mean relative change", "low"))
    options = (
        Option("samples", "noisy copies of each image", int, "N"),
        Option("radius", "largest noise, as a share of the range of pixels", float, "SHARE"),
    )

    def __init__(
        self, samples: int = SAMPLES, radius: float = RADIUS, *, average: Average = "images", **options: Any
    ) -> None:
        super().__init__(average=average, **options)
        if samples < 1:
            raise InvalidInputError(f"samples={samples} are no copies; give at least 1")
        self.samples = samples
        self.radius = _checked_radius(radius)

    def update(self, maps: Tensor, of_noisy: Tensor, labels: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
            of_noisy: ``(N, S, H, W)`` or ``(N, S, C, H, W)``, the maps of S noisy copies of each image.
            labels: ``(N,)``, the explained classes; needed for ``average="classes"``.
        """
        self.keep(
            [
                list(_summary([relative_change(m, other) for other in noisy_maps]).values())
                for m, noisy_maps in zip(maps, of_noisy, strict=True)
            ],
            labels,
        )

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs, ids = bench.inputs(samples), [sample.id for sample in samples]
        low, high = (bound[0] for bound in bench.network.bounds)
        concepts = concepts_of(samples)
        maps = bench.explain(samples)
        changes: dict[tuple[str, int, int], list[float]] = {}
        for copy in range(self.samples):
            seeds = [image_seed(bench.seed, "noise", id_, copy) for id_ in ids]
            noises = [
                noisy(image, low, high, self.radius, torch.Generator().manual_seed(seed))
                for image, seed in zip(inputs, seeds, strict=True)
            ]
            for method, of_noisy in bench.maps(torch.stack(noises), concepts, ids).items():
                for i, k in product(range(len(samples)), range(len(concepts))):
                    change = relative_change(maps[method][i, k], of_noisy[i, k])
                    changes.setdefault((method, i, k), []).append(change)

        def score(case: Case, heat: Tensor) -> Mapping[str, float]:
            return _summary(changes[case.method, case.position, case.k])

        return over_cases(bench, samples, score, maps)


def _summary(changes: Sequence[float]) -> dict[str, float]:
    return {"max": max(changes), "mean": sum(changes) / len(changes)}


def _checked_radius(radius: float) -> float:
    if not 0 < radius <= 1:
        raise InvalidInputError(
            f"radius={radius!r} is no share of the range of pixels; give a number above 0, at most 1"
        )
    return radius
