"""The rules against dense matrices in float64 (``oracles``), through the whole engine.

Each module is a model of its own whose ``rule`` attribute says which rule it gets, and the initial
relevance is given, so that what comes back is that rule and nothing else.
"""

from __future__ import annotations

import copy

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from helpers import oracles
from helpers.nets import row
from hypothesis import given, settings
from torch import Tensor, nn

from captum_clrp import InvalidInputError, LRPZBeta, UnsupportedOperationError
from captum_clrp.engine._captum import PropagationRule
from captum_clrp.engine.numerics import stabilize
from captum_clrp.rules import Epsilon, Flat, Gamma, Identity, RelevanceRule, WSquare, ZBeta, ZPlus

# Float64 rounding of sums over a few dozen products; a wrong rule is off by 0.1 and more.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}

MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(7, 5), (7,)),
    "linear without bias": (nn.Linear(7, 5, bias=False), (7,)),
    "linear on a sequence": (nn.Linear(4, 3), (3, 4)),
    "conv1d": (nn.Conv1d(2, 4, 3), (2, 9)),
    "conv1d stride padding dilation groups": (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), (4, 11)),
    "conv1d same, even kernel": (nn.Conv1d(2, 3, 4, padding="same"), (2, 8)),
    "conv2d": (nn.Conv2d(2, 3, 3), (2, 6, 5)),
    "conv2d stride padding": (nn.Conv2d(2, 3, (3, 2), stride=(2, 3), padding=(1, 1)), (2, 7, 8)),
    "conv2d dilation": (nn.Conv2d(2, 3, 3, dilation=(2, 1), padding=(2, 0)), (2, 7, 6)),
    "conv2d depthwise": (nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), (4, 5, 5)),
    "conv2d groups stride": (nn.Conv2d(4, 6, 2, stride=2, groups=2), (4, 6, 7)),
    "conv2d same, odd kernel": (nn.Conv2d(2, 3, 3, padding="same", dilation=2), (2, 7, 7)),
    "conv2d same, even kernel": (nn.Conv2d(2, 3, (4, 3), padding="same"), (2, 6, 6)),
    "conv2d same, even kernels": (nn.Conv2d(2, 4, (2, 4), padding="same", groups=2), (2, 5, 6)),
    "conv2d same, dilated even kernel": (nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(3, 1)), (2, 6, 6)),
    "conv2d valid": (nn.Conv2d(2, 3, 2, stride=3, padding="valid"), (2, 7, 8)),
    "conv2d wider padding than kernel": (nn.Conv2d(1, 2, 2, padding=2, stride=2), (1, 4, 5)),
    "conv3d": (nn.Conv3d(2, 3, 2), (2, 3, 4, 3)),
    "conv3d stride padding dilation groups": (
        nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), padding=(1, 1, 0), dilation=(1, 1, 2), groups=2),
        (2, 3, 5, 4),
    ),
    "conv transpose1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 5)),
    "conv transpose2d": (nn.ConvTranspose2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 4, 4)),
    "conv transpose2d groups": (
        nn.ConvTranspose2d(4, 4, 3, stride=3, output_padding=(1, 2), groups=4, bias=False),
        (4, 3, 3),
    ),
    "conv transpose3d": (nn.ConvTranspose3d(2, 2, 2, stride=2, padding=1), (2, 3, 3, 2)),
    "conv2d circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
}

SIGNS = ["nonnegative", "both"]


class Case:
    """A module with random weights, an input, relevance of both signs, and the dense matrices."""

    def __init__(self, name: str, signs: str, *, seed: int = 0) -> None:
        torch.manual_seed(seed)
        module, shape = MODULES[name]
        self.module = copy.deepcopy(module).double()
        weight = self.module.weight.detach()
        nn.init.normal_(weight)
        weight[torch.rand(weight.shape) < 0.1] = 0.0  # connected, but by nothing
        weight[0] = -weight[0].abs()  # outputs without positive contributions from inputs >= 0
        self.x = torch.randn(3, *shape).double()
        if signs == "nonnegative":
            self.x.clamp_(min=0)  # about half of the values are zero, as behind a ReLU
        self.x[2] = 0.0
        self.x[1, :1] = 0.0
        self.W, self.reach = oracles.module_matrices(self.module, shape)
        with torch.no_grad():
            self.R = torch.randn(self.module(self.x).shape).double()
        # Outputs that see padding alone: with conserve their relevance goes evenly to the example.
        unseen = (self.R.flatten(1) * ~self.reach.any(1)).sum(1) / self.W.shape[1]
        self.from_nowhere = unseen.reshape(-1, *[1] * len(shape))

    def relevance(self, rule: RelevanceRule | None, low=None, high=None, **options) -> Tensor:  # type: ignore[no-untyped-def]
        if rule is not None:
            self.module.rule = rule
        method = LRPZBeta(self.module.eval(), low, high, **options)
        return method.attribute(self.x, initial_relevance=self.R)

    @property
    def bias(self) -> Tensor | None:
        return self.module.bias


