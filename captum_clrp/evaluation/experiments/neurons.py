"""Experiment of section 5.3 (fig. 5): do maps of single neurons show what each of them saw?"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.experiments.base import Bench, Experiment, Quantity
from captum_clrp.evaluation.methods import image_seed
from captum_clrp.evaluation.metrics.class_similarity import mean_similarity
from captum_clrp.evaluation.metrics.neuron_ablation import (
    Neuron,
    activations_at,
    diagonal_share,
    neuron_drops,
    relative_drops,
    strongest_neurons,
)
from captum_clrp.evaluation.metrics.patch_ablation import PATCH_SIZE
from captum_clrp.evaluation.results.records import Measured, Record
from captum_clrp.evaluation.sources import Sample
from captum_clrp.neuron import NeuronContrastiveLRP2, NeuronLRPZBeta

__all__ = ["NEURON_METHODS", "Neurons", "default_layer"]

NEURON_METHODS = ("random", "lrp", "clrp2")
"""Methods that explain neurons; ``lrp`` and ``clrp2`` also take ``-even`` and ``-conserve``."""


def default_layer(model: nn.Module) -> str:
    """Name of the layer whose neurons are looked at.

    The first of several fully connected layers (fc1 of AlexNet and VGG, as in the paper), or the last convolution.

    Raises:
        InvalidInputError: if there is neither.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if len(linear) > 1:
        return linear[0]
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise InvalidInputError(
            f"{type(model).__name__} has no convolution and not several fully connected layers; name one with --layer"
        )
    return convolutions[-1]


MOST_NEURONS = 256
"""Neurons of an image that are looked at at most: time and memory grow with their square."""


class Neurons(Experiment):
    """The paper's ablation of neurons; see :mod:`captum_clrp.evaluation.metrics.neuron_ablation`.

    Args:
        layer: Name of a module. Default: :func:`default_layer`.
        count: How many neurons of each image are looked at, the most active ones. Default: 8.
        size: Side of the patch. Default: 9.
    """

    name = "neurons"
    title = "Neurons: patch of one, activation of another (paper, fig. 5c)"
    quantities = (
        Quantity("diagonal", "own patch hurts most"),
        Quantity("own", "relative drop by the own patch"),
        Quantity("others", "relative drop by another neuron's patch", "low"),
        Quantity("cosine", "cosine among the neurons' maps", "low"),
    )
    headline = "diagonal"
    needs_mean = True
    chooses_classes = True
    default_methods = NEURON_METHODS
    conventions = (
        "Neurons are the most active ones that see the same part of the image. Drops are relative to the activation "
        "before. A row whose largest drop is shared, or that has none, does not count as its own."
    )

    def __init__(self, layer: str | None = None, count: int = 8, size: int = PATCH_SIZE) -> None:
        if not 1 <= count <= MOST_NEURONS:
            raise InvalidInputError(
                f"{count} neurons are not from 1 to {MOST_NEURONS}; each neuron is tried on the patch of every other one"
            )
        self.layer = layer
        self.count = count
        self.size = size

    def check(self, methods: Sequence[str]) -> None:
        for name in methods:
            if not re.match(r"random$|(lrp|clrp2)(-even|-conserve)*$", name):
                raise InvalidInputError(
                    f"the method {name} does not explain neurons; choose from {', '.join(NEURON_METHODS)} "
                    "(the last two also with -even or -conserve)"
                )

    def settings(self) -> dict[str, Any]:
        return {"layer": self.layer, "neurons": self.count, "patch": self.size}

    def extra(self, records: Sequence[Record]) -> dict[str, Any]:
        """The matrix of fig. 5c for each method."""
        return {"drops": _mean_matrices(records)}

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        assert bench.mean is not None  # the runner makes both
        assert bench.methods is not None
        model = bench.network.model
        layer = _module(model, self.layer or default_layer(model))
        results: list[tuple[Measured, ...]] = []
        for sample in samples:
            image = bench.network.inputs(sample.pixels)
            activations = activations_at(model, layer, image[None])[0]
            neurons = strongest_neurons(activations, self.count)
            values = {}
            for name in bench.methods.names:
                maps = bench.timed(partial(_maps, bench, name, layer, image, neurons, sample.id))
                drops = neuron_drops(bench.model, layer, image, neurons, maps, bench.mean, self.size)
                values[name] = _values(maps, relative_drops(drops, activations, neurons), diagonal_share(drops))
            shown = sample.explained[0] if sample.explained else None
            results.append((Measured(shown.label if shown else 0, shown.name if shown else "", values),))
        return results


def _mean_matrices(records: Sequence[Record]) -> dict[str, list[list[float]]]:
    """For each method the mean matrix of relative drops, over images with as many neurons as most have."""
    by_method: dict[str, list[Tensor]] = {}
    for record in records:
        for measured in record.measured:
            for name, values in measured.values.items():
                by_method.setdefault(name, []).append(torch.tensor(values["drops"], dtype=torch.float64))
    means = {}
    for name, matrices in by_method.items():
        largest = max(len(m) for m in matrices)
        mean: list[list[float]] = torch.stack([m for m in matrices if len(m) == largest]).mean(0).tolist()
        means[name] = mean
    return means


def _module(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if name not in modules:
        raise InvalidInputError(
            f"{type(model).__name__} has no layer {name!r}; its last ones are {', '.join(list(modules)[-5:])}"
        )
    return modules[name]


def _maps(bench: Bench, name: str, layer: nn.Module, image: Tensor, neurons: Sequence[Neuron], id_: str) -> Tensor:
    """``(K, H, W)`` on the CPU."""
    if name == "random":
        generator = torch.Generator().manual_seed(image_seed(bench.seed, "random", id_))
        return torch.rand(len(neurons), *image.shape[1:], generator=generator)
    low, high = bench.network.bounds
    kind = NeuronContrastiveLRP2 if name.startswith("clrp2") else NeuronLRPZBeta
    explainer: NeuronContrastiveLRP2 | NeuronLRPZBeta = kind(
        bench.network.model,
        layer,
        low,
        high,
        avg_pool="even" if "-even" in name else "proportional",
        conserve="-conserve" in name,
    )
    with warnings.catch_warnings():  # a contrast that is zero everywhere has its convention here
        warnings.filterwarnings("ignore", message="the contrast of example")
        relevance: Tensor = explainer.attribute_neurons(image[None], list(neurons))
    return relevance[0].sum(1).cpu()


def _values(maps: Tensor, drops: Tensor, diagonal: float) -> dict[str, Any]:
    k = len(drops)
    own = float(drops.diagonal().mean())
    others = float((drops.sum() - drops.diagonal().sum()) / (k * (k - 1))) if k > 1 else float("nan")
    return {
        "diagonal": diagonal,
        "own": own,
        "others": others,
        "cosine": mean_similarity(maps) if k > 1 else float("nan"),
        "drops": [[round(v, 6) for v in row] for row in drops.tolist()],
    }
