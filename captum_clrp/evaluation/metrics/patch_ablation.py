"""The paper's ablation study (section 5.2, table 1): how much does the class lose with the patch that matters most?

The 9x9 patch around the maximum of the map is replaced by the mean of the dataset's images at the same position (or
something else, see ``fill``), and the drop of the class's logit and probability is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError, check_choice
from captum_clrp.evaluation.metrics.base import PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Measured
from captum_clrp.evaluation.metrics.fills import FILL, Fill, Model, Replaced, fitting, stand_in
from captum_clrp.evaluation.metrics.maps import Point, as_map, first_peak
from captum_clrp.evaluation.registry import Option
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import Average

PATCH_SIZE = 9
"""Side of the patch in pixels, as in the paper."""

PATCH = Option("patch", "side in pixels", int, "SIDE", keyword="size")


class Drop(NamedTuple):
    """By how much the class fell; negative where it rose."""

    logit: float
    probability: float


def ablate_patch(image: Tensor, point: Point, mean_image: Tensor | Replaced, size: int = PATCH_SIZE) -> Tensor:
    """The image with the patch around a pixel replaced; at the border the patch is cut off.

    Args:
        image: ``(C, H, W)``, as the model takes it.
        point: Centre of the patch.
        mean_image: ``(C, H, W)`` in the same units (or broadcastable: one value per channel). Or a function from missing
            pixels, ``(H, W)``, to the image without them.
        size: Side of the patch, odd.

    Returns:
        A new tensor ``(C, H, W)``.

    Raises:
        InvalidInputError: if ``size`` is not odd and positive, or the mean image does not fit.

    Example::

        >>> ablate_patch(torch.ones(1, 3, 3), Point(0, 0), torch.zeros(1, 3, 3), size=3)[0]
        tensor([[0., 0., 1.],
                [0., 0., 1.],
                [1., 1., 1.]])
    """
    check_patch(size)
    half = size // 2
    rows, columns = (slice(max(0, middle - half), middle + half + 1) for middle in point)
    missing = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    missing[rows, columns] = True
    if not isinstance(mean_image, Tensor):
        return mean_image(missing)
    return torch.where(missing, fitting(mean_image, image, "mean image"), image)


def check_patch(size: int, bench: Bench | None = None) -> int:
    """The size of a patch, if it is one.

    Args:
        size: Side of the patch in pixels.
        bench: With the network whose input the patch must fit into.

    Raises:
        InvalidInputError: if it is not odd and positive, or larger than the network's input.
    """
    if size < 1 or size % 2 == 0:
        raise InvalidInputError(f"a patch of side {size} has no middle pixel; give an odd number, e.g. {PATCH_SIZE}")
    largest = min((bench and bench.network.geometry.crop) or (size,))
    if size > largest:
        raise InvalidInputError(
            f"a patch of {size} pixels is larger than the network's input of {largest}; give a smaller patch"
        )
    return size


def patch_drops(
    model: Model,
    image: Tensor,
    explained: Sequence[tuple[int, Tensor]],
    mean_image: Tensor | Replaced,
    size: int = PATCH_SIZE,
    batch: int = 16,
) -> list[Drop]:
    """Drops for several classes and maps of one image, which share the forward passes; see :func:`patch_drop`.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, m)``.
        image: ``(C, H, W)``, as the model takes it.
        explained: Pairs of a class and its map.
        mean_image: As for :func:`ablate_patch`.
        size: As for :func:`ablate_patch`.
        batch: Images that the model takes at once.

    Returns:
        One drop for each pair.
    """
    points = [first_peak(as_map(heat)) for _, heat in explained]
    distinct = list(dict.fromkeys(p for p in points if p is not None))
    images = [image, *(ablate_patch(image, p, mean_image, size) for p in distinct)]
    with torch.no_grad():
        logits = torch.cat([model(torch.stack(images[i : i + batch])) for i in range(0, len(images), batch)]).double()
    probabilities = logits.softmax(1)
    row_of = {point: row for row, point in enumerate(distinct, start=1)}
    drops = []
    for (label, _), point in zip(explained, points, strict=True):
        row = 0 if point is None else row_of[point]
        drops.append(Drop(*(float(p[0, label] - p[row, label]) for p in (logits, probabilities))))
    return drops


def patch_drop(
    model: Model, image: Tensor, label: int, attribution: Tensor, mean_image: Tensor | Replaced, size: int = PATCH_SIZE
) -> Drop:
    """Drop of a class when the patch at the maximum of its map is replaced.

    Of several pixels that share the maximum, the first in reading order is taken. A map that is all equal points
    nowhere: nothing is replaced and the drop is 0.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, m)``.
        image: ``(C, H, W)``, as the model takes it.
        label: The class.
        attribution: Its map, ``(H, W)`` or ``(C, H, W)``; channels are summed.
        mean_image: Mean of the dataset's images, ``(C, H, W)``, in the units of ``image``; or a function, as for
            :func:`ablate_patch`.
        size: Side of the patch.

    Raises:
        InvalidInputError: as :func:`ablate_patch`, or for a map with NaN.
    """
    return patch_drops(model, image, [(label, attribution)], mean_image, size)[0]


class PatchAblation(PerImageMetric):
    """Mean drop of logit and probability; conventions of :func:`patch_drop`.

    Args:
        mean_image: As for :func:`patch_drop`; see :func:`captum_clrp.evaluation.mean_image`. Needed in ``update``; a run
            finds it.
        size: Side of the patch. Default: 9.
        fill: In a run, what the patch becomes: ``"mean"`` (default, the paper), the mean image; ``"blur"``, the image,
            blurred; ``"impute"``, noisy linear imputation (ROAD, Rong et al. 2022).
        average: ``"images"`` (the paper) or ``"classes"``.

    Raises:
        InvalidInputError: for a size that is not odd and positive, an unknown ``fill``, and in ``update`` without a mean image.

    Example::

        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 2, bias=False))
        >>> model[1].weight.data = torch.tensor([[1.0] * 9, [0.0] * 9])
        >>> images, maps = torch.ones(1, 1, 3, 3), torch.eye(3)[None]
        >>> ablation = PatchAblation(torch.zeros(1, 3, 3), size=3)
        >>> ablation.update(model, images, torch.tensor([0]), maps)
        >>> ablation.compute()["logit"]  # 4 of 9 pixels around the first maximum are replaced
        tensor(4., dtype=torch.float64)
    """

    name = "ablation"
    title = "Patch ablation (paper, table 1)"
    asks = "drop of the class when the patch at the maximum is replaced (paper, table 1)"
    conventions = (
        "The patch around the maximum (the first in reading order of several) becomes the mean image, unless --fill says "
        "otherwise; at the border it is cut off. An all-equal map replaces nothing: its drop is 0."
    )
    quantities = (Quantity("logit", "drop of the logit"), Quantity("probability", "drop of the probability"))
    headline = "probability"
    options = (PATCH, FILL)
    needs_mean = True

    def __init__(
        self,
        mean_image: Tensor | None = None,
        size: int = PATCH_SIZE,
        *,
        fill: Fill = "mean",
        average: Average = "images",
        **options: Any,
    ) -> None:
        super().__init__(average=average, **options)
        self.mean_image = mean_image
        self.size = check_patch(size)
        check_choice("fill", fill, Fill)
        self.fill = fill

    def update(self, model: Model, images: Tensor, labels: Tensor, maps: Tensor) -> None:
        """Measure a batch.

        Args:
            model: From ``(N, C, H, W)`` to logits ``(N, m)``.
            images: ``(N, C, H, W)``, as the model takes them.
            labels: ``(N,)``, the explained classes.
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
        """
        if self.mean_image is None:
            raise InvalidInputError("the patch must become something; make the metric with the mean image of the data")
        rows = [
            patch_drop(model, image, int(label), heat, self.mean_image, self.size)
            for image, label, heat in zip(images, labels, maps, strict=True)
        ]
        self.keep(rows, labels)

    def check(self, bench: Bench) -> None:
        check_patch(self.size, bench)

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs = bench.inputs(samples)
        maps = bench.explain(samples)
        results = []
        for i, sample in enumerate(samples):
            pairs = [(e.label, of_method[i, k]) for k, e in enumerate(sample.explained) for of_method in maps.values()]
            gone = stand_in(self.fill, inputs[i], bench, sample.id)
            drops = iter(patch_drops(bench.model, inputs[i], pairs, gone, self.size, bench.batch))
            values = [{name: next(drops)._asdict() for name in maps} for _ in sample.explained]
            results.append(tuple(Measured(e.label, e.name, v) for e, v in zip(sample.explained, values, strict=True)))
        return results
