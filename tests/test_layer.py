"""Relevance at hidden layers: the oracle's relevance of every layer, and what Captum's layer attributions accept."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, NamedTuple

import pytest
import torch
from helpers import oracles
from helpers.nets import BOX, assert_same, distance, row, small_net, small_pictures, two_layer_net
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP,
    ContrastiveLRP1,
    ContrastiveLRP2,
    InvalidInputError,
    LayerContrastiveLRP,
    LayerContrastiveLRP1,
    LayerContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    ModelStateError,
    OtherClasses,
    TheseClasses,
    UnsupportedOperationError,
)

LAYERED = {LayerLRPZBeta: LRPZBeta, LayerContrastiveLRP1: ContrastiveLRP1, LayerContrastiveLRP2: ContrastiveLRP2}
CONTRASTS = [LayerContrastiveLRP1, LayerContrastiveLRP2]


def stack() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 7),
        nn.ReLU(),
        nn.Linear(7, 5),
    )
    return model.double().eval()


def oracle_layers(method: type, model: nn.Sequential, x: Tensor, target: int) -> list[Tensor]:
    """Signed relevance at the input of every layer and at the output."""
    layers = oracles.layers_of(model)
    output = oracles.activations(layers, x)[-1]
    score = torch.zeros_like(output)
    score[:, target] = output[:, target]
    if method is LayerLRPZBeta:
        return oracles.relevance_layers(layers, x, score)
    score = score.abs()
    if method is LayerContrastiveLRP1:
        others = (score[:, target, None] / 4).repeat(1, 5)
        others[:, target] = 0
        dual = oracles.relevance_layers(layers, x, others)
    else:
        dual = oracles.relevance_layers(layers, x, score, output_rule="negated")
    return [r - d for r, d in zip(oracles.relevance_layers(layers, x, score), dual, strict=True)]


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize("method", LAYERED)
def test_relevance_of_every_layer_is_the_oracles(method: type, index: int, at_input: bool) -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    expected = oracle_layers(method, model, x, 3)[index if at_input else index + 1]
    options: dict[str, Any] = {} if method is LayerLRPZBeta else {"relu_attributions": False}
    explain = method(model, model[index])
    actual = explain.attribute(x, 3, attribute_to_layer_input=at_input, **options)
    assert actual.shape == expected.shape
    assert not actual.requires_grad
    assert distance(actual, expected) <= 1e-9


@pytest.mark.parametrize("strength", [1.0, 0.75, 0.0])
def test_clrp2_behind_the_output_layer_is_what_the_strength_leaves(strength: float) -> None:
    """A convolution for output layer, as in SqueezeNet: its scores are rectified and averaged."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AvgPool2d(10), nn.Flatten())
    model, x = model.double().eval(), small_pictures(2, torch.float64)
    for layer in (model[2], model[3], model):
        explain = LayerContrastiveLRP2(model, layer, strength=strength)
        signed, delta = explain.attribute(x, 1, relu_attributions=False, return_convergence_delta=True)
        assert_same(signed, LayerLRPZBeta(model, layer).attribute(x, 1) * (1 - strength))
        assert_same(delta, torch.zeros_like(delta))


@pytest.mark.parametrize("method", CONTRASTS)
def test_contrasts_of_layers_keep_their_positive_part(method: Any) -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    signed = method(model, model[4]).attribute(x, 3, relu_attributions=False)
    assert (signed < 0).any()
    assert torch.equal(method(model, model[4]).attribute(x, 3), signed.clamp(min=0))


@pytest.mark.parametrize("method", LAYERED)
def test_the_input_of_the_first_layer_is_the_models_input(method: Any) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    at_layer = method(model, model.conv1).attribute(x, target=1, attribute_to_layer_input=True)
    assert_same(at_layer, LAYERED[method](model).attribute(x, target=1))


