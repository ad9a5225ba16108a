"""Inside Captum: its interface and tools, its rules in our classes, our rules in its LRP, its tests' situations."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import captum.attr
import pytest
import torch
from captum.attr import LRP, LayerLRP, NeuronGradient, NoiseTunnel
from captum.attr._utils.attribution import GradientAttribution, LayerAttribution, NeuronAttribution
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule, PropagationRule
from captum.metrics import infidelity, infidelity_perturb_func_decorator, sensitivity_max
from helpers import oracles
from helpers.nets import assert_same, distance, pictures, row, small_net, small_pictures
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    LayerContrastiveLRP1,
    LayerContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    NeuronContrastiveLRP2,
    NeuronLRPZBeta,
    UnsupportedOperationError,
)
from captum_clrp.rules import Epsilon, Flat, Gamma, RelevanceRule, WSquare, ZBeta, ZPlus

METHODS = [LRPZBeta, ContrastiveLRP1, ContrastiveLRP2]
LAYERED = [LayerLRPZBeta, LayerContrastiveLRP1, LayerContrastiveLRP2]
NEURONS = [NeuronLRPZBeta, NeuronContrastiveLRP2]

# Captum warns that it makes inputs require gradients, each time.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients"),
    pytest.mark.filterwarnings("ignore:Setting forward, backward hooks"),
]


# --- the interface


def arguments(function: Any) -> list[str]:
    return [
        p.name for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY
    ]


@pytest.mark.parametrize(
    ("ours", "captums"),
    [*((m, LRP) for m in METHODS), *((m, LayerLRP) for m in LAYERED), *((m, NeuronGradient) for m in NEURONS)],
)
def test_arguments_stand_in_captums_order_and_new_ones_are_keywords(ours: Any, captums: Any) -> None:
    assert arguments(ours.attribute) == arguments(captums.attribute)
    expected = [n.replace("forward_func", "model") for n in arguments(captums.__init__)]
    expected = [n for n in expected if n != "device_ids"]
    assert arguments(ours.__init__)[: len(expected)] == expected
    assert arguments(ours.__init__)[len(expected) :] == ["low", "high"]


@pytest.mark.parametrize("method", METHODS)
def test_our_classes_are_captums(method: Any) -> None:
    explain = method(small_net())
    assert isinstance(explain, LRP)
    assert isinstance(explain, GradientAttribution)
    assert explain.multiplies_by_inputs is True
    assert explain.has_convergence_delta() is True
    assert method.attribute.__wrapped__ is not None
    assert explain.forward_func is explain.model
    with pytest.raises(NotImplementedError, match="attribute_future"):
        explain.attribute_future()
    model = small_net()
    for layered in LAYERED:
        assert isinstance(layered(model, model.conv1), LayerAttribution)
    for neuron in NEURONS:
        assert isinstance(neuron(model, model.conv1), NeuronAttribution)


def test_captum_scales_a_layers_map_up_to_the_picture() -> None:
    model, x = small_net(), small_pictures()
    at_layer = LayerLRPZBeta(model, model.conv2).attribute(x, target=1)
    assert LayerLRPZBeta.interpolate(at_layer, (12, 12)).shape == (2, 6, 12, 12)


# --- NoiseTunnel, infidelity, sensitivity_max, visualize_image_attr_multiple


@pytest.mark.parametrize("method", METHODS)
def test_noise_tunnel_averages_our_maps(method: Any) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    seen: list[Tensor] = []

    class Listening(method):  # type: ignore[misc]
        def attribute(self, inputs, *args, **kwargs):  # type: ignore[no-untyped-def]
            seen.append(inputs[0] if isinstance(inputs, tuple) else inputs)
            return super().attribute(inputs, *args, **kwargs)

        attribute.__wrapped__ = attribute  # type: ignore[attr-defined]  # Captum looks behind its own logging

    smooth = NoiseTunnel(Listening(model)).attribute(
        x, nt_type="smoothgrad", nt_samples=5, nt_samples_batch_size=2, stdevs=0.1, target=1
    )
    noisy = torch.cat([s.reshape(2, -1, 3, 12, 12) for s in seen], 1)  # (N, samples, ...)
    assert noisy.shape[1] == 5
    assert not torch.equal(noisy[:, 0], noisy[:, 1])
    maps = [method(model).attribute(noisy[:, k], target=1) for k in range(5)]
    assert_same(smooth, torch.stack(maps).mean(0))


def test_noise_tunnel_returns_the_delta_as_well() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    smooth, delta = NoiseTunnel(LRPZBeta(model)).attribute(
        x, nt_samples=3, stdevs=0.0, target=1, return_convergence_delta=True
    )
    expected, own = LRPZBeta(model).attribute(x, 1, return_convergence_delta=True)
    assert_same(smooth, expected)
    assert_same(delta.reshape(2, 3), own[:, None].expand(2, 3))


def test_infidelity_of_an_exact_explanation_is_zero() -> None:
    # A linear score with positive weights on the box [0, 1]: relevance is w x, which foretells the
    # drop of the score under any perturbation.
    model = nn.Linear(4, 2, bias=False).double()
    model.weight.data.abs_()
    x = torch.rand(3, 4).double() + 0.5

    @infidelity_perturb_func_decorator(True)
    def perturb(inputs: Tensor) -> Tensor:
        return inputs * torch.rand_like(inputs)

    for low, is_exact in [(0.0, True), (-1.0, False)]:
        relevance = LRPZBeta(model, low, 2.0).attribute(x, target=1)
        result = infidelity(model, perturb, x, relevance, target=1)
        assert result.shape == (3,)
        assert (result.max() < 1e-20) == is_exact


@pytest.mark.parametrize("method", METHODS)
def test_infidelity_and_sensitivity_take_our_maps(method: Any) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    explain = method(model)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = 0.01 * torch.randn_like(inputs)
        return noise, inputs - noise

    faith = infidelity(model, perturb, x, explain.attribute(x, target=1), target=1)
    assert faith.shape == (2,)
    assert faith.isfinite().all()
    change = sensitivity_max(explain.attribute, x, target=1)
    assert change.shape == (2,)
    assert (change > 0).all()
    assert change.isfinite().all()
    still = sensitivity_max(explain.attribute, x, perturb_radius=0.0, target=1)
    assert_same(still, torch.zeros_like(still))


def test_captum_draws_our_maps() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from captum.attr import visualization
    from matplotlib import pyplot

    x = small_pictures()
    relevance = ContrastiveLRP2(small_net()).attribute(x, target=1)
    as_image = [t[0].permute(1, 2, 0).numpy() for t in (relevance, x)]
    figure, axes = visualization.visualize_image_attr_multiple(
        *as_image, ["original_image", "heat_map"], ["all", "positive"], use_pyplot=False
    )
    assert len(axes) == 2
    drawn = axes[1].images[0].get_array()
    assert drawn.shape == (12, 12)
    assert drawn.max() > 0
    pyplot.close(figure)


# --- our rules in Captum's LRP, Captum's rules in ours


class Plain(nn.Module):
    """A network on which Captum's LRP is right: modules only, each used once, no negative input."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=bias)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 8, 3, bias=bias)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(8 * 16, 5, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.fc(torch.flatten(x, 1))


