"""Is the map that of its class? The map of another class, drawn at random, beside it (Sixt et al. 2020)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods.base import image_seed
from captum_clrp.evaluation.metrics.base import PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Case, Measured, concepts_of, over_cases
from captum_clrp.evaluation.metrics.likeness import rank_correlation, structural_similarity
from captum_clrp.evaluation.sources import Sample


def another_class(label: int, count: int, seed: int) -> int:
    """A class drawn uniformly from the others.

    Args:
        label: The class that it is not.
        count: Number of classes.
        seed: Seed of the drawing.

    Raises:
        InvalidInputError: if there is no other class.
    """
    if count < 2:
        raise InvalidInputError(f"{count} output has no other class to compare with; random-logit needs at least two")
    drawn = random.Random(seed).randrange(count - 1)
    return drawn if drawn < label else drawn + 1


class RandomLogit(PerImageMetric):
    """Likeness of the map of a class and that of another one, drawn at random; low is good.

    Args:
        average: ``"images"`` or ``"classes"``.
    """

    name = "random-logit"
    title = "Likeness of the map of a class drawn at random"
    asks = "how alike is the map of another class, drawn at random?"
    conventions = "Ranks and pictures of maps as they are; an all-equal map is like no other one (0)."
    quantities = (Quantity("rank", "rank correlation", "low"), Quantity("ssim", "structural similarity", "low"))

    def update(self, maps: Tensor, others: Tensor, labels: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
            others: Maps of other classes of the same images, shaped as ``maps``.
            labels: ``(N,)``, the explained classes; needed for ``average="classes"``.
        """
        self.keep([list(_likeness(m, other).values()) for m, other in zip(maps, others, strict=True)], labels)

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs, ids = bench.inputs(samples), [sample.id for sample in samples]
        count = bench.model(inputs[:1]).shape[1]
        concepts = [
            torch.tensor(
                [
                    [another_class(label, count, image_seed(bench.seed, "another class", id_, label))]
                    for label, id_ in zip(concept[:, 0].tolist(), ids, strict=True)
                ]
            )
            for concept in concepts_of(samples)
        ]
        others = bench.maps(inputs, concepts, ids)

        def score(case: Case, heat: Tensor) -> Mapping[str, float]:
            return _likeness(heat, others[case.method][case.position, case.k])

        return over_cases(bench, samples, score)


def _likeness(heat: Tensor, other: Tensor) -> dict[str, float]:
    return {"rank": rank_correlation(heat, other), "ssim": structural_similarity(heat, other)}