def test_layers_by_hand() -> None:
    model, x = two_layer_net(), torch.ones(1, 2).double()
    # Class 0 has its score 1 from hidden unit 1; its weights negated would have it from unit 2.
    assert_same(LayerLRPZBeta(model, model[1], *BOX).attribute(x, target=0), row(1, 0))
    contrast = LayerContrastiveLRP2(model, model[1], *BOX)
    assert_same(contrast.attribute(x, target=0, relu_attributions=False), row(1, -1))
    # The dual of CLRP1: 1/2 each on class 1 (unit 1) and class 2 (unit 2).
    contrast = LayerContrastiveLRP1(model, model[1], *BOX)
    assert_same(contrast.attribute(x, target=0, relu_attributions=False), row(0.5, -0.5))


def test_delta_is_what_was_absorbed_above_the_layer() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    relevance, delta = LayerLRPZBeta(model, model.conv2).attribute(x, target=1, return_convergence_delta=True)
    score = model(x)[:, 1].detach()
    assert_same(delta, score - relevance.flatten(1).sum(1))


def test_initial_relevance_additional_arguments_and_further_options() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor, factor: float) -> Tensor:
            return self.fc2(torch.relu(self.fc1(x))) * factor

    model, x = Scaled().double(), torch.rand(2, 4).double()
    explain = LayerLRPZBeta(model, model.fc1, conserve=True)
    one = explain.attribute(x, 1, 1.0)
    assert_same(explain.attribute(x, 1, 3.0), one * 3)
    start = model(x, 1.0).detach() * torch.tensor([0.0, 1.0, 0.0])
    assert_same(explain.attribute(x, None, 1.0, initial_relevance=start), one)
    assert_same(one.sum(1), model(x, 1.0)[:, 1].detach())


def test_avg_pool_and_bounds_reach_the_layer_variants() -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    even = LayerLRPZBeta(model, model[5], avg_pool="even").attribute(x, 3)
    assert distance(even, LayerLRPZBeta(model, model[5]).attribute(x, 3)) > 1e-3
    wide = LayerLRPZBeta(model, model[0], -9.0, 9.0)
    tight = LayerLRPZBeta(model, model[0])
    at_input = {"target": 3, "attribute_to_layer_input": True}
    assert distance(wide.attribute(x, **at_input), tight.attribute(x, **at_input)) > 1e-3


def test_a_layer_that_works_in_place_leaves_what_was_read() -> None:
    """The layer in front of an in-place ReLU gives its output away; what is read is what it was."""
    model, x = stack(), small_pictures(2, torch.float64)
    outside = copy.deepcopy(model)
    for module in outside:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    assert_same(LayerLRPZBeta(model, model[1]).attribute(x, 3), LayerLRPZBeta(outside, outside[1]).attribute(x, 3))