def weighted(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def with_rules(model: nn.Module, *rules: PropagationRule) -> nn.Module:
    """A copy with the rules given to its weighted layers, one for all or one for each."""
    model = copy.deepcopy(model)
    layers = weighted(model)
    for layer, rule in zip(layers, rules if len(rules) > 1 else rules * len(layers), strict=True):
        layer.rule = rule
    return model


OUR_RULES = [ZPlus(), ZBeta(-3.0, 3.0), Epsilon(0.01), Epsilon(0.01, bias=True), Gamma(), WSquare(), Flat()]


@pytest.mark.parametrize("rule", OUR_RULES, ids=repr)
def test_our_rules_work_in_captums_lrp(rule: RelevanceRule) -> None:
    model, x = Plain().double(), pictures(2, 12).double()
    ours = LRPZBeta(with_rules(model, rule)).attribute(x, target=1)
    captums = LRP(with_rules(model, rule)).attribute(x, target=1)
    # Captum sends a relevance of 1 and multiplies by the score at the end; nothing else differs.
    assert distance(captums, ours) <= 1e-9
    assert ours.count_nonzero() > 0


CONVOLUTIONS = {
    "reflected": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "circular, same": lambda: nn.Conv2d(3, 4, 2, padding="same", padding_mode="circular"),
    "same, of even length": lambda: nn.Conv2d(3, 4, (2, 3), padding="same", dilation=(1, 2)),
    "strided, grouped": lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("rule", [ZPlus(), Epsilon(0.01)], ids=repr)
def test_our_rules_work_in_captums_lrp_for_any_convolution(rule: RelevanceRule, name: str) -> None:
    class OneConvolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = CONVOLUTIONS[name](), nn.ReLU()
            self.fc = nn.Linear(self.conv(torch.rand(1, 3, 8, 8)).numel(), 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.relu(self.conv(x)).flatten(1))

    model, x = OneConvolution().double(), pictures(2, 8).double()
    model.conv.rule = model.fc.rule = rule
    expected = LRPZBeta(model).attribute(x, target=1)  # first, for Captum takes rules off
    assert distance(LRP(model).attribute(x, target=1), expected) <= 1e-9


def test_in_captums_lrp_our_rules_refuse_what_they_cannot_see() -> None:
    class Halved(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * super().forward(x)

    x = torch.rand(2, 4)
    for layer in (Halved(4, 4), nn.Softplus()):
        model = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2))
        layer.rule = Epsilon()
        with pytest.raises(UnsupportedOperationError, match=f"was assigned to a {type(layer).__name__}"):
            LRP(model).attribute(x, target=1)
        assert LRPZBeta(model).attribute(x, target=1).isfinite().all()


def test_our_default_rules_in_captums_lrp_are_lrpzbeta() -> None:
    model, x = Plain().double(), pictures(2, 12).double()
    carried = with_rules(model, ZBeta(-3.0, 3.0), ZPlus(), ZPlus())
    captums, delta = LRP(carried).attribute(x, target=1, return_convergence_delta=True)
    expected, own = LRPZBeta(model, -3.0, 3.0).attribute(x, 1, return_convergence_delta=True)
    assert distance(captums, expected) <= 1e-9
    assert_same(delta, own, 1e-8)


def test_our_rules_work_in_captums_layer_lrp() -> None:
    model, x = Plain().double(), pictures(2, 12).double()
    carried = with_rules(model, ZPlus(), ZPlus(), ZPlus())  # its layer relevance is kept on the rule
    at = {"target": 1, "attribute_to_layer_input": True}
    expected = LayerLRPZBeta(carried, carried.conv2).attribute(x, **at)
    captums = LayerLRP(carried, carried.conv2).attribute(x, **at)
    assert distance(captums, expected) <= 1e-9


def test_captums_lrp_leaves_a_shared_instance_of_our_rule_usable() -> None:
    model, x, rule = Plain().double(), pictures(2, 12).double(), ZPlus()
    first = LRP(with_rules(model, rule)).attribute(x, target=1)
    again = LRP(with_rules(model, rule)).attribute(x, target=1)
    assert torch.equal(first, again)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "rule",
    [
        EpsilonRule(),
        EpsilonRule(0.25),
        GammaRule(),
        GammaRule(0.7, set_bias_to_zero=True),
        Alpha1_Beta0_Rule(),
        Alpha1_Beta0_Rule(set_bias_to_zero=True),
    ],
    ids=lambda r: f"{type(r).__name__} {r.__dict__}",
)
def test_captums_rules_do_in_our_classes_what_they_do_in_captums(rule: PropagationRule, bias: bool) -> None:
    model, x = Plain(bias).double(), pictures(2, 12).double().abs()
    captums = LRP(with_rules(model, copy.copy(rule))).attribute(x, target=1)
    ours = LRPZBeta(with_rules(model, copy.copy(rule))).attribute(x, target=1)
    assert distance(ours, captums) <= 1e-6  # Captum's stabilizers of 1e-9 add up
    assert ours.count_nonzero() > 0


