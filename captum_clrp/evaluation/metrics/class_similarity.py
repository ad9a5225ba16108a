"""How alike the maps of different classes are (paper, section 3.1, fig. 1): 1 means that the class does not matter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import torch
from scipy import stats
from torch import Tensor
from torchmetrics.functional import pairwise_cosine_similarity

from captum_clrp.errors import InvalidInputError, check_choice
from captum_clrp.evaluation.methods import image_seed
from captum_clrp.evaluation.metrics.base import PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Measured
from captum_clrp.evaluation.metrics.maps import as_map, is_flat
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import Average

Measure = Literal["cosine", "correlation", "rank"]
_TOP, _DRAWN, _AMONG = 3, 10, 100


def class_similarity(maps: Tensor, measure: Measure = "cosine") -> Tensor:
    """Similarity of each pair of maps.

    A map that is all equal cannot tell classes apart, so it counts as alike (1) to any other.

    Args:
        maps: K maps of one image, ``(K, H, W)`` or ``(K, C, H, W)``; channels are summed.
        measure: ``"cosine"`` of the values; ``"correlation"``, the cosine after subtracting each map's mean; or
            ``"rank"``, the correlation of ranks (Spearman; equal values share their mean rank).

    Returns:
        ``(K, K)``, float64, symmetric, with ones on the diagonal.

    Raises:
        InvalidInputError: for an unknown measure, or a map with NaN.

    Example::

        >>> maps = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 2.0]]])
        >>> class_similarity(maps)[0].tolist()  # the second map is all equal
        [1.0, 1.0, 0.0]
    """
    check_choice("measure", measure, Measure)
    heats = [as_map(m) for m in maps]
    flat = torch.tensor([is_flat(h) for h in heats])
    rows = torch.stack([h.flatten() for h in heats])
    if measure == "rank":
        rows = torch.from_numpy(stats.rankdata(rows.cpu().numpy(), axis=1)).to(rows)
    if measure != "cosine":
        rows = rows - rows.mean(1, keepdim=True)
    # Each row is brought to a largest value of 1 first: squares of float32-sized relevance could underflow.
    rows = rows / rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    similar = pairwise_cosine_similarity(rows).clamp(-1, 1)
    similar[flat, :] = 1
    similar[:, flat] = 1
    return similar.fill_diagonal_(1)


def mean_similarity(maps: Tensor, measure: Measure = "cosine") -> float:
    """Mean of :func:`class_similarity` over all pairs of different maps.

    Args:
        maps, measure: As for :func:`class_similarity`.

    Raises:
        InvalidInputError: if there are fewer than two maps; otherwise as :func:`class_similarity`.
    """
    if len(maps) < 2:
        raise InvalidInputError(f"{len(maps)} map cannot be compared; give the maps of at least two classes")
    similar = class_similarity(maps, measure)
    k = len(similar)
    return float((similar.sum() - k) / (k * (k - 1)))


class ClassSimilarity(PerImageMetric):
    """Mean similarity of the maps of different classes for the same image; low is good.

    In a run, the three classes with the largest scores are explained, and together 10 classes drawn from the 100 with the
    largest scores (fewer where the network has fewer outputs).

    Args:
        measure: As for :func:`class_similarity`. Default: ``"cosine"``.
        average: ``"images"`` or ``"classes"``.
    """

    name = "similarity"
    title = "Similarity of the maps of different classes (paper, fig. 1)"
    asks = "how alike are the maps of different classes? (paper, fig. 1)"
    conventions = "An all-equal map counts as alike (1) to any other."
    quantities = (
        Quantity("cosine", "cosine among the top 3 classes", "low"),
        Quantity("rank", "rank correlation among the top 3 classes", "low"),
        Quantity("cosine_ten", "cosine of the top 3 with 10 random classes together", "low"),
        Quantity("rank_ten", "rank correlation of the top 3 with 10 random classes together", "low"),
    )
    columns = ("similarity",)
    chooses_classes = True

    def __init__(self, measure: Measure = "cosine", *, average: Average = "images", **options: Any) -> None:
        super().__init__(average=average, **options)
        self.measure = measure

    def update(self, maps: Tensor, labels: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            maps: ``(N, K, H, W)`` or ``(N, K, C, H, W)``, the maps of K classes for each image.
            labels: ``(N,)``, a class of each image; needed for ``average="classes"``.
        """
        self.keep([mean_similarity(m, self.measure) for m in maps], labels)

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs = bench.inputs(samples)
        ranked = bench.said_of(samples).argsort(1, descending=True)
        top = min(_TOP, ranked.shape[1])
        drawn = torch.stack([_draw(order, bench.seed, s.id) for order, s in zip(ranked, samples, strict=True)])
        concepts = [*ranked[:, :top].split(1, dim=1), drawn]
        maps = bench.maps(inputs, concepts, [sample.id for sample in samples])
        found: list[tuple[Measured, ...]] = []
        for i, label in enumerate(ranked[:, 0].tolist()):
            values = {name: _values(of_method[i]) for name, of_method in maps.items()}
            found.append((Measured(label, bench.network.class_name(label), values),))
        return found


def _draw(order: Tensor, seed: int, id_: str) -> Tensor:
    among = order[:_AMONG].tolist()
    count = max(1, min(_DRAWN, len(order) - 1))  # CLRP1 needs another class to contrast with
    return torch.tensor(random.Random(image_seed(seed, "ten", id_)).sample(among, count))


def _values(maps: Tensor) -> dict[str, float]:
    values: dict[str, float] = {}
    measures: tuple[Measure, ...] = ("cosine", "rank")
    for measure in measures:
        values[measure] = mean_similarity(maps[:-1], measure)
        values[f"{measure}_ten"] = float(class_similarity(maps, measure)[-1, :-1].mean())
    return values