class Pairs(nn.Module):
    """A layer that takes and returns two tensors, as inner blocks of some networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.split = Split()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.split(torch.relu(self.fc(x)))
        return self.head(torch.cat([b, a], 1))


class Split(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :1], x[:, 1:]


def test_a_layer_of_several_tensors_gives_a_tuple() -> None:
    model, x = Pairs().double(), torch.rand(2, 4).double()
    first, second = LayerLRPZBeta(model, model.split).attribute(x, target=1)
    whole = LayerLRPZBeta(model, model.split).attribute(x, 1, attribute_to_layer_input=True)
    assert isinstance(whole, Tensor)
    assert_same(torch.cat([first, second], 1), whole)


# --- several classes, several layers, parts of a batch


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("method", LAYERED)
def test_classes_of_a_layer_are_separate_calls(method: Any, at_input: bool) -> None:
    model, x = stack(), small_pictures(3, torch.float64)
    explain = method(model, model[4])
    together = explain.attribute_classes(x, [3, 0], attribute_to_layer_input=at_input)
    single = [explain.attribute(x, k, attribute_to_layer_input=at_input) for k in (3, 0)]
    assert together.shape == (3, 2, *(model[:4] if at_input else model[:5])(x).shape[1:])
    assert_same(together, torch.stack(single, 1))


@pytest.mark.parametrize("method", CONTRASTS)
def test_classes_of_a_layer_with_their_signs(method: Any) -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    explain = method(model, model[4])
    signed = explain.attribute_classes(x, [1, 2], relu_attributions=False)
    assert bool((signed < 0).any())
    assert_same(signed[:, 1], explain.attribute(x, 2, relu_attributions=False))


def test_a_contrast_of_a_layer_with_any_dual() -> None:
    model, x = stack(), small_pictures(2, torch.float64)
    named, general = (LayerContrastiveLRP1(model, model[4]), LayerContrastiveLRP(model, model[4], dual=OtherClasses()))
    assert torch.equal(named.attribute(x, 3), general.attribute(x, 3))
    rather_than = LayerContrastiveLRP(model, model[0], dual=TheseClasses([2]))
    expected = ContrastiveLRP(model, dual=TheseClasses([2])).attribute(x, 3)
    assert_same(rather_than.attribute(x, 3, attribute_to_layer_input=True), expected)


@pytest.mark.parametrize("method", LAYERED)
def test_parts_of_a_batch_at_a_layer(method: Any) -> None:
    model, x = stack(), small_pictures(5, torch.float64)
    explain = method(model, model[4])
    whole, delta = explain.attribute(x, [0, 1, 2, 3, 4], return_convergence_delta=True)
    parts, of_parts = explain.attribute(x, [0, 1, 2, 3, 4], return_convergence_delta=True, internal_batch_size=2)
    assert_same(parts, whole)
    assert_same(of_parts, delta)
    assert_same(explain.attribute_classes(x, [1, 4], internal_batch_size=2), explain.attribute_classes(x, [1, 4]))


@pytest.mark.parametrize("method", LAYERED)
def test_a_list_of_layers_gives_a_list(method: Any) -> None:
    """As Captum's LayerLRP; the layers share the pass."""
    model, x = stack(), small_pictures(3, torch.float64)
    layers = [model[0], model[4], model[8], model[4]]
    maps, deltas = method(model, layers).attribute(x, 3, return_convergence_delta=True, internal_batch_size=2)
    classes = method(model, layers).attribute_classes(x, [3, 1])
    assert isinstance(maps, list)
    assert isinstance(deltas, list)
    for layer, found, delta, of_classes in zip(layers, maps, deltas, classes, strict=True):
        expected, own = method(model, layer).attribute(x, 3, return_convergence_delta=True)
        assert_same(found, expected)
        assert_same(delta, own)
        assert_same(of_classes[:, 0], expected)


# --- what a layer may return and take


class Packed(nn.Module):
    """Returns its result in some structure, into which the model adds a second branch, in place or not."""

    def __init__(self, pack: Any, unpack: Any, in_place: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)
        self.layer = Packing(pack)
        self.unpack, self.in_place = unpack, in_place

    def forward(self, x: Tensor) -> Tensor:
        h = self.unpack(self.layer(torch.relu(self.first(x))))
        other = torch.relu(self.second(x))
        if self.in_place:
            h += other
        else:
            h = h + other
        return self.head(h)


class Packing(nn.Module):
    def __init__(self, pack: Any) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        return self.pack(x * 1.0)


class Named(NamedTuple):
    features: Tensor
    name: str


class Output(dict):  # type: ignore[type-arg]
    """A dictionary whose entries are attributes, too, as Hugging Face returns."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        setattr(self, key, value)


def output(value: Tensor) -> Output:
    made = Output()
    made["features"] = value
    return made


@dataclasses.dataclass
class Data:
    features: Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedData:
    features: Tensor


STRUCTURES = {
    "dict": (lambda t: {"f": t}, lambda d: d["f"]),
    "nested": (lambda t: (None, [t, {"k": 1}]), lambda d: d[1][0]),
    "named tuple": (lambda t: Named(t, "n"), lambda d: d.features),
    "dictionary with attributes": (output, lambda d: d.features),
    "dataclass": (Data, lambda d: d.features),
    "dataclass with slots": (SlottedData, lambda d: d.features),
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_layer_that_returns_a_structure_is_read_before_it_is_overwritten(structure: str) -> None:
    torch.manual_seed(1)
    model, x = Packed(*STRUCTURES[structure], in_place=True).double(), torch.rand(2, 4).double()
    plain = Packed(lambda t: t, lambda t: t, in_place=False).double()
    plain.load_state_dict(model.state_dict())
    expected = LayerLRPZBeta(plain, plain.layer).attribute(x, 1)
    found = LayerLRPZBeta(model, model.layer).attribute(x, 1)
    assert_same(found[0] if isinstance(found, tuple) else found, expected)


def test_a_layer_that_takes_its_input_by_name() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
            self.layer = Weighing()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(values=torch.relu(self.fc(x)), scale=2.0))

    class Weighing(nn.Module):
        def forward(self, values: Tensor, scale: float) -> Tensor:
            return values.mul_(scale)

    model, x = ByName().double(), torch.rand(2, 4).double()
    at_input = LayerLRPZBeta(model, model.layer).attribute(x, 1, attribute_to_layer_input=True)
    assert_same(at_input, LayerLRPZBeta(model, model.head).attribute(x, 1, attribute_to_layer_input=True))


class Once(nn.Module):
    """Hands on a tensor of its own, which nothing but what follows can take."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