def test_captums_rules_may_differ_from_layer_to_layer() -> None:
    model, x = Plain().double(), pictures(2, 12).double().abs()
    rules = (GammaRule(), Alpha1_Beta0_Rule(), EpsilonRule())
    captums = LRP(with_rules(model, *map(copy.copy, rules))).attribute(x, target=1)
    ours = LRPZBeta(with_rules(model, *rules)).attribute(x, target=1)
    assert distance(ours, captums) <= 1e-6


def test_captums_identity_rule_hands_relevance_through() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    model[0].rule = IdentityRule()
    x = torch.rand(2, 3).double()
    captums = LRP(copy.deepcopy(model)).attribute(x, target=1)
    model[2].rule = EpsilonRule()
    ours = LRPZBeta(model).attribute(x, target=1)
    assert distance(ours, captums) <= 1e-6


def test_captums_epsilon_rule_takes_the_bias_along() -> None:
    # Products 3 and -2, bias 1: z = 2. Ours bypasses biases unless asked.
    model = nn.Linear(2, 1).double()
    model.weight.data, model.bias.data = row(1, -2), torch.ones(1).double()
    for rule, expected in [
        (EpsilonRule(0.0), row(3, -2)),
        (Epsilon(0.0), row(6, -4)),
        (Epsilon(0.0, bias=True), row(3, -2)),
    ]:
        model.rule = rule
        assert_same(LRPZBeta(model).attribute(row(3, 1)), expected)


