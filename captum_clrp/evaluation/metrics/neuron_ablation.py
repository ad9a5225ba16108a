"""The paper's test of neuron explanations (section 5.3, fig. 5c): patch of neuron i against activation of neuron j.

The patch at the maximum of neuron i's map is replaced by the dataset's mean image. If maps tell neurons apart, it is
neuron i itself that falls most: the largest drop of each row is on the diagonal.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_clrp.engine.places import LayerReached
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods.base import noise
from captum_clrp.evaluation.metrics.base import PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Measured
from captum_clrp.evaluation.metrics.class_similarity import mean_similarity
from captum_clrp.evaluation.metrics.maps import as_map, first_peak
from captum_clrp.evaluation.metrics.patch_ablation import PATCH, PATCH_SIZE, ablate_patch, check_patch
from captum_clrp.evaluation.registry import Option
from captum_clrp.evaluation.sources import Sample
from captum_clrp.methods import Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captum_clrp.evaluation.results.summary import Summary

Neuron = int | tuple[int, ...]
NEURON_METHODS = ("random", "lrp", "clrp2")
"""Methods that explain neurons; ``lrp`` and ``clrp2`` also take a composite, ``-even`` and ``-conserve``."""
MOST_NEURONS = 256
"""Neurons of an image that are looked at at most: time and memory grow with their square."""


def activations_at(model: Callable[[Tensor], Any], layer: nn.Module, inputs: Tensor) -> Tensor:
    """Output of a layer, ``(N, ...)``; the forward pass stops there.

    Args:
        model: Takes ``(N, C, H, W)``.
        layer: A module of ``model``.
        inputs: ``(N, C, H, W)``, as the model takes it.

    Raises:
        InvalidInputError: if the layer does not run, or returns no tensor.
    """
    found: list[Any] = []

    def read(_: nn.Module, __: Any, output: Any) -> None:
        found.append(output)
        raise LayerReached

    with layer.register_forward_hook(read), contextlib.suppress(LayerReached), torch.no_grad():
        model(inputs)
    if not found or not isinstance(found[0], Tensor):
        raise InvalidInputError(
            f"the layer {type(layer).__name__} returns no tensor in the forward pass; choose another one"
        )
    return found[0].detach()


def strongest_neurons(activations: Tensor, count: int) -> list[Neuron]:
    """The most active neurons of one image that see the same part of it.

    In a convolutional layer these are channels at one position, the one with the largest sum of positive activations.

    Args:
        activations: ``(F,)`` or ``(C, H, W)``.
        count: How many, at most.

    Returns:
        Selectors as Captum takes them, which are ints or tuples ``(channel, row, column)``.

    Raises:
        InvalidInputError: for another number of dimensions.
    """
    if activations.dim() == 1:
        return [int(i) for i in activations.topk(min(count, len(activations))).indices]
    if activations.dim() != 3:
        raise InvalidInputError(
            f"a layer with activations of shape {tuple(activations.shape)} per image is neither fully connected nor "
            "convolutional in two dimensions; choose another one"
        )
    row, column = divmod(int(activations.clamp(min=0).sum(0).argmax()), activations.shape[2])
    there = activations[:, row, column]
    return [(int(c), row, column) for c in there.topk(min(count, len(there))).indices]


def neuron_drops(
    model: Callable[[Tensor], Any],
    layer: nn.Module,
    image: Tensor,
    neurons: Sequence[Neuron],
    maps: Tensor,
    mean_image: Tensor,
    size: int = PATCH_SIZE,
) -> Tensor:
    """Matrix of drops: row i, column j is how much neuron j falls when the patch of neuron i is replaced.

    Conventions for ties and all-equal maps as in :func:`captum_clrp.evaluation.patch_drop`.

    Args:
        model: Takes ``(N, C, H, W)``.
        layer: The module of ``model`` whose output holds the neurons.
        image: ``(C, H, W)``, as the model takes it.
        neurons: K selectors: ints, or tuples ``(channel, row, column)``.
        maps: Their maps, ``(K, H, W)`` or ``(K, C, H, W)``.
        mean_image: As for :func:`captum_clrp.evaluation.patch_drop`.
        size: Side of the patch.

    Returns:
        ``(K, K)``, float64; negative where an activation rose.

    Raises:
        InvalidInputError: if there are not as many maps as neurons; otherwise as
            :func:`captum_clrp.evaluation.patch_drop`.
    """
    if len(neurons) != len(maps):
        raise InvalidInputError(f"{len(maps)} maps and {len(neurons)} neurons were given; give one map for each")
    points = [first_peak(as_map(m)) for m in maps]
    images = [image if p is None else ablate_patch(image, p, mean_image, size) for p in points]
    activations = activations_at(model, layer, torch.stack([image, *images])).double()
    chosen = torch.stack([row[n] for row in activations for n in neurons])
    chosen = chosen.reshape(len(images) + 1, len(neurons))  # before, then after each patch
    return (chosen[:1] - chosen[1:]).cpu()


def diagonal_share(drops: Tensor) -> float:
    """Share of rows whose largest drop is on the diagonal; a row with a tie, or without any drop, does not count.

    Args:
        drops: ``(K, K)``. Chance level is ``1 / K``.

    Returns:
        From 0 to 1.

    Example::

        >>> diagonal_share(torch.tensor([[2.0, 1.0], [3.0, 3.0]]))
        0.5
    """
    own = drops.diagonal()
    beside = drops.clone()
    beside.fill_diagonal_(-torch.inf)
    return float(((own > beside.amax(1)) & (own > 0)).double().mean())


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
            f"{type(model).__name__} has no convolution and not several fully connected layers; name the layer"
        )
    return convolutions[-1]


class NeuronAblation(PerImageMetric):
    """Mean matrix of drops, and how often a neuron's own patch hurts it most.

    Each image's matrix counts relative to the activations before (column j divided by the magnitude of activation
    j), so that images and neurons of different scale can be averaged.

    Args:
        mean_image: As for :func:`neuron_drops`. Needed in ``update``; a run finds it.
        size: Side of the patch. Default: 9.
        layer: In a run, the name of the module whose neurons are looked at. Default: the first of several fully
            connected layers, or the last convolution.
        count: In a run, how many neurons of each image are looked at, the most active ones. Default: 8.

    Raises:
        InvalidInputError: for a size that is not odd and positive, or a count that is not from 1 to 256; in ``update``
            without a mean image.
    """

    name = "neurons"
    title = "Neurons: patch of one, activation of another (paper, fig. 5c)"
    asks = "patch of one neuron against activation of another (paper, fig. 5c)"
    conventions = (
        "Neurons are the most active ones that see the same part of the image. Drops are relative to the activation "
        "before. A row whose largest drop is shared, or that has none, does not count as its own."
    )
    quantities = (
        Quantity("diagonal", "own patch hurts most"),
        Quantity("own", "relative drop by the own patch"),
        Quantity("others", "relative drop by another neuron's patch", "low"),
        Quantity("cosine", "cosine among the neurons' maps", "low"),
    )
    options = (
        Option("layer", "name of a module (default: fc1, or the last convolution)", metavar="MODULE"),
        Option("neurons", "how many", int, "N", keyword="count"),
        PATCH,
    )
    needs_mean = True
    chooses_classes = True
    default_methods = NEURON_METHODS

    def __init__(
        self,
        mean_image: Tensor | None = None,
        size: int = PATCH_SIZE,
        *,
        layer: str | None = None,
        count: int = 8,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 1 <= count <= MOST_NEURONS:
            raise InvalidInputError(
                f"{count} neurons are not from 1 to {MOST_NEURONS}; each neuron is tried on the patch of every other one"
            )
        self.mean_image = mean_image
        self.size = check_patch(size)
        self.layer = layer
        self.count = count

    def update(
        self, model: Callable[[Tensor], Any], layer: nn.Module, image: Tensor, neurons: Sequence[Neuron], maps: Tensor
    ) -> None:
        """Measure one image; arguments as for :func:`neuron_drops`, with the same number of neurons each time."""
        if self.mean_image is None:
            raise InvalidInputError("the patch must become something; make the metric with the mean image of the data")
        drops = neuron_drops(model, layer, image, neurons, maps, self.mean_image, self.size)
        self.keep([relative_drops(drops, activations_at(model, layer, image[None])[0], neurons)], None)

    def compute(self) -> dict[str, Tensor]:
        """``drops``, the mean matrix ``(K, K)`` of relative drops; ``diagonal``, mean of :func:`diagonal_share`."""
        drops, _ = self.per_image()
        if not len(drops):
            return {"drops": torch.full((0, 0), torch.nan), "diagonal": torch.tensor(torch.nan)}
        return {"drops": drops.mean(0), "diagonal": torch.tensor([diagonal_share(d) for d in drops]).double().mean()}

    def check(self, bench: Bench) -> None:
        check_patch(self.size, bench)
        self._layer(bench)
        for name in bench.compared.names:
            method = Method.named(name)
            if name != "random" and (method is None or not method.explains_neurons):
                raise InvalidInputError(
                    f"the method {name} does not explain neurons; choose from {', '.join(NEURON_METHODS)} "
                    "(the last two also with a composite, -even or -conserve)"
                )

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        model, layer = bench.network.model, self._layer(bench)
        results: list[tuple[Measured, ...]] = []
        for sample in samples:
            image = bench.network.inputs(sample.pixels)
            activations = activations_at(model, layer, image[None])[0]
            neurons = strongest_neurons(activations, self.count)
            values = {}
            for name in bench.compared.names:
                maps = bench.timed(partial(_maps, bench, name, layer, image, neurons, sample.id))
                drops = neuron_drops(bench.model, layer, image, neurons, maps, bench.mean_image, self.size)
                values[name] = _values(maps, relative_drops(drops, activations, neurons), diagonal_share(drops))
            results.append((Measured.of_sample(sample, values),))
        return results

    def extra(self, measured: Sequence[Measured]) -> dict[str, Any]:
        return {"drops": _mean_matrices(measured)}

    def figures(self, bench: Bench, summary: Summary, first: Sample | None) -> dict[str, Figure]:
        from captum_clrp.evaluation.drawing import draw_matrices

        return {
            "drops": draw_matrices(summary.extra["drops"], "activation of neuron", "patch of neuron", "relative drop")
        }

    def _layer(self, bench: Bench) -> nn.Module:
        model = bench.network.model
        name, modules = self.layer or default_layer(model), dict(model.named_modules())
        if name not in modules:
            raise InvalidInputError(
                f"{type(model).__name__} has no layer {name!r}; its last ones are {', '.join(list(modules)[-5:])}"
            )
        return modules[name]


def relative_drops(drops: Tensor, activations: Tensor, neurons: Sequence[Neuron]) -> Tensor:
    """Drops divided by the magnitude of each column's activation before; 0 where that was 0."""
    before = torch.stack([activations[n].abs() for n in neurons]).double().cpu()
    return torch.where(before > 0, drops / before.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def _mean_matrices(measured: Sequence[Measured]) -> dict[str, list[list[float]]]:
    """For each method the mean matrix of relative drops, over images with as many neurons as most have."""
    by_method: dict[str, list[Tensor]] = {}
    for one in measured:
        for name, values in one.values.items():
            by_method.setdefault(name, []).append(torch.tensor(values["drops"], dtype=torch.float64))
    means = {}
    for name, matrices in by_method.items():
        largest = max(len(m) for m in matrices)
        mean: list[list[float]] = torch.stack([m for m in matrices if len(m) == largest]).mean(0).tolist()
        means[name] = mean
    return means


def _maps(bench: Bench, name: str, layer: nn.Module, image: Tensor, neurons: Sequence[Neuron], id_: str) -> Tensor:
    """``(K, H, W)`` on the CPU."""
    method = Method.named(name)
    if method is None:
        return noise(bench.seed, len(neurons), image.shape[1:], id_)
    explainer = method.neuron_explainer(bench.network.model, layer, *bench.network.bounds)
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
