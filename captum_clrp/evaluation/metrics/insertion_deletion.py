"""Insertion and deletion (Petsiuk et al. 2018), and deletion by the map of one class while another class is watched.

Pixels are replaced (or brought back) in the order of the map, a fixed number at a time, and the probability is read
after each step. The area under that curve is small for a good deletion and large for a good insertion. In the
contrastive form the map of class A rules the order and class B is watched as well: a map that belongs to A alone
leaves B unharmed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.base import PerImageMetric, average
from captum_clrp.evaluation.metrics.maps import as_map

__all__ = ["InsertionDeletion", "Scores", "area_under", "blurred", "curve", "insertion_deletion", "pixel_order"]

Model = Callable[[Tensor], Tensor]
STEPS = 16


def pixel_order(attribution: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Flat indices of all pixels, largest value first; pixels of equal value in random order.

    So a map that is all equal gives a random order, and reading order never decides.

    Args:
        attribution: ``(H, W)`` or ``(C, H, W)``; channels are summed.
        generator: Decides between equal values.
    """
    values = as_map(attribution).flatten().cpu()
    shuffled = torch.randperm(len(values), generator=generator)
    return shuffled[values[shuffled].argsort(descending=True, stable=True)]


def curve(
    model: Model, start: Tensor, end: Tensor, order: Tensor, classes: Sequence[int], steps: int = STEPS, batch: int = 16
) -> Tensor:
    """Probabilities on the way from one image to another.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, m)``.
        start: ``(C, H, W)``.
        end: ``(C, H, W)``.
        order: Flat pixel indices, the first to be replaced first.
        classes: The classes that are watched.
        steps: Number of equal steps (equal up to rounding to whole pixels).
        batch: Images that the model takes at once.

    Returns:
        ``(steps + 1, len(classes))``, float64: before the first, ... after the last step.

    Raises:
        InvalidInputError: if there is no step or ``order`` does not hold each pixel.
    """
    if steps < 1 or len(order) != start[0].numel():
        raise InvalidInputError(
            f"{len(order)} pixels in {steps} steps do not take an image of shape {tuple(start.shape)} to another one; "
            "give each pixel once, and at least one step"
        )
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.reshape(start.shape[1:]).to(start.device)
    counts = [round(k * len(order) / steps) for k in range(steps + 1)]
    chosen = torch.tensor(list(classes), device=start.device)
    rows = []
    with torch.no_grad():
        for first in range(0, len(counts), batch):
            images = torch.stack([torch.where(rank < n, end, start) for n in counts[first : first + batch]])
            rows.append(model(images).double().softmax(1)[:, chosen])
    return torch.cat(rows)


def area_under(values: Tensor) -> Tensor:
    """Area under curves sampled at equal distances on [0, 1] (trapezoids); ``(steps + 1, ...)`` to ``(...)``.

    Example::

        >>> area_under(torch.tensor([1.0, 0.5, 0.0]))
        tensor(0.5000)
    """
    return (values[:-1] + values[1:]).mean(0) / 2


def blurred(image: Tensor, sigma: float = 5.0) -> Tensor:
    """The image after a Gaussian blur of ``sigma`` pixels, cut at 4 sigma or the image's size; ``(C, H, W)``."""
    radii = [min(round(4 * sigma), int(side) - 1) for side in image.shape[:0:-1]]  # across, then down
    return gaussian_blur(image, [2 * radius + 1 for radius in radii], [sigma, sigma])


class Scores(NamedTuple):
    """What was measured on one image; curves are ``(steps + 1,)``.

    Attributes:
        deletion: Probability of the class while its pixels go.
        insertion: Probability of the class while its pixels come back.
        bystander: Probability of the other class while the pixels of the class go; NaN without another class.
    """

    deletion: Tensor
    insertion: Tensor
    bystander: Tensor

    def areas(self) -> tuple[float, float, float]:
        """Areas under the three curves."""
        return tuple(float(area_under(c)) for c in self)  # type: ignore[return-value]


def insertion_deletion(
    model: Model,
    image: Tensor,
    label: int,
    attribution: Tensor,
    baseline: Tensor,
    *,
    other: int | None = None,
    start: Tensor | None = None,
    steps: int = STEPS,
    batch: int = 16,
    generator: torch.Generator | None = None,
) -> Scores:
    """Insertion and deletion with one map.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, m)``.
        image: ``(C, H, W)``, as the model takes it.
        label: The class that the map explains.
        attribution: ``(H, W)`` or ``(C, H, W)``; channels are summed, and signed values ranked as they are.
        baseline: What deleted pixels become, ``(C, H, W)`` or one value per channel: the mean image, say.
        other: Another class, watched while pixels are deleted with the map of ``label``.
        start: What insertion starts from, shaped as ``image``. Default: the image, blurred.
        steps: Number of steps. Default: 16.
        batch: Images that the model takes at once.
        generator: Decides between pixels of equal value.

    Returns:
        The curves.

    Raises:
        InvalidInputError: for a baseline that does not fit, no steps, or a map with NaN.
    """
    try:
        gone = baseline.to(image).expand_as(image)
    except RuntimeError:
        raise InvalidInputError(
            f"a baseline of shape {tuple(baseline.shape)} does not fit an image of shape {tuple(image.shape)}"
        ) from None
    order = pixel_order(attribution, generator)
    watched = [label] if other is None else [label, other]
    deletion = curve(model, image, gone, order, watched, steps, batch)
    insertion = curve(model, blurred(image) if start is None else start, image, order, [label], steps, batch)
    bystander = deletion[:, 1] if other is not None else torch.full_like(deletion[:, 0], torch.nan)
    return Scores(deletion[:, 0], insertion[:, 0], bystander)


class InsertionDeletion(PerImageMetric):
    """Mean areas under the curves of :func:`insertion_deletion`.

    Args:
        baseline: What deleted pixels become.
        steps: Number of steps. Default: 16.
        seed: Of the order of pixels with equal values.
        average: ``"images"`` or ``"classes"``.
    """

    def __init__(
        self, baseline: Tensor, steps: int = STEPS, *, seed: int = 0, average: str = "images", **options: Any
    ) -> None:
        super().__init__(average=average, **options)
        self.baseline = baseline
        self.steps = steps
        self.seed = seed

    def update(self, model: Model, images: Tensor, labels: Tensor, maps: Tensor, others: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            model: From ``(N, C, H, W)`` to logits ``(N, m)``.
            images: ``(N, C, H, W)``.
            labels: ``(N,)``, the explained classes.
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
            others: ``(N,)``, for each image another class to watch.
        """
        rows = []
        for i, (image, label, heat) in enumerate(zip(images, labels, maps, strict=True)):
            scores = insertion_deletion(
                model,
                image,
                int(label),
                heat,
                self.baseline,
                other=None if others is None else int(others[i]),
                steps=self.steps,
                generator=torch.Generator().manual_seed(self.seed),
            )
            rows.append(scores.areas())
        self.keep(rows, labels)

    def compute(self) -> dict[str, Tensor]:
        """``deletion`` (low is good), ``insertion`` (high is good) and ``bystander`` (high is good), each a scalar."""
        values, labels = self.per_image()
        if not len(values):
            values = values.new_zeros(0, 3)
        deletion, insertion, bystander = average(values, labels, self.average)
        return {"deletion": deletion, "insertion": insertion, "bystander": bystander}