def test_a_rule_derived_from_captums_is_refused_by_name() -> None:
    class MyEpsilon(EpsilonRule):
        pass

    model = with_rules(Plain(), MyEpsilon())
    with pytest.raises(UnsupportedOperationError, match=r"'conv1' carries a rule of type MyEpsilon"):
        LRPZBeta(model).attribute(pictures(1, 12), target=1)


# --- rules that the user set


def test_a_users_rule_wins_and_survives_any_number_of_calls() -> None:
    model, x = Plain().double(), pictures(2, 12).double()
    rule = Gamma(0.5)
    model.conv1.rule = rule
    explain = LRPZBeta(model)
    first = explain.attribute(x, target=1)
    assert distance(first, LRPZBeta(with_rules(model, ZPlus())).attribute(x, target=1)) > 1e-3
    for _ in range(20):
        assert torch.equal(explain.attribute(x, target=1), first)
        assert model.conv1.rule is rule
    assert not hasattr(model.conv2, "rule")
    with pytest.raises(ValueError, match="give"):
        explain.attribute(x, target=99)
    assert model.conv1.rule is rule


def test_a_rule_on_a_container_holds_for_what_is_inside_and_the_inner_one_wins() -> None:
    x = torch.rand(2, 3).double()
    block = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))
    model = nn.Sequential(block, nn.ReLU(), nn.Linear(4, 2)).double()
    block.rule = Flat()
    block[2].rule = ZPlus()
    outside = copy.deepcopy(model)
    del outside[0].rule
    outside[0][0].rule = Flat()
    assert_same(LRPZBeta(model).attribute(x, target=1), LRPZBeta(outside).attribute(x, target=1))


def test_a_rule_may_belong_to_a_class_of_modules() -> None:
    class Even(nn.Linear):
        rule = Flat()

    x = torch.rand(2, 3).double()
    model = nn.Sequential(Even(3, 4), nn.Linear(4, 2)).double()
    plain = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    plain.load_state_dict(model.state_dict())
    without = LRPZBeta(plain).attribute(x, target=1)
    plain[0].rule = Flat()
    flat = LRPZBeta(plain).attribute(x, target=1)
    assert distance(flat, without) > 0.1
    assert_same(LRPZBeta(model).attribute(x, target=1), flat)
    plain[0].rule = model[0].rule = ZPlus()  # its own goes before that of its class
    assert_same(LRPZBeta(model).attribute(x, target=1), LRPZBeta(plain).attribute(x, target=1))


def test_a_rule_of_none_is_no_rule() -> None:
    model, x = Plain().double(), pictures(1, 12).double()
    expected = LRPZBeta(model).attribute(x, target=1)
    model.conv1.rule = None  # as Captum leaves activations
    model.relu1.rule = None
    assert_same(LRPZBeta(model).attribute(x, target=1), expected)


@pytest.mark.parametrize("rule", [Epsilon(), EpsilonRule(), Gamma(), WSquare(), Flat()], ids=repr)
def test_a_rule_that_cannot_tell_negated_weights_is_refused_at_clrp2s_output_layer(rule: PropagationRule) -> None:
    model, x = Plain(), pictures(1, 12)
    model.fc.rule = rule
    with pytest.raises(UnsupportedOperationError, match=r"'fc' has rule .*W and -W.*zero everywhere"):
        ContrastiveLRP2(model).attribute(x, target=1)
    signed = ContrastiveLRP1(model).attribute(x, target=1, relu_attributions=False)
    assert signed.isfinite().all()
    del model.fc.rule
    model.conv2.rule = rule  # anywhere else it may stand
    assert ContrastiveLRP2(model).attribute(x, target=1).isfinite().all()


