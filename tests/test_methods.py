"""Methods by name against the public classes, and how often the network runs for several of them."""

import pytest
import torch
from torch import nn

from captum_clrp import (
    ContrastiveLRP,
    ContrastiveLRP1,
    LRPZBeta,
    NearestRivals,
    NeuronContrastiveLRP2,
    NeuronLRPZBeta,
    SoftmaxGradient,
)
from captum_clrp.methods import AlikeMethods, Method
from captum_clrp.targets import OfTarget


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 8)
        ).double()


@pytest.fixture
def inputs():
    return torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lrp", {}),
        ("lrp-even", {"avg_pool": "even"}),
        ("lrp-epsilon-plus-flat-conserve", {"rules": "epsilon-plus-flat", "conserve": True}),
        ("lrp-epsilon-plus", {"rules": "epsilon-plus"}),
        ("lrp-bfloat16", {"precision": "bfloat16"}),
    ],
)
def test_a_name_says_how_relevance_is_propagated(name, settings):
    method = Method.named(name)
    assert method == Method(**settings)
    assert method.settings == {
        "avg_pool": "proportional", "conserve": False, "rules": "auto", "precision": "float32", **settings
    }  # fmt: skip


def test_a_name_says_which_contrast_it_is():
    rivals = Method.named("rivals5-s0.5-gamma-even")
    assert (rivals.dual.k, rivals.strength, rivals.rules, rivals.avg_pool) == (5, 0.5, "gamma", "even")
    assert [Method.named(name).shares_score for name in ("lrp", "clrp1-even", "clrp2", "sglrp-s0.9")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert [Method.named(name).explains_neurons for name in ("lrp", "clrp2-even", "clrp1")] == [True, True, False]
    for other in ("gradient", "lrp-odd", "clrp3", "lrp-s0.9", "even", ""):
        assert Method.named(other) is None


METHODS = {
    "a": (Method(), LRPZBeta, {}),
    "b": (Method.named("clrp1-even"), ContrastiveLRP1, {"avg_pool": "even"}),
    "c": (Method.named("rivals2-s0.5"), ContrastiveLRP, {"dual": NearestRivals(2), "strength": 0.5}),
    "d": (Method.named("sglrp"), ContrastiveLRP, {"dual": SoftmaxGradient()}),
    "e": (Method.named("lrp-even"), LRPZBeta, {"avg_pool": "even"}),
}


def test_methods_share_forward_passes_and_have_the_maps_of_the_public_classes(network, inputs):
    passes = []
    groups = AlikeMethods.groups({name: method for name, (method, _, _) in METHODS.items()}, network, 0.0, 1.0)
    assert [list(group.methods) for group in groups] == [["a", "c", "d"], ["b", "e"]]
    classes = torch.tensor([[3, 5, 0], [1, 2, 7]])
    found = {}
    with network[0].register_forward_hook(lambda *_: passes.append(1)):
        for group in groups:
            with group.run(inputs) as passed:
                found |= passed.relevance([OfTarget(one) for one in classes.unbind(1)])
                assert torch.equal(passed.output, network[1:](network[0].forward(inputs)))
                assert not passed.output.requires_grad
    assert len(passes) == 2
    for name, (method, kind, settings) in METHODS.items():
        both = {} if kind is LRPZBeta else {"relu_attributions": False}
        expected = kind(network, 0.0, 1.0, **settings).attribute_classes(inputs, classes, **both)
        torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=1e-14)
        own = method.explainer(network, 0.0, 1.0).attribute_classes(inputs, classes, **both)
        torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-14)
    assert not network[0]._forward_hooks


@pytest.mark.parametrize(("name", "kind"), [("lrp-even", NeuronLRPZBeta), ("clrp2-s0.9-even", NeuronContrastiveLRP2)])
def test_neurons_are_explained_by_name(network, inputs, name, kind):
    strength = {"strength": 0.9} if "s0.9" in name else {}
    neuron = tuple(map(int, torch.unravel_index(network[:3](inputs)[0].argmax(), (6, 4, 4))))
    expected = kind(network, network[2], 0.0, 1.0, avg_pool="even", **strength).attribute(inputs, neuron)
    found = Method.named(name).neuron_explainer(network, network[2], 0.0, 1.0).attribute(inputs, neuron)
    assert float(expected.abs().sum()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