class Fork(nn.Module):
    """Two branches of one tensor, that of ``branch`` and that of ``skip``; ``wire`` makes a tensor for the first alone."""

    def __init__(self, skip: nn.Module, wire: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.branch, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.skip, self.wire = skip, wire

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.head(torch.relu(self.branch(self.wire(x))) + self.skip(x))


@pytest.mark.parametrize("method", LAYERED)
def test_what_goes_around_a_layer_is_not_relevance_of_the_layer(method: Any) -> None:
    """Although the tensor that it takes (or, as ``nn.Identity`` does, returns) goes elsewhere as well."""
    x = torch.rand(2, 4, dtype=torch.float64)
    same, apart = (Fork(skip, skip).double().eval() for skip in (nn.Identity(), Once()))
    at = {"target": 1} if method is LayerLRPZBeta else {"target": 1, "relu_attributions": False}

    def read(model: Fork, layer: nn.Module, at_input: bool = False) -> Tensor:
        return method(model, layer, conserve=True).attribute(x, attribute_to_layer_input=at_input, **at)

    same.wire, apart.wire = nn.Identity(), Once()
    of_skip, of_branch = read(apart, apart.skip), read(apart, apart.wire)
    assert of_skip.abs().sum(1).min() > 0 < of_branch.abs().sum(1).min()
    assert_same(read(same, same.skip), of_skip)
    assert_same(read(same, same.skip, at_input=True), of_skip)
    assert_same(read(same, same.branch, at_input=True), of_branch)
    assert_same(of_branch.sum(1), read(same, same.branch).sum(1))
    assert_same(of_skip + of_branch, read(same, same.first))


# --- errors


@pytest.mark.parametrize("layer", ["features.28", 3, [nn.ReLU(), "0"]])
@pytest.mark.parametrize("method", LAYERED)
def test_a_layer_that_is_no_module_is_refused(method: Any, layer: Any) -> None:
    with pytest.raises(InvalidInputError, match="which is no module; pass a module of the model"):
        method(stack(), layer)


def test_a_layer_that_does_not_run_is_refused() -> None:
    model, x = small_net(), small_pictures()
    with pytest.raises(ModelStateError, match="Linear does not run"):
        LayerLRPZBeta(model, nn.Linear(2, 2)).attribute(x, target=1)


def test_a_layer_that_runs_twice_is_refused() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    with pytest.raises(ModelStateError, match="ReLU runs 2 times"):
        LayerLRPZBeta(model, relu).attribute(torch.rand(2, 4), target=1)


def test_a_layer_beside_the_input_is_refused() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.constant = nn.Linear(4, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.constant(torch.ones(1, 3))

    model = Beside()
    with pytest.raises(ModelStateError, match="no tensor at this layer depends on the inputs"):
        LayerLRPZBeta(model, model.constant).attribute(torch.rand(2, 4), target=1)


def test_operations_in_front_of_the_layer_need_no_rule() -> None:
    """Relevance is read behind them, so what they would do with it does not matter."""

    class Unruly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(torch.relu(self.fc1(x.cumsum(1))))

    model, x = Unruly().double(), torch.rand(2, 4).double()
    with pytest.raises(UnsupportedOperationError, match="cumsum"):
        LRPZBeta(model).attribute(x, target=1)
    relevance = LayerLRPZBeta(model, model.fc1, conserve=True).attribute(x, target=1)
    assert_same(relevance.sum(1), model(x)[:, 1].detach())