@pytest.mark.parametrize("rule", [ZPlus(), GammaRule(), Alpha1_Beta0_Rule()], ids=repr)
def test_rules_that_tell_negated_weights_may_stand_there(rule: PropagationRule) -> None:
    model, x = Plain().double(), pictures(2, 12).double()
    model.fc.rule = rule
    negated = copy.deepcopy(model)
    negated.fc.weight.data.neg_()
    score = torch.zeros(2, 5).double()
    score[:, 1] = model(x)[:, 1].detach().abs()
    concept = LRPZBeta(model).attribute(x, initial_relevance=score)
    dual = LRPZBeta(negated).attribute(x, initial_relevance=score)
    actual = ContrastiveLRP2(model).attribute(x, target=1, relu_attributions=False)
    assert_same(actual, concept - dual, 1e-8)


# --- the situations of Captum's own LRP tests, worked by hand
#
# With low = 0 and positive weights z^beta shares in proportion to x w, as their z rule does.


def chain(*between: nn.Module) -> nn.Sequential:
    """x = (1, 2, 3) -> 2 everywhere -> (12, 12, 12) -> 3 everywhere -> 108."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), *between, nn.Linear(3, 1, bias=False))
    nn.init.constant_(model[0].weight, 2.0)
    nn.init.constant_(model[-1].weight, 3.0)
    return model.double().eval()


X = row(1, 2, 3)
SHARES = row(18, 36, 54)  # 1/6, 2/6 and 3/6 of 108


def explained(model: nn.Module, x: Tensor = X, **arguments: Any) -> Tensor:
    return LRPZBeta(model, 0.0, 9.0).attribute(x, **arguments)


@pytest.mark.parametrize(
    "between",
    [
        [],
        [nn.ReLU()],
        [nn.ReLU(inplace=True)],
        [nn.Dropout(0.9)],
        [nn.BatchNorm1d(3)],
        [nn.Identity(), nn.LeakyReLU(inplace=True)],
        [nn.ReLU(inplace=True), nn.ReLU(inplace=True)],
    ],
    ids=lambda layers: " ".join(map(str, layers)) or "linear",
)
def test_a_chain_of_two_layers_by_hand(between: list[nn.Module]) -> None:
    model = chain(*between)
    score = float(model(X).detach())  # 108, but for the epsilon of batch norm
    relevance, delta = LRPZBeta(model, 0.0, 9.0).attribute(X, return_convergence_delta=True)
    assert_same(relevance, SHARES * score / 108)
    assert_same(delta, torch.zeros(1).double())
    assert abs(score - 108) < 1e-2


def test_an_activation_that_changes_the_score_passes_relevance_by_hand() -> None:
    # tanh(12) three times 3: the score is 9 tanh(12), shared as before.
    score = 9 * torch.tanh(torch.tensor(12.0).double())
    assert_same(explained(chain(nn.Tanh())), SHARES / 108 * score)


def test_a_batch_with_a_target_for_each_by_hand() -> None:
    model = nn.Linear(2, 2, bias=False).double()
    model.weight.data = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).double()
    x = torch.tensor([[1.0, 1.0], [2.0, 1.0]]).double()
    assert_same(explained(model, x, target=[0, 1]), torch.tensor([[1.0, 3.0], [4.0, 2.0]]).double())
    assert_same(explained(model, x, target=0), torch.tensor([[1.0, 3.0], [2.0, 3.0]]).double())


def test_gamma_by_hand() -> None:
    # Weights 1 and -1/2 become 2 and -1/2 with gamma = 1: of 3, the products 2 * 2 and -1 take 4 and -1.
    model = nn.Linear(2, 1, bias=False).double()
    model.weight.data = row(1, -0.5)
    for rule in (Gamma(1.0), GammaRule(1.0)):
        model.rule = rule
        assert_same(explained(model, row(2, 2), initial_relevance=row(3)), row(4, -1), 1e-7)


def test_alpha_beta_by_hand() -> None:
    # Of the products 2, -1, 4 only the positive ones share.
    model = nn.Linear(3, 1, bias=False).double()
    model.weight.data = row(1, -0.5, 2)
    for rule in (ZPlus(), Alpha1_Beta0_Rule()):
        model.rule = rule
        assert_same(explained(model, row(2, 2, 2), initial_relevance=row(6)), row(2, 0, 4), 1e-7)


class Skip(nn.Module):
    """relu(W1 x) + x, then W2; the sum as a function, in place, or as Captum's module."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.last = chain()
        self.relu = nn.ReLU(inplace=how == "in place")

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(x))
        if self.how == "in place":
            y += x
            return self.last(y)
        return self.last(torch.add(y, x) if self.how == "add" else y + x)


