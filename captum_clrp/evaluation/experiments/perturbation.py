"""Experiments that change the image where a map points: patch ablation, and insertion and deletion."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from captum_clrp.evaluation.experiments.base import Bench, Curve, Experiment, Quantity, labels_of
from captum_clrp.evaluation.methods import image_seed
from captum_clrp.evaluation.metrics.insertion_deletion import STEPS, Scores, area_under, insertion_deletion
from captum_clrp.evaluation.metrics.patch_ablation import PATCH_SIZE, patch_drops
from captum_clrp.evaluation.results.records import Measured
from captum_clrp.evaluation.sources import Sample

__all__ = ["Ablation", "InsertionDeletionExperiment"]


def _mean(bench: Bench) -> Tensor:
    assert bench.mean is not None  # the runner computes it for experiments that need it
    return bench.mean


class Ablation(Experiment):
    """The paper's ablation; see :mod:`captum_clrp.evaluation.metrics.patch_ablation`."""

    name = "ablation"
    title = "Patch ablation (paper, table 1)"
    quantities = (Quantity("logit", "drop of the logit"), Quantity("probability", "drop of the probability"))
    headline = "probability"
    needs_mean = True
    conventions = (
        "The patch around the maximum (the first in reading order of several) becomes the mean image; at the border "
        "it is cut off. An all-equal map replaces nothing: its drop is 0."
    )

    def __init__(self, size: int = PATCH_SIZE) -> None:
        self.size = size

    def settings(self) -> dict[str, Any]:
        return {"patch": self.size}

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs = bench.network.inputs(torch.stack([sample.pixels for sample in samples]))
        maps = bench.maps(inputs, labels_of(samples), [sample.id for sample in samples])
        results = []
        for i, sample in enumerate(samples):
            pairs = [(e.label, of_method[i, k]) for k, e in enumerate(sample.explained) for of_method in maps.values()]
            drops = iter(patch_drops(bench.model, inputs[i], pairs, _mean(bench), self.size, bench.batch))
            results.append(
                tuple(
                    Measured(e.label, e.name, {name: next(drops)._asdict() for name in maps}) for e in sample.explained
                )
            )
        return results


class InsertionDeletionExperiment(Experiment):
    """Insertion and deletion; see :mod:`captum_clrp.evaluation.metrics.insertion_deletion`."""

    name = "insertion-deletion"
    title = "Insertion and deletion"
    quantities = (
        Quantity("deletion", "area while pixels of the class go", "low"),
        Quantity("insertion", "area while they come back"),
        Quantity("bystander", "area of another class while pixels of the class go"),
        Quantity("contrast", "bystander minus deletion"),
    )
    headline = "contrast"
    needs_mean = True
    conventions = (
        "Deleted pixels become the mean image, insertion starts from a blurred image. Pixels of equal value are taken "
        "in random order. The bystander is the next class that the image shows, else the strongest other class."
    )

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps
        x = [k / steps for k in range(steps + 1)]
        self.curves = tuple(
            Curve(name, title, "share of the pixels", x, itemgetter(f"{name}_curve"))
            for name, title in (
                ("deletion", "probability while pixels of the class go"),
                ("insertion", "probability while pixels of the class come back"),
                ("bystander", "probability of another class while pixels of the class go"),
            )
        )

    def settings(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        inputs = bench.network.inputs(torch.stack([sample.pixels for sample in samples]))
        maps = bench.maps(inputs, labels_of(samples), [sample.id for sample in samples])
        logits = bench.model(inputs)
        return [
            tuple(
                Measured(
                    e.label,
                    e.name,
                    {
                        name: self._scores(bench, sample, inputs[i], of_method[i, k], k, logits[i], name)
                        for name, of_method in maps.items()
                    },
                )
                for k, e in enumerate(sample.explained)
            )
            for i, sample in enumerate(samples)
        ]

    def _scores(
        self, bench: Bench, sample: Sample, image: Tensor, heat: Tensor, k: int, logits: Tensor, method: str
    ) -> dict[str, Any]:
        label = sample.explained[k].label
        seed = image_seed(bench.seed, "ties", method, sample.id, label)
        scores = insertion_deletion(
            bench.model,
            image,
            label,
            heat,
            _mean(bench),
            other=_bystander(sample, k, logits),
            steps=self.steps,
            batch=bench.batch,
            generator=torch.Generator().manual_seed(seed),
        )
        return _values(scores)


def _values(scores: Scores) -> dict[str, Any]:
    deletion, insertion, bystander = (float(area_under(curve)) for curve in scores)
    curves = {f"{name}_curve": [round(v, 6) for v in curve.tolist()] for name, curve in scores._asdict().items()}
    return {
        "deletion": deletion,
        "insertion": insertion,
        "bystander": bystander,
        "contrast": bystander - deletion,
        **curves,
    }


def _bystander(sample: Sample, k: int, logits: Tensor) -> int:
    """The next class that the image shows, or the strongest one that it does not show."""
    labels = [e.label for e in sample.explained]
    following = [label for label in labels[k + 1 :] + labels[:k] if label != labels[k]]
    if following:
        return following[0]
    return next(int(c) for c in logits.argsort(descending=True) if int(c) != labels[k])