# --- each rule


@pytest.mark.parametrize("conserve", [False, True])
@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("name", MODULES)
def test_zplus_is_the_dense_rule(name: str, signs: str, conserve: bool) -> None:
    case = Case(name, signs)
    expected = oracles.zplus_dense(case.W, case.x, case.R, conserve=conserve, reach=case.reach)
    expected += case.from_nowhere if conserve else 0
    torch.testing.assert_close(case.relevance(ZPlus(), conserve=conserve), expected, **CLOSE)


@pytest.mark.parametrize("conserve", [False, True])
@pytest.mark.parametrize("bounds", ["own", "numbers", "each value"])
@pytest.mark.parametrize("name", MODULES)
def test_zbeta_of_the_first_layer_is_the_dense_rule(name: str, bounds: str, conserve: bool) -> None:
    case = Case(name, "both")
    low, high = {
        "own": (None, None),
        "numbers": (-5.0, 6.0),
        "each value": (case.x - torch.rand_like(case.x), case.x + torch.rand_like(case.x)),
    }[bounds]
    expected = oracles.zbeta_dense(case.W, case.x, low, high, case.R, conserve=conserve, reach=case.reach)
    expected += case.from_nowhere if conserve else 0
    actual = case.relevance(None, low, high, conserve=conserve)
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("name", MODULES)
def test_zbeta_set_by_the_user_has_its_own_bounds(name: str) -> None:
    case = Case(name, "both")
    expected = oracles.zbeta_dense(case.W, case.x, -4.0, 5.0, case.R)
    torch.testing.assert_close(case.relevance(ZBeta(-4.0, 5.0)), expected, **CLOSE)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_epsilon_is_the_dense_rule(name: str, bias: bool) -> None:
    case = Case(name, "both")
    expected = oracles.epsilon_dense(case.W, case.x, case.R, 0.3, case.bias if bias else None)
    if name == "linear on a sequence":  # its bias belongs to the last dimension: one row at a time
        x, R = case.x.flatten(0, 1), case.R.flatten(0, 1)
        own_bias = case.bias if bias else None
        expected = oracles.epsilon_dense(case.module.weight.detach(), x, R, 0.3, own_bias)
        expected = expected.reshape(case.x.shape)
    torch.testing.assert_close(case.relevance(Epsilon(0.3, bias=bias)), expected, **CLOSE)


@pytest.mark.parametrize("signs", ["both", "nonnegative"])
@pytest.mark.parametrize("name", MODULES)
def test_gamma_is_the_dense_rule(name: str, signs: str) -> None:
    case = Case(name, signs)
    expected = oracles.generalised_gamma_dense(case.W, case.x, case.R, 0.7)
    torch.testing.assert_close(case.relevance(Gamma(0.7)), expected, **CLOSE)


@pytest.mark.parametrize("name", MODULES)
def test_gamma_of_nonnegative_inputs_and_outputs_above_zero_is_the_rule_of_changed_weights(name: str) -> None:
    case = Case(name, "nonnegative")
    above_zero = torch.einsum("oi,ni->no", case.W, case.x.double().flatten(1)).reshape(case.R.shape) > 0
    case.R = torch.where(above_zero, case.R, 0.0)
    expected = oracles.gamma_dense(case.W, case.x, case.R, 0.7)
    torch.testing.assert_close(case.relevance(Gamma(0.7)), expected, **CLOSE)


def test_gamma_favours_negative_products_where_they_prevail() -> None:
    # Products 2, -2, -1 become 2, -4, -2 with gamma = 1: of -4, relevance 2 has shares -1, 2, 1.
    model = linear(row(1, 2, -1), Gamma(1.0))
    assert_relevance(model, row(2, -1, 1), row(2), row(-1, 2, 1))


def test_gamma_shares_by_positive_products_where_nothing_is_left_over() -> None:
    # Products 2, -2 sum to zero, which counts as positive: 4, -2 with gamma = 1.
    model = linear(row(1, 1), Gamma(1.0))
    assert_relevance(model, row(2, -2), row(1), row(2, -1))


