"""Explanations of hidden neurons (paper, section 5.3) against the oracle, by hand, and their selectors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import oracles
from helpers.nets import BOX, HIGH, LOW, assert_same, distance, pictures, row, small_net, small_pictures, two_layer_net
from torch import Tensor, nn

from captum_clrp import (
    InvalidInputError,
    InvalidTargetError,
    LRPZBeta,
    ModelStateError,
    NeuronContrastiveLRP2,
    NeuronLRPZBeta,
    UnsupportedOperationError,
)

METHODS = [NeuronLRPZBeta, NeuronContrastiveLRP2]


def oracle(layers: list[nn.Module], x: Tensor, neuron: tuple[int, ...], contrast: bool, **options: Any) -> Tensor:
    """The oracle on the slice of layers that ends with the neuron's."""

    def start(output: Tensor) -> Tensor:
        at = (slice(None), *neuron)
        score = torch.zeros_like(output)
        score[at] = output[at].abs() if contrast else output[at]
        return score

    concept = oracles.relevance_sequential(layers, x, start, **options)
    if not contrast:
        return concept
    dual = oracles.relevance_sequential(layers, x, start, output_rule="negated", **options)
    return (concept - dual).clamp(min=0)


# --- neurons of the first fully connected layer


def first_fully_connected(model: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The layer and, in float64, all layers up to it."""
    layer = next(m for m in model.classifier if isinstance(m, nn.Linear))
    layers = oracles.layers_of(model)
    end = layers.index(layer)
    doubled = [copy.deepcopy(m).double() for m in layers[: end + 1]]
    return layer, doubled


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_neurons_of_fc1_are_the_oracles(name: str, request: pytest.FixtureRequest) -> None:
    """NeuronContrastiveLRP2 (and NeuronLRPZBeta) on AlexNet's and VGG16's first fully connected layer."""
    model, x = request.getfixturevalue(name), pictures(1, 64)
    if name == "alexnet":
        x = pictures(1, 127)
    layer, layers = first_fully_connected(model)
    bounds: dict[str, Any] = {"low": LOW, "high": HIGH}
    doubled = nn.Sequential(*layers)
    with torch.no_grad():
        active = int(doubled(x.double()).argmax())
    for method, contrast in [(NeuronContrastiveLRP2, True), (NeuronLRPZBeta, False)]:
        expected = oracle(layers, x, (active,), contrast, **bounds)
        exact = method(doubled, doubled[-1], LOW, HIGH).attribute(x.double(), active)
        assert distance(exact, expected) <= 1e-6
        single = method(model, layer, LOW, HIGH).attribute(x, active)
        # As for classes: LRP to 1e-4, the contrast is a small difference.
        assert distance(single, expected) <= (5e-2 if contrast else 1e-4)


# --- small networks


def stack() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(96, 7),
        nn.ReLU(),
        nn.Linear(7, 5),
    )
    return model.double().eval()


@pytest.mark.filterwarnings("ignore:the contrast of example")
@pytest.mark.parametrize(
    ("index", "neuron"),
    [(0, (1, 5, 6)), (1, (1, 5, 6)), (3, (2, 1, 3)), (4, (2, 1, 3)), (6, (4,)), (7, (4,)), (8, (2,))],
)
@pytest.mark.parametrize("method", METHODS)
def test_neurons_are_the_oracles(method: Any, index: int, neuron: tuple[int, ...]) -> None:
    model, x = stack(), small_pictures(3, torch.float64)
    for i in (0, 3, 6):
        nn.init.constant_(model[i].bias, 1.0)  # neurons behind a ReLU are active
    contrast = method is NeuronContrastiveLRP2
    expected = oracle(list(model[: index + 1]), x, neuron, contrast)
    selector = neuron[0] if len(neuron) == 1 else neuron
    actual = method(model, model[index]).attribute(x, selector)
    assert expected.count_nonzero() > 0
    assert_same(actual, expected)


def test_neurons_by_hand() -> None:
    model, x = two_layer_net(), torch.ones(1, 2).double()
    # Hidden unit 2 has activation 2 from both inputs alike.
    assert_same(NeuronLRPZBeta(model, model[0], *BOX).attribute(x, 1), row(1, 1))
    # Its weights negated see -1 x 1 and -1 x 1 in the box [0, 4]: shares (x - 4)(-1) = 3 and 3.
    contrast = NeuronContrastiveLRP2(model, model[0], *BOX)
    assert_same(contrast.attribute(x, 1, relu_attributions=False), row(0, 0))
    assert_same(contrast.attribute(x, 0, relu_attributions=False), row(0, 0))
    # Output neuron 0: 1 from hidden unit 1, and with weights negated from hidden unit 2.
    contrast = NeuronContrastiveLRP2(model, model[2], *BOX)
    assert_same(contrast.attribute(x, 0, relu_attributions=False), row(0.5, -0.5))
    assert_same(contrast.attribute(x, 0), row(0.5, 0))


def test_a_negative_activation_is_signed_in_lrp_and_a_magnitude_in_the_contrast() -> None:
    model, x = two_layer_net(bias=-3.0), torch.ones(1, 2).double()  # activation of neuron 0: -2
    assert_same(NeuronLRPZBeta(model, model[2], *BOX).attribute(x, 0), row(-2, 0))
    contrast = NeuronContrastiveLRP2(model, model[2], *BOX)
    assert_same(contrast.attribute(x, 0, relu_attributions=False), row(1, -1))


def test_relevance_of_a_neuron_sums_to_its_activation() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    maps = NeuronLRPZBeta(model, model.fc1, conserve=True).attribute_neurons(x, [0, 1, 2, 3])
    activations: list[Tensor] = []
    model.fc1.register_forward_hook(lambda module, inputs, output: activations.append(output))
    model(x)
    assert_same(maps.flatten(2).sum(2), activations[0][:, :4].detach())


# --- selectors


@pytest.mark.parametrize("method", METHODS)
def test_selectors_in_every_form_of_captum(method: Any) -> None:
    model, x = stack(), small_pictures(3, torch.float64)
    conv, fc = method(model, model[3]), method(model, model[6])
    one = fc.attribute(x, 4)
    assert_same(fc.attribute(x, (4,)), one)
    assert_same(fc.attribute(x, lambda z: z[:, 4]), one)
    point = conv.attribute(x, (2, 1, 3))
    assert_same(conv.attribute(x, lambda z: z[:, 2, 1, 3]), point)
    channel = conv.attribute(x, (2, slice(None), slice(None)))
    assert_same(conv.attribute(x, lambda z: z[:, 2].sum((1, 2))), channel)
    assert_same(conv.attribute(x, (slice(2, 3), slice(0, 4), slice(None, None))), channel)


def test_a_channel_is_the_sum_of_its_positions() -> None:
    model, x = stack(), small_pictures(1, torch.float64)
    explain = NeuronLRPZBeta(model, model[3])
    positions = [(2, i, j) for i in range(4) for j in range(4)]
    parts = explain.attribute_neurons(x, positions)
    assert parts.shape == (1, 16, 3, 12, 12)
    assert_same(explain.attribute(x, (2, slice(None), slice(None))), parts.sum(1))


@pytest.mark.parametrize("method", METHODS)
def test_several_neurons_share_the_pass(method: Any) -> None:
    model, x = stack(), small_pictures(3, torch.float64)
    explain = method(model, model[3])
    selectors = [(2, 1, 3), (0, slice(None), 2), lambda z: z[:, 1, 0, 0]]
    maps = explain.attribute_neurons(x, selectors)
    assert maps.shape == (3, 3, 3, 12, 12)
    for k, selector in enumerate(selectors):
        assert_same(maps[:, k], explain.attribute(x, selector))


@pytest.mark.parametrize("method", METHODS)
def test_neurons_of_the_layers_input(method: Any) -> None:
    model, x = stack(), small_pictures(3, torch.float64)
    at_input = method(model, model[4]).attribute(x, (2, 1, 3), attribute_to_neuron_input=True)
    assert_same(at_input, method(model, model[3]).attribute(x, (2, 1, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_relu_attributions_and_conserve_of_neurons(method: Any) -> None:
    model, x = stack(), small_pictures(3, torch.float64)
    if method is NeuronContrastiveLRP2:
        explain = method(model, model[6])
        signed = explain.attribute(x, 4, relu_attributions=False)
        assert (signed < 0).any()
        assert torch.equal(explain.attribute(x, 4), signed.clamp(min=0))
        several = explain.attribute_neurons(x, [4, 5], relu_attributions=False)
        assert_same(several[:, 0], signed)
        kept = method(model, model[6], conserve=True).attribute(x, 4, relu_attributions=False)
        assert_same(kept.flatten(1).sum(1), torch.zeros(3).double())
    else:
        z = model[:7](x)[:, 4].detach()
        kept = method(model, model[6], conserve=True).attribute(x, 4)
        assert_same(kept.flatten(1).sum(1), z)


def test_a_neuron_of_the_output_layer_is_a_class() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    assert_same(NeuronLRPZBeta(model, model.fc2).attribute(x, 1), LRPZBeta(model).attribute(x, target=1))


@pytest.mark.parametrize("method", METHODS)
def test_neurons_have_no_classes_and_no_delta(method: Any) -> None:
    explain = method(stack(), nn.ReLU())
    assert not hasattr(explain, "attribute_classes")
    assert explain.has_convergence_delta() is False
    assert explain.multiplies_by_inputs is True


# --- the forward pass stops


def test_what_lies_behind_the_layer_does_not_run() -> None:
    class Explosive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            z = self.fc(x)
            try:
                return self.fail(z)
            except Exception as error:  # a model that swallows exceptions must not swallow the stop
                raise AssertionError("ran on") from error

        def fail(self, z: Tensor) -> Tensor:
            raise RuntimeError("behind the layer")

    model, x = Explosive().double(), torch.rand(2, 4).double()
    for method in METHODS:
        assert method(model, model.fc).attribute(x, 1).shape == x.shape
    unruly = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Bilinear(3, 3, 2))
    assert NeuronLRPZBeta(unruly, unruly[1]).attribute(torch.rand(2, 4), 1).shape == (2, 4)


# --- errors


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (4, r"has 1 entries for a layer of shape \(2, 6, 4, 4\); give 3 of them"),
        ((1, 2), "has 2 entries"),
        ((6, 0, 0), "out of range"),
        ((0, -1, 0), "out of range"),
        ((True, 0, 0), "holds True; give integers or slices"),
        ((1.0, 0, 0), "holds 1.0; give integers or slices"),
        (lambda z: 1.0, "does not return a tensor computed from the activations"),
        (lambda z: torch.ones(2), "does not return a tensor computed from the activations"),
    ],
)
def test_selectors_that_do_not_fit_are_refused(method: Any, selector: Any, message: str) -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    with pytest.raises(InvalidTargetError, match=message):
        method(model, model[3]).attribute(x, selector)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_does_not_run_is_refused(method: Any) -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    with pytest.raises(ModelStateError, match="does not run"):
        method(model, nn.Linear(2, 2)).attribute(x, 0)


@pytest.mark.parametrize("method", METHODS)
def test_neurons_are_of_one_layer(method: Any) -> None:
    model = stack()
    with pytest.raises(InvalidInputError, match="layer is a list; neurons are of one layer"):
        method(model, [model[0], model[1]])
    assert not hasattr(method, "attribute_classes")


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_of_several_tensors_is_refused(method: Any) -> None:
    class Split(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x[:, :1], x[:, 1:]

    model = nn.Sequential(nn.Linear(4, 4), Split())
    with pytest.raises(InvalidTargetError, match="2 values where one tensor is needed"):
        method(model, model[1]).attribute(torch.rand(2, 4), 0)


def test_clrp2_of_a_neuron_behind_a_sum_is_refused() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.end = nn.Linear(4, 4), nn.Linear(4, 4), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            z = torch.relu(self.fc1(x))
            return self.end(z + self.fc2(z))

    model, x = Block(), torch.rand(2, 4)
    assert NeuronLRPZBeta(model, model.end).attribute(x, 0).isfinite().all()
    with pytest.raises(UnsupportedOperationError, match="goes around it"):
        NeuronContrastiveLRP2(model, model.end).attribute(x, 0)
