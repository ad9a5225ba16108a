"""Insertion and deletion (Petsiuk et al. 2018), and deletion by the map of one class while another class is watched.

Pixels are replaced (or brought back) in the order of the map, a fixed number at a time, and the probability is read
after each step. The area under that curve is small for a good deletion and large for a good insertion. In the
contrastive form the map of class A rules the order and class B is watched as well: a map that belongs to A alone
leaves B unharmed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError, check_choice
from captum_clrp.evaluation.methods import image_seed
from captum_clrp.evaluation.metrics.base import Curve, PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Case, Measured, over_cases
from captum_clrp.evaluation.metrics.fills import FILL, Fill, Model, Replaced, blurred, fitting, stand_in
from captum_clrp.evaluation.metrics.maps import as_map
from captum_clrp.evaluation.registry import Option
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import Average

STEPS = 16
MOST_STEPS = 1000


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
    model: Model,
    start: Tensor,
    end: Tensor | Replaced,
    order: Tensor,
    classes: Sequence[int],
    steps: int = STEPS,
    batch: int = 16,
) -> Tensor:
    """Probabilities on the way from one image to another.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, m)``.
        start: ``(C, H, W)``.
        end: ``(C, H, W)``, or a function from the pixels that were replaced, ``(H, W)``, to the image by then.
        order: Flat pixel indices, the first to be replaced first.
        classes: The classes that are watched.
        steps: Number of equal steps (equal up to rounding to whole pixels).
        batch: Images that the model takes at once.

    Returns:
        ``(steps + 1, len(classes))``, float64: before the first, ... after the last step.

    Raises:
        InvalidInputError: if there is no step or ``order`` does not hold each pixel.
    """
    return _probabilities(model, _stations(start, end, order, steps), batch)[:, list(classes)]


def _stations(start: Tensor, end: Tensor | Replaced, order: Tensor, steps: int) -> Iterator[Tensor]:
    """The images on the way from one to another, both included; arguments as for :func:`curve`."""
    if steps < 1 or len(order) != start[0].numel():
        raise InvalidInputError(
            f"{len(order)} pixels in {steps} steps do not take an image of shape {tuple(start.shape)} to another one; "
            "give each pixel once, and at least one step"
        )
    replaced: Replaced = end if callable(end) else lambda at: torch.where(at, end, start)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.reshape(start.shape[1:]).to(start.device)
    for k in range(steps + 1):
        yield replaced(rank < round(k * len(order) / steps))


def _probabilities(model: Model, images: Iterator[Tensor], batch: int) -> Tensor:
    """Of every class, ``(N, m)``, float64; a batch of the images is there at a time."""
    rows = []
    with torch.no_grad():
        while some := list(islice(images, batch)):
            rows.append(model(torch.stack(some)).double().softmax(1))
    return torch.cat(rows)


def area_under(values: Tensor) -> Tensor:
    """Area under curves sampled at equal distances on [0, 1] (trapezoids); ``(steps + 1, ...)`` to ``(...)``.

    Example::

        >>> area_under(torch.tensor([1.0, 0.5, 0.0]))
        tensor(0.5000)
    """
    return torch.trapezoid(values, dx=1 / (len(values) - 1), dim=0)


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
    baseline: Tensor | Replaced,
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
        baseline: What deleted pixels become, ``(C, H, W)`` or one value per channel: the mean image, say. Or a function
            from missing pixels, ``(H, W)``, to the image without them, for both curves.
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
    order = pixel_order(attribution, generator)
    watched = [label] if other is None else [label, other]
    if isinstance(baseline, Tensor):
        gone: Tensor | Replaced = fitting(baseline, image, "baseline")
        back: Tensor | Replaced = image
    else:
        without = baseline
        gone, back = without, lambda at: without(~at)
    begin = blurred(image) if start is None else start
    both = chain(_stations(image, gone, order, steps), _stations(begin, back, order, steps))
    of_watched = _probabilities(model, both, batch)[:, watched]
    deletion, insertion = of_watched.split(steps + 1)
    bystander = deletion[:, 1] if other is not None else torch.full_like(deletion[:, 0], torch.nan)
    return Scores(deletion[:, 0], insertion[:, 0], bystander)


class InsertionDeletion(PerImageMetric):
    """Mean areas under the curves of :func:`insertion_deletion`: ``deletion`` (low is good), ``insertion``, ``bystander``.

    In a run, deleted pixels become the mean image, and the bystander is the next class that the image shows, else the
    strongest other class.

    Args:
        baseline: What deleted pixels become, ``(C, H, W)``; needed in ``update``.
        steps: Number of steps. Default: 16.
        seed: Seed of the order of pixels with equal values.
        fill: In a run, what missing pixels become: ``"mean"`` (default), the mean image, while insertion starts from a
            blurred image; ``"blur"``, the blurred image for both; ``"impute"``, noisy linear imputation for both (ROAD,
            Rong et al. 2022).
        average: ``"images"`` or ``"classes"``.

    Raises:
        InvalidInputError: for steps that are not from 1 to 1000, an unknown ``fill``, and in ``update`` without a baseline.
    """

    name = "insertion-deletion"
    title = "Insertion and deletion"
    asks = "probability while pixels come back or go, of the class and of another one"
    conventions = (
        "Deleted pixels become the mean image, insertion starts from a blurred image, unless --fill says "
        "otherwise. Pixels of equal value are taken "
        "in random order. The bystander is the next class that the image shows, else the strongest other class."
    )
    quantities = (
        Quantity("deletion", "area while pixels of the class go", "low"),
        Quantity("insertion", "area while they come back"),
        Quantity("bystander", "area of another class while pixels of the class go"),
        Quantity("contrast", "bystander minus deletion"),
    )
    columns = Scores._fields
    headline = "contrast"
    options = (Option("steps", "steps of a curve", int, "N"), FILL)
    needs_mean = True

    def __init__(
        self,
        baseline: Tensor | None = None,
        steps: int = STEPS,
        *,
        seed: int = 0,
        fill: Fill = "mean",
        average: Average = "images",
        **options: Any,
    ) -> None:
        super().__init__(average=average, **options)
        check_choice("fill", fill, Fill)
        self.fill = fill
        if not 1 <= steps <= MOST_STEPS:
            raise InvalidInputError(f"{steps} steps make no curve; give from 1 to {MOST_STEPS}")
        self.baseline = baseline
        self.steps = steps
        self.seed = seed
        x = [k / steps for k in range(steps + 1)]
        self.curves = tuple(
            Curve(name, title, "share of the pixels", x, itemgetter(f"{name}_curve"))
            for name, title in (
                ("deletion", "probability while pixels of the class go"),
                ("insertion", "probability while pixels of the class come back"),
                ("bystander", "probability of another class while pixels of the class go"),
            )
        )

    def update(self, model: Model, images: Tensor, labels: Tensor, maps: Tensor, others: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            model: From ``(N, C, H, W)`` to logits ``(N, m)``.
            images: ``(N, C, H, W)``.
            labels: ``(N,)``, the explained classes.
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
            others: ``(N,)``, for each image another class to watch.
        """
        if self.baseline is None:
            raise InvalidInputError(
                "deleted pixels must become something; make the metric with a baseline, or mean image"
            )
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

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs = bench.inputs(samples)

        def score(case: Case, heat: Tensor) -> Mapping[str, Any]:
            label = case.explained.label
            scores = insertion_deletion(
                bench.model,
                inputs[case.position],
                label,
                heat,
                stand_in(self.fill, inputs[case.position], bench, case.sample.id),
                other=_bystander(case, bench.said_of(samples)[case.position]),
                steps=self.steps,
                batch=bench.batch,
                generator=torch.Generator().manual_seed(
                    image_seed(bench.seed, "ties", case.method, case.sample.id, label)
                ),
            )
            return _values(scores)

        return over_cases(bench, samples, score)


def _values(scores: Scores) -> dict[str, Any]:
    deletion, insertion, bystander = scores.areas()
    curves = {f"{name}_curve": [round(v, 6) for v in curve.tolist()] for name, curve in scores._asdict().items()}
    areas = {"deletion": deletion, "insertion": insertion, "bystander": bystander}
    return {**areas, "contrast": bystander - deletion, **curves}


def _bystander(case: Case, logits: Tensor) -> int:
    """The next class that the image shows, or the strongest one that it does not show."""
    labels = [e.label for e in case.sample.explained]
    following = [label for label in labels[case.k + 1 :] + labels[: case.k] if label != labels[case.k]]
    if following:
        return following[0]
    return next(int(c) for c in logits.argsort(descending=True) if int(c) != labels[case.k])