@pytest.mark.parametrize("gamma", [0, -0.25, float("nan")])
def test_gamma_must_be_above_zero(gamma: float) -> None:
    with pytest.raises(InvalidInputError, match="must be above 0"):
        Gamma(gamma)


def test_gamma_favours_positive_products_of_inputs_of_both_signs() -> None:
    # Products 2, -2, 3 become 4, -2, 6 with gamma = 1: of 8, relevance 4 has shares 2, -1, 3.
    model = linear(row(1, 2, -1), Gamma(1.0))
    assert_relevance(model, row(2, -1, -3), row(4), row(2, -1, 3))


@pytest.mark.parametrize("name", MODULES)
def test_wsquare_and_flat_share_by_weights_alone(name: str) -> None:
    case = Case(name, "both")
    ones = torch.ones_like(case.x)
    # z+ of inputs that are all one shares by whatever positive matrix it is given.
    squares = oracles.zplus_dense(case.W**2, ones, case.R)
    torch.testing.assert_close(case.relevance(WSquare()), squares, **CLOSE)
    flat = oracles.zplus_dense(case.reach.double(), ones, case.R)
    torch.testing.assert_close(case.relevance(Flat()), flat, **CLOSE)


def test_identity_hands_relevance_through() -> None:
    assert_relevance(linear(torch.eye(2) * 7, Identity()), row(1, -1), row(3, 4), row(3, 4))


def test_copies_of_values_in_reflected_padding_count_one_by_one() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect").double()
    valid = nn.Conv2d(2, 3, 3).double()
    x, R = torch.randn(2, 2, 5, 5).double(), torch.randn(2, 3, 7, 7).double()
    padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
    valid.load_state_dict(conv.state_dict())
    W, _ = oracles.module_matrices(valid, padded.shape[1:])
    shares = oracles.zplus_dense(W, padded, R)
    x_again = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.pad(x_again, (2, 2, 2, 2), mode="reflect"), x_again, shares)
    conv.rule = ZPlus()
    actual = LRPZBeta(conv).attribute(x, initial_relevance=R)
    torch.testing.assert_close(actual, expected, **CLOSE)


# --- by hand


def linear(weight: Tensor, rule: RelevanceRule, bias: Tensor | None = None) -> nn.Linear:
    model = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).double()
    model.weight.data.copy_(weight)
    if bias is not None:
        model.bias.data.copy_(bias)
    model.rule = rule
    return model


def assert_relevance(model: nn.Module, x: Tensor, R: Tensor, expected: Tensor, *, conserve: bool = False) -> None:
    actual = LRPZBeta(model, conserve=conserve).attribute(x, initial_relevance=R)
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_zplus_by_hand() -> None:
    # Output 0 has products 2, -2: all 6 to the first. Output 1 has 6, 1: it shares 7 as 6 and 1.
    model = linear(torch.tensor([[1.0, -2.0], [3.0, 1.0]]), ZPlus(), bias=torch.tensor([50.0, -50]))
    assert_relevance(model, row(2, 1), row(6, 7), row(12, 1))


def test_zplus_takes_the_positive_part_of_each_product() -> None:
    # Clamping weights alone (Captum's Alpha1_Beta0) would give 5, 0 and 0, 0.
    model = linear(row(1, -2), ZPlus())
    assert_relevance(model, row(2, -1), row(5), row(2.5, 2.5))
    assert_relevance(model, row(-2, -1), row(5), row(0, 5))


def test_zbeta_by_hand() -> None:
    # Box [-1, 2], w = 1, -1. Input 1: 1*1 - (-1)*1 = 2. Input 2: 1*(-1) - 2*(-1) = 1.
    assert_relevance(linear(row(1, -1), ZBeta(-1.0, 2.0)), row(1, 1), row(6), row(4, 2))


def test_epsilon_by_hand() -> None:
    # Products 3, -2: z = 1, and -1 with the weights negated: 1 or -1 is added.
    assert_relevance(linear(row(1, -2), Epsilon(1.0)), row(3, 1), row(2), row(3, -2))
    assert_relevance(linear(row(-1, 2), Epsilon(1.0)), row(3, 1), row(2), row(3, -2))
    assert_relevance(linear(row(1, -2), Epsilon(0.0, bias=True), torch.ones(1)), row(3, 1), row(2), row(3, -2))


def test_zero_counts_as_positive_in_the_stabilizer() -> None:
    actual = stabilize(torch.tensor([-2.0, -0.0, 0.0, 2.0]), 0.5)
    torch.testing.assert_close(actual, torch.tensor([-2.5, 0.5, 0.5, 2.5]))


