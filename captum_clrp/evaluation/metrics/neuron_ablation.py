"""The paper's test of neuron explanations (section 5.3, fig. 5c): patch of neuron i against activation of neuron j.

The patch at the maximum of neuron i's map is replaced by the dataset's mean image. If maps tell neurons apart, it is
neuron i itself that falls most: the largest drop of each row is on the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.base import PerImageMetric
from captum_clrp.evaluation.metrics.maps import as_map, first_peak
from captum_clrp.evaluation.metrics.patch_ablation import PATCH_SIZE, ablate_patch

__all__ = ["NeuronAblation", "activations_at", "diagonal_share", "neuron_drops", "strongest_neurons"]

Neuron = int | tuple[int, ...]


class _Reached(BaseException):
    """Ends the forward pass behind the layer."""


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
        raise _Reached

    handle = layer.register_forward_hook(read)
    try:
        with torch.no_grad():
            model(inputs)
    except _Reached:
        pass
    finally:
        handle.remove()
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


class NeuronAblation(PerImageMetric):
    """Mean matrix of drops, and how often a neuron's own patch hurts it most.

    Each image's matrix counts relative to the activations before (column j divided by the magnitude of activation
    j), so that images and neurons of different scale can be averaged.

    Args:
        mean_image: As for :func:`neuron_drops`.
        size: Side of the patch. Default: 9.
    """

    def __init__(self, mean_image: Tensor, size: int = PATCH_SIZE, **options: Any) -> None:
        super().__init__(**options)
        self.mean_image = mean_image
        self.size = size

    def update(
        self, model: Callable[[Tensor], Any], layer: nn.Module, image: Tensor, neurons: Sequence[Neuron], maps: Tensor
    ) -> None:
        """Measure one image; arguments as for :func:`neuron_drops`, with the same number of neurons each time."""
        drops = neuron_drops(model, layer, image, neurons, maps, self.mean_image, self.size)
        self.keep([relative_drops(drops, activations_at(model, layer, image[None])[0], neurons)], None)

    def compute(self) -> dict[str, Tensor]:
        """``drops``, the mean matrix ``(K, K)`` of relative drops; ``diagonal``, mean of :func:`diagonal_share`."""
        drops, _ = self.per_image()
        if not len(drops):
            return {"drops": torch.full((0, 0), torch.nan), "diagonal": torch.tensor(torch.nan)}
        return {"drops": drops.mean(0), "diagonal": torch.tensor([diagonal_share(d) for d in drops]).double().mean()}


def relative_drops(drops: Tensor, activations: Tensor, neurons: Sequence[Neuron]) -> Tensor:
    """Drops divided by the magnitude of each column's activation before; 0 where that was 0."""
    before = torch.stack([activations[n].abs() for n in neurons]).double().cpu()
    return torch.where(before > 0, drops / before.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
