"""Neurons: who is hurt by whose patch, on a layer whose neurons watch one pixel each."""

import pytest
import torch
from torch import nn

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import NeuronAblation, diagonal_share, neuron_drops, strongest_neurons
from captum_clrp.evaluation.metrics.neuron_ablation import activations_at, relative_drops


class Watchers(nn.Module):
    """Neuron k of the layer is pixel k times k + 1; what follows must not run."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])))

    def forward(self, x):
        self.layer(x.flatten(1))
        raise AssertionError("the pass stops behind the layer")


IMAGE = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])  # (1, 1, 4)
OWN = torch.eye(4)[:, None, :]  # the map of neuron k points at pixel k


def test_activations_stop_behind_the_layer_and_leave_no_hook():
    model = Watchers()
    assert activations_at(model, model.layer, IMAGE[None]).tolist() == [[1, 4, 9, 16]]
    assert not model.layer._forward_hooks


def test_drops_by_hand():
    model = Watchers()
    drops = neuron_drops(model, model.layer, IMAGE, [0, 2, 3], OWN[[0, 2, 3]], torch.zeros(1, 1, 4), size=1)
    # Pixel 0 is 1 and only neuron 0 sees it; pixel 2 is 3 for neuron 2 (times 3); pixel 3 is 4 for neuron 3.
    assert drops.tolist() == [[1, 0, 0], [0, 9, 0], [0, 0, 16]]


def test_rows_are_patches_and_columns_activations():
    model = Watchers()
    swapped = OWN[[1, 0]]  # the map of neuron 0 points at pixel 1 and the other way round
    drops = neuron_drops(model, model.layer, IMAGE, [0, 1], swapped, torch.zeros(1, 1, 4), size=1)
    assert drops.tolist() == [[0, 4], [1, 0]]


def test_a_flat_map_drops_nothing():
    model = Watchers()
    drops = neuron_drops(model, model.layer, IMAGE, [0, 1], torch.zeros(2, 1, 4), torch.zeros(1, 1, 4), size=1)
    assert drops.tolist() == [[0, 0], [0, 0]]


def test_diagonal_share():
    assert diagonal_share(torch.tensor([[2.0, 1.0], [0.0, 3.0]])) == 1
    assert diagonal_share(torch.tensor([[2.0, 2.0], [0.0, 3.0]])) == 0.5  # a tie is nobody's
    assert diagonal_share(torch.tensor([[0.0, -1.0], [-2.0, -1.0]])) == 0  # nothing fell


def test_relative_drops_divide_columns():
    drops = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert relative_drops(drops, torch.tensor([2.0, -4.0]), [0, 1]).tolist() == [[0.5, 0.5], [1.5, 1.0]]
    assert relative_drops(drops, torch.tensor([0.0, 1.0]), [0, 1])[:, 0].tolist() == [0, 0]


def test_the_strongest_neurons_see_the_same_part():
    assert strongest_neurons(torch.tensor([1.0, 5.0, 3.0]), 2) == [1, 2]
    maps = torch.zeros(3, 2, 2)
    maps[0, 1, 0], maps[2, 1, 0] = 2.0, 3.0  # together 5 at (1, 0)
    maps[1, 0, 1] = 4.0  # more alone, but less altogether
    assert strongest_neurons(maps, 2) == [(2, 1, 0), (0, 1, 0)]
    with pytest.raises(InvalidInputError, match="neither"):
        strongest_neurons(torch.zeros(2, 2), 1)


def test_the_metric():
    model = Watchers()
    metric = NeuronAblation(torch.zeros(1, 1, 4), size=1)
    metric.update(model, model.layer, IMAGE, [0, 1], OWN[:2])
    metric.update(model, model.layer, IMAGE, [0, 1], OWN[[1, 0]])
    found = metric.compute()
    assert found["drops"].tolist() == [[0.5, 0.5], [0.5, 0.5]]  # relative: 1 on the diagonal, then 1 beside it
    assert float(found["diagonal"]) == 0.5


def test_mistakes_are_named():
    model = Watchers()
    with pytest.raises(InvalidInputError, match="one map"):
        neuron_drops(model, model.layer, IMAGE, [0], OWN, torch.zeros(1, 1, 4))
    with pytest.raises(InvalidInputError, match="another one"):
        activations_at(lambda x: x, nn.Linear(1, 1), IMAGE)