def test_wsquare_and_flat_by_hand() -> None:
    weight = row(1, -3)
    assert_relevance(linear(weight, WSquare()), row(0, 9), row(10), row(1, 9))
    assert_relevance(linear(weight, Flat()), row(0, 9), row(10), row(5, 5))


def test_without_positive_contribution_relevance_is_absorbed_or_goes_by_size_then_evenly() -> None:
    model = linear(row(-1, -2), ZPlus())
    for conserve, x, expected in [
        (False, row(1, 1), row(0, 0)),
        (True, row(1, 1), row(2, 4)),  # as |x| |w| = 1 : 2
        (False, row(0, 0), row(0, 0)),
        (True, row(0, 0), row(3, 3)),  # evenly
    ]:
        assert_relevance(model, x, row(6), expected, conserve=conserve)


def test_only_outputs_that_cannot_share_fall_back() -> None:
    # Output 0 shares 8 by its positive products 1 : 3, output 1 has none and shares 6 by size 2 : 1.
    model = linear(torch.tensor([[1.0, 3.0], [-2.0, -1.0]]), ZPlus())
    assert_relevance(model, row(1, 1), row(8, 6), row(2 + 4, 6 + 2), conserve=True)


def test_even_fallback_leaves_padding_out() -> None:
    # An input of zeros: each output spreads evenly over what it sees of the input. The first and the
    # last output of a kernel of 3 see two values, the middle ones three.
    model = nn.Conv1d(1, 1, 3, padding=1, bias=False).double()
    model.rule = ZPlus()
    x, R = torch.zeros(1, 1, 4).double(), torch.tensor([[[6.0, 6.0, 6.0, 6.0]]]).double()
    expected = torch.tensor([[[3.0 + 2, 3.0 + 2 + 2, 2 + 2 + 3.0, 2 + 3.0]]]).double()
    assert_relevance(model, x, R, expected, conserve=True)
    assert_relevance(model, x, R, torch.zeros_like(x))


def test_an_output_that_sees_padding_alone_spreads_over_the_example_under_conserve() -> None:
    model = nn.Conv1d(1, 1, 1, padding=1, bias=True).double()
    model.rule = ZPlus()
    model.weight.data.fill_(1.0)
    x, R = torch.ones(1, 1, 2).double(), torch.tensor([[[4.0, 1.0, 1.0, 0.0]]]).double()
    assert_relevance(model, x, R, torch.tensor([[[3.0, 3.0]]]).double(), conserve=True)
    assert_relevance(model, x, R, torch.tensor([[[1.0, 1.0]]]).double())


# --- properties


numbers = st.floats(-4, 4, allow_nan=False).map(lambda v: round(v, 2))


def tables(rows: int, columns: int) -> st.SearchStrategy[Tensor]:
    values = st.lists(numbers, min_size=rows * columns, max_size=rows * columns)
    return values.map(lambda v: torch.tensor(v, dtype=torch.float64).reshape(rows, columns))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(W=tables(3, 4), x=tables(2, 4), R=tables(2, 3))
def test_conserve_keeps_all_relevance_whatever_the_numbers(W: Tensor, x: Tensor, R: Tensor) -> None:
    for rule in (ZPlus(), ZBeta(-4.0, 4.0), WSquare(), Flat()):
        method = LRPZBeta(linear(W, rule), conserve=True)
        result = method.attribute(x, initial_relevance=R)
        torch.testing.assert_close(result.sum(1), R.sum(1), **CLOSE)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(W=tables(3, 4), x=tables(1, 4), R=tables(1, 3), S=tables(1, 3), k=numbers)
def test_every_rule_is_linear_in_relevance(W: Tensor, x: Tensor, R: Tensor, S: Tensor, k: float) -> None:
    rules = (ZPlus(), ZBeta(-4.0, 4.0), Epsilon(0.1), Gamma(), WSquare(), Flat())
    for rule in rules:
        model = linear(W, rule)

        def sent(initial: Tensor, model: nn.Module = model) -> Tensor:
            return LRPZBeta(model).attribute(x, initial_relevance=initial)

        torch.testing.assert_close(sent(R + k * S), sent(R) + k * sent(S), rtol=1e-7, atol=1e-7)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(W=tables(3, 4), x=tables(2, 4), R=tables(2, 3))
def test_zplus_and_zbeta_of_positive_relevance_are_positive(W: Tensor, x: Tensor, R: Tensor) -> None:
    for rule in (ZPlus(), ZBeta(-4.0, 4.0)):
        result = LRPZBeta(linear(W, rule)).attribute(x, initial_relevance=R.abs())
        assert (result >= 0).all()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(W=tables(3, 4), x=tables(2, 4), R=tables(2, 3), gamma=st.floats(0.01, 10))