@pytest.mark.parametrize("how", ["+", "add", "in place"])
def test_a_skip_connection_by_hand(how: str) -> None:
    # y = (12, 12, 12), y + x = (13, 14, 15), score 3 * 42 = 126, of which the sum gets 39, 42, 45.
    # Of these the skip takes 3, 6, 9; the rest, 36 each, is shared as in the chain.
    assert_same(explained(Skip(how)), SHARES + row(3, 6, 9))


def test_captums_addition_module_by_hand() -> None:
    from captum.attr._utils.custom_modules import Addition_Module

    class WithModule(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = chain()
            self.add = Addition_Module()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.add(self.first(x), x))

    assert_same(explained(WithModule()), SHARES + row(3, 6, 9))


def test_several_inputs_by_hand() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = chain()

        def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            return self.last(self.first(x) + 2 * self.first(y) - 4 * z)

    # W1 x = 12, 2 W1 y = 24, z = 0 takes nothing: 36 each, score 324, of which x has a third.
    of_x, of_y, of_z = explained(Several(), (X, X, row(0, 0, 0)))  # type: ignore[arg-type]
    assert_same(of_x, SHARES)
    assert_same(of_y, SHARES * 2)
    assert_same(of_z, row(0, 0, 0))


def test_a_module_used_twice_by_hand() -> None:
    # Captum refuses it. W W x with W = 2 everywhere: 12 each, then 72 each; score 216 of one output.
    layer = nn.Linear(3, 3, bias=False).double()
    nn.init.constant_(layer.weight, 2.0)
    assert_same(explained(nn.Sequential(layer, nn.ReLU(), layer), target=0), SHARES * 72 / 108)


def test_repeated_calls_by_hand() -> None:
    model = chain(nn.ReLU(inplace=True))
    explain = LRPZBeta(model, 0.0, 9.0)
    for _ in range(3):
        assert_same(explain.attribute(X), SHARES)


def test_max_pooling_by_hand() -> None:
    # The winners of the regions are 4 and 7, weights 1 and 2: score 4 + 14.
    model = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 1, bias=False))
    nn.init.ones_(model[0].weight)
    model[3].weight.data = torch.tensor([[1.0, 2.0]])
    x = torch.tensor([[[4.0, 1.0, 5.0, 7.0]]]).double()
    assert_same(explained(model.double(), x), torch.tensor([[[4.0, 0.0, 0.0, 14.0]]]).double())


def test_a_three_dimensional_convolution_by_hand() -> None:
    model = nn.Sequential(nn.Conv3d(1, 1, 2, bias=False), nn.Flatten()).double()
    nn.init.ones_(model[0].weight)
    x = torch.arange(8.0).reshape(1, 1, 2, 2, 2).double()
    assert_same(explained(model, x, target=0), x)


def test_layers_that_captum_refuses_are_explained() -> None:
    """Captum raises TypeError for each of these without a rule set by hand."""
    for between in ([nn.Sigmoid()], [nn.LayerNorm(3)], [nn.GELU()], [nn.Flatten()]):
        model = chain(*between)
        with pytest.raises(TypeError, match="no rule defined"):
            LRP(copy.deepcopy(model)).attribute(X)
        assert_same(explained(model).sum(), model(X).detach().sum())


def test_captums_own_lrp_is_not_what_is_returned() -> None:
    """LRPZBeta is an LRP for isinstance, but its rules are the paper's, not Captum's epsilon."""
    model, x = Plain().double(), pictures(1, 12).double()
    captums = captum.attr.LRP(copy.deepcopy(model)).attribute(x, target=1)
    assert distance(LRPZBeta(model).attribute(x, target=1), captums) > 0.1


def test_the_chain_is_the_oracle_too() -> None:
    assert_same(oracles.lrp(chain(nn.ReLU()), X, 0, 0.0, 9.0), SHARES)
