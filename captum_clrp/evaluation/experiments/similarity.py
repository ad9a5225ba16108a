"""Experiment of section 3.1 (fig. 1): are the maps of different classes of one image different?"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_clrp.evaluation.experiments.base import Bench, Experiment, Quantity
from captum_clrp.evaluation.methods import image_seed
from captum_clrp.evaluation.metrics.class_similarity import class_similarity, mean_similarity
from captum_clrp.evaluation.results.records import Measured
from captum_clrp.evaluation.sources import Sample

__all__ = ["Similarity"]

_TOP, _DRAWN, _AMONG = 3, 10, 100


class Similarity(Experiment):
    """How alike the maps of classes are; see :mod:`captum_clrp.evaluation.metrics.class_similarity`.

    Explained are the three classes with the largest scores, and together 10 classes drawn from the 100 with the
    largest scores (fewer where the network has fewer outputs).
    """

    name = "similarity"
    title = "Similarity of the maps of different classes (paper, fig. 1)"
    quantities = (
        Quantity("cosine", "cosine among the top 3 classes", "low"),
        Quantity("rank", "rank correlation among the top 3 classes", "low"),
        Quantity("cosine_ten", "cosine of the top 3 with 10 random classes together", "low"),
        Quantity("rank_ten", "rank correlation of the top 3 with 10 random classes together", "low"),
    )
    headline = "cosine"
    chooses_classes = True
    conventions = "An all-equal map counts as alike (1) to any other."

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs = bench.network.inputs(torch.stack([sample.pixels for sample in samples]))
        ranked = bench.model(inputs).argsort(1, descending=True).cpu()
        top = min(_TOP, ranked.shape[1])
        drawn = torch.stack([_draw(order, bench.seed, s.id) for order, s in zip(ranked, samples, strict=True)])
        concepts = [*ranked[:, :top].split(1, dim=1), drawn]
        maps = bench.maps(inputs, concepts, [sample.id for sample in samples])
        return [
            (
                Measured(
                    int(ranked[i, 0]),
                    bench.network.class_name(int(ranked[i, 0])),
                    {name: _values(of_method[i]) for name, of_method in maps.items()},
                ),
            )
            for i in range(len(samples))
        ]


def _draw(order: Tensor, seed: int, id_: str) -> Tensor:
    among = order[:_AMONG].tolist()
    count = max(1, min(_DRAWN, len(order) - 1))  # CLRP1 needs another class to contrast with
    return torch.tensor(random.Random(image_seed(seed, "ten", id_)).sample(among, count))


def _values(maps: Tensor) -> dict[str, float]:
    values = {}
    for measure in ("cosine", "rank"):
        values[measure] = mean_similarity(maps[:-1], measure)
        values[f"{measure}_ten"] = float(class_similarity(maps, measure)[-1, :-1].mean())
    return values