def test_gamma_conserves_and_is_bounded(W: Tensor, x: Tensor, R: Tensor, gamma: float) -> None:
    sums = (x[:, None] * W).abs().sum(-1)  # of the sizes of all contributions to an output
    R = torch.where(sums > 1e-9, R, 0.0)  # without contributions relevance is absorbed
    received = LRPZBeta(linear(W, Gamma(gamma))).attribute(x, initial_relevance=R)
    torch.testing.assert_close(received.sum(1), R.sum(1), rtol=1e-6, atol=1e-6)
    assert (received.abs().sum(1) <= (1 + 2 / gamma) * R.abs().sum(1) * (1 + 1e-9) + 1e-12).all()


# --- what a rule is


RULES = [ZPlus(), ZBeta(0.0, 1.0), Epsilon(), Gamma(), WSquare(), Flat(), Identity()]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_are_captums_and_print_their_settings(rule: RelevanceRule) -> None:
    assert isinstance(rule, PropagationRule)
    assert repr(rule).startswith(type(rule).__name__ + "(")


def test_settings_are_printed() -> None:
    assert repr(Gamma(0.5)) == "Gamma(gamma=0.5)"
    assert repr(Epsilon(0.25, bias=True)) == "Epsilon(epsilon=0.25, bias=True)"


@pytest.mark.parametrize("rule", RULES[:-1], ids=repr)
def test_an_instance_keeps_nothing_of_a_call_and_may_be_shared(rule: RelevanceRule) -> None:
    before = copy.deepcopy(vars(rule))
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    alone = copy.deepcopy(model)
    x = torch.rand(2, 3).double()
    for layer in (model[0], model[2]):
        layer.rule = rule
    for layer in (alone[0], alone[2]):
        layer.rule = copy.deepcopy(rule)
    first = LRPZBeta(model).attribute(x, target=0)
    LRPZBeta(model).attribute(x * 2, target=1)
    torch.testing.assert_close(LRPZBeta(model).attribute(x, target=0), first, rtol=0, atol=0)
    torch.testing.assert_close(LRPZBeta(alone).attribute(x, target=0), first, rtol=0, atol=0)
    assert vars(rule) == before


def test_which_rules_tell_weights_from_negated_weights() -> None:
    knows = {type(rule).__name__ for rule in RULES if rule.distinguishes_negated_weights}
    assert knows == {"ZPlus", "ZBeta"}


def test_a_rule_without_terms_says_what_is_missing() -> None:
    class Nothing(RelevanceRule):
        pass

    with pytest.raises(NotImplementedError, match="Nothing must implement terms"):
        assert_relevance(linear(row(1, 1), Nothing()), row(1, 1), row(1), row(1, 1))


def test_a_users_rule_is_one_method() -> None:
    class Halves(RelevanceRule):
        """Share by |x| alone."""

        def terms(self, layer, activations, nonnegative):  # type: ignore[no-untyped-def]
            return (
                ZPlus().terms(layer, activations.abs(), True)[0]._replace(weight=layer.receptive_field(activations)),
            )

    assert_relevance(linear(row(-9, 5), Halves()), row(1, -3), row(8), row(2, 6))


def test_a_foreign_rule_is_refused_by_name() -> None:
    class Homemade(PropagationRule):
        def _manipulate_weights(self, module, inputs, outputs) -> None:  # type: ignore[no-untyped-def]
            module.weight.data.zero_()

    model = linear(row(1, 1), ZPlus())
    model.rule = Homemade()
    with pytest.raises(UnsupportedOperationError, match="Homemade"):
        LRPZBeta(model).attribute(row(1, 1), initial_relevance=row(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rules_compute_in_single_precision_for_half_precision_inputs(dtype: torch.dtype) -> None:
    # 2000 contributions of 1: a sum in bfloat16 would stop at 256.
    model = nn.Linear(2000, 1, bias=False).to(dtype)
    model.weight.data.fill_(1.0)
    x = torch.ones(1, 2000, dtype=dtype)
    method = LRPZBeta(model, 0.0, 1.0)
    relevance = method.attribute(x, initial_relevance=torch.ones(1, 1, dtype=dtype))
    assert relevance.dtype == dtype
    torch.testing.assert_close(relevance.float(), torch.full_like(x.float(), 1 / 2000), rtol=1e-2, atol=0)


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="low"):
        LRPZBeta(linear(row(1, 1), ZPlus()), 2.0, 1.0).attribute(row(1.5, 1.5), target=0)
