"""The oracle: numbers that can be redone on paper, and its two parts against each other."""

from __future__ import annotations

import ast
import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import oracles
from helpers.nets import assert_same, row
from torch import Tensor, nn


def test_the_oracle_imports_nothing_but_torch() -> None:
    tree = ast.parse(Path(oracles.__file__).read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names <= {"__future__", "collections", "copy", "itertools", "torch", "types"}


# --- rules on two neurons


def test_zplus_by_hand() -> None:
    # Output 0 has products 2, -2: all 6 to the first. Output 1 has 6, 1: it shares 7 as 6 and 1.
    W = torch.tensor([[1.0, -2.0], [3.0, 1.0]]).double()
    assert_same(oracles.zplus_dense(W, row(2, 1), row(6, 7)), row(12, 1))


def test_zplus_takes_the_product_of_two_negatives_as_positive() -> None:
    assert_same(oracles.zplus_dense(row(1, -2), row(2, -1), row(5)), row(2.5, 2.5))
    assert_same(oracles.zplus_dense(row(1, -2), row(-2, -1), row(5)), row(0, 5))


def test_zplus_absorbs_or_conserves_without_positive_contributions() -> None:
    W, x, R = row(-1, -2), row(1, 1), row(6)
    assert_same(oracles.zplus_dense(W, x, R), row(0, 0))
    assert_same(oracles.zplus_dense(W, x, R, conserve=True), row(2, 4))  # as |x||w| = 1 : 2
    nothing = row(0, 0)
    assert_same(oracles.zplus_dense(W, nothing, R, conserve=True), row(3, 3))  # evenly


def test_even_fallback_reaches_over_connections_of_weight_zero() -> None:
    reach = torch.tensor([[True, True, False]])
    W, x, R = row(-1, 0, 0), row(0, 0, 9), row(6)
    assert_same(oracles.zplus_dense(W, x, R, conserve=True, reach=reach), row(3, 3, 0))


def test_zbeta_by_hand() -> None:
    # Box [-1, 2], w = 1, -1. Input 1: 1*1 - (-1)*1 = 2. Input 2: 1*(-1) - 2*(-1) = 1.
    assert_same(oracles.zbeta_dense(row(1, -1), row(1, 1), -1.0, 2.0, row(6)), row(4, 2))
    # One bound per input: the second box is [0, 3], its part -1 + 3 = 2.
    low, high = row(-1, 0), row(2, 3)
    assert_same(oracles.zbeta_dense(row(1, -1), row(1, 1), low, high, row(6)), row(3, 3))


def test_zbeta_equals_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    W, x = torch.randn(4, 5).double(), torch.rand(3, 5).double() * 2 - 1
    low, high, R = -1.5, 1.25, torch.randn(3, 4).double()
    Wp, Wn = W.clamp(min=0), W.clamp(max=0)
    s = R / (x @ W.T - (low * Wp + high * Wn).sum(1))
    expected = x * (s @ W) - low * (s @ Wp) - high * (s @ Wn)
    assert_same(oracles.zbeta_dense(W, x, low, high, R), expected)


def test_zbeta_of_a_flat_input_within_its_own_bounds_is_absorbed_or_conserved() -> None:
    # x = l = h: no part is left, so |x||w| = 2 : 4 decides under conserve.
    assert_same(oracles.zbeta_dense(row(1, -2), row(2, 2), None, None, row(6)), row(0, 0))
    out = oracles.zbeta_dense(row(1, -2), row(2, 2), None, None, row(6), conserve=True)
    assert_same(out, row(2, 4))


def test_epsilon_by_hand() -> None:
    W, x, R = row(1, -2), row(3, 1), row(2)  # products 3, -2, z = 1
    assert_same(oracles.epsilon_dense(W, x, R, 0.0), row(6, -4))
    assert_same(oracles.epsilon_dense(W, x, R, 1.0), row(3, -2))
    assert_same(oracles.epsilon_dense(W, x, R, 0.0, bias=torch.ones(1)), row(3, -2))
    assert_same(oracles.epsilon_dense(-W, x, R, 1.0), row(3, -2))  # z = -1, so -1 is added
    assert_same(oracles.epsilon_dense(row(1, -1), row(1, 1), row(1), 0.5), row(2, -2))  # sign(0) = +1


def test_gamma_by_hand() -> None:
    # W + W+ = 2, -1: z = 1; with bias 1 it is 2.
    assert_same(oracles.gamma_dense(row(1, -1), row(1, 1), row(1), 1.0), row(2, -1))
    out = oracles.gamma_dense(row(1, -1), row(1, 1), row(1), 1.0, bias=torch.ones(1))
    assert_same(out, row(1, -0.5))


def test_average_pool_by_hand() -> None:
    regions = row(1, 1, 1, 0)
    assert_same(oracles.average_pool_dense(regions, row(3, 1, -4, 9), row(12), "even"), row(4, 4, 4, 0))
    for x, shares in [
        (row(3, 1, -4, 9), row(9, 3, 0, 0)),
        (row(-3, -1, 0, 9), row(9, 3, 0, 0)),  # none positive: |x|
        (row(0, 0, 0, 9), row(4, 4, 4, 0)),  # all zero: evenly
    ]:
        assert_same(oracles.average_pool_dense(regions, x, row(12), "proportional"), shares)


def test_sum_rule_by_hand() -> None:
    # Columns: both positive, one positive, none positive, both zero.
    a, b = row(1, 2, -1, 0), row(3, -5, -3, 0)
    first, second = oracles.sum_rule([a, b], row(8, 8, 8, 8))
    assert_same(first, row(2, 8, 2, 4))
    assert_same(second, row(6, 0, 6, 4))


def test_sum_rule_gathers_over_broadcast_and_takes_many_branches() -> None:
    a, b = torch.tensor([[1.0], [3.0]]), row(1, 3)
    first, second = oracles.sum_rule([a, b], torch.full((2, 2), 12.0))
    assert_same(first, torch.tensor([[6.0 + 3.0], [9.0 + 6.0]]))
    assert_same(second, row(6 + 3, 9 + 6))
    for part in oracles.sum_rule([row(0), row(0), row(0)], row(3)):
        assert_same(part, row(1))


# --- dense matrices


MODULES = [
    (nn.Linear(4, 3), (4,)),
    (nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2), (2, 7)),
    (nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (2, 5, 6)),
    (nn.Conv3d(1, 2, 2, padding=1), (1, 3, 2, 3)),
    (nn.ConvTranspose1d(2, 2, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4)),
    (nn.ConvTranspose2d(2, 3, 3, stride=2, dilation=2, bias=False), (2, 3, 3)),
]


@pytest.mark.parametrize(("module", "shape"), MODULES, ids=lambda v: type(v).__name__)
def test_matrix_times_input_is_the_module(module: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    W, reach = oracles.module_matrices(module, shape)
    x = torch.randn(2, *shape).double()
    double = copy.deepcopy(module).double()
    with torch.no_grad():
        expected = double(x) - double(torch.zeros_like(x))
    assert_same((x.flatten(1) @ W.T).reshape(expected.shape), expected)
    assert torch.equal(reach, W != 0)  # random weights are nowhere zero


def test_dense_matrix_refuses_a_bias() -> None:
    with pytest.raises(ValueError, match="bias"):
        oracles.dense_matrix(nn.Linear(2, 2).double(), (2,))


@pytest.mark.parametrize("conserve", [False, True])
@pytest.mark.parametrize(("module", "shape"), MODULES, ids=lambda v: type(v).__name__)
def test_conservation(module: nn.Module, shape: tuple[int, ...], conserve: bool) -> None:
    torch.manual_seed(1)
    W, reach = oracles.module_matrices(module, shape)
    x, R = torch.randn(2, *shape).double(), torch.randn(2, len(W)).double()
    x[0, 0] = 0.0
    # Absorbed: outputs without a positive product; with conserve only those that see padding alone.
    alive = reach.any(1) if conserve else (x.flatten(1)[:, None] * W).amax(2) > 0
    result = oracles.zplus_dense(W, x, R, conserve=conserve, reach=reach)
    assert_same(result.flatten(1).sum(1), (R * alive).sum(1), 1e-10)


# --- layer by layer against dense matrices


CONVS = [
    nn.Conv2d(2, 4, 3, padding=1),
    nn.Conv2d(2, 4, (3, 2), stride=(2, 3), padding=(1, 0)),
    nn.Conv2d(2, 4, 3, stride=2, dilation=2, padding=2, groups=2, bias=False),
    nn.Conv2d(2, 2, (4, 3), padding="same", groups=2),
    nn.Conv2d(2, 2, 2, stride=3, padding="valid"),
]


@pytest.mark.parametrize("conserve", [False, True])
@pytest.mark.parametrize("conv", CONVS, ids=range(len(CONVS)))
def test_convolution_rules_equal_dense(conv: nn.Conv2d, conserve: bool) -> None:
    torch.manual_seed(2)
    conv = copy.deepcopy(conv)
    conv.weight.data[0] = -conv.weight.data[0].abs()  # an output that can be dead
    x = torch.randn(2, 2, 7, 8).double()
    x[0] = x[0].relu()
    x[1, :, :4, :4] = 0.0
    W, reach = oracles.module_matrices(conv, x.shape[1:])
    out = oracles.activations([conv], x)[1]
    assert_same(out, conv.double()(x).detach())
    R = torch.randn(out.shape).double()
    dense = oracles.zplus_dense(W, x, R, conserve=conserve, reach=reach)
    assert_same(oracles._weighted(conv, conv.weight.detach(), x, R, None, conserve), dense, 1e-10)
    for low, high in [(None, None), (-5.0, 6.0), (x - 1, x), (x, x)]:
        dense = oracles.zbeta_dense(W, x, low, high, R, conserve=conserve, reach=reach)
        layered = oracles.relevance_sequential([conv], x, R, low, high, conserve=conserve)
        assert_same(layered, dense, 1e-10)
    negated = oracles.relevance_sequential([conv], x, R, None, None, "even", "negated", conserve)
    dense = oracles.zbeta_dense(-W, x, None, None, R, conserve=conserve, reach=reach)
    assert_same(negated, dense, 1e-10)


AVERAGES = [
    nn.AvgPool2d(2),
    nn.AvgPool2d(3, stride=2, padding=1),
    nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    nn.AvgPool2d((1, 3), stride=(2, 1), divisor_override=5),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((3, 4)),
    nn.AdaptiveAvgPool2d((None, 10)),  # larger than the input: regions overlap
]


@pytest.mark.parametrize("rule", ["even", "proportional"])
@pytest.mark.parametrize("pool", AVERAGES, ids=range(len(AVERAGES)))
def test_average_pooling_equals_dense(pool: nn.Module, rule: str) -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 2, 7, 8).double()
    x[0, 0] = -x[0, 0].abs()
    x[1, 1, :4] = 0.0
    regions = oracles.dense_matrix(pool, x.shape[1:])
    R = torch.randn(pool(x).shape).double()
    if isinstance(pool, nn.AvgPool2d):
        layered = oracles._avg_pool(pool, x, R, rule)
    else:
        layered = oracles._adaptive_avg_pool(x, R, rule)
    assert_same(layered, oracles.average_pool_dense(regions, x, R, rule), 1e-10)
    assert_same(layered.sum((2, 3)), R.sum((2, 3)), 1e-10)


def test_max_pool_by_hand_first_of_equals_wins() -> None:
    x = torch.tensor([[[[1.0, 2.0, 2.0], [2.0, 0.0, 2.0]]]]).double()
    pool = nn.MaxPool2d(2, stride=1)
    R = torch.tensor([[[[5.0, 7.0]]]]).double()  # both regions: first the shared 2 of the top row
    assert_same(oracles._max_pool(pool, x, R), torch.tensor([[[[0.0, 12.0, 0.0], [0.0, 0.0, 0.0]]]]))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.MaxPool2d((2, 3), stride=(3, 1), padding=(1, 1), dilation=(2, 1)),
    ],
)
def test_max_pool_equals_the_indices_of_torch(pool: nn.MaxPool2d) -> None:
    torch.manual_seed(4)
    x = torch.randint(-2, 2, (2, 3, 8, 8)).double()  # many ties
    k, s, p, d = pool.kernel_size, pool.stride, pool.padding, pool.dilation
    out, index = F.max_pool2d(x, k, s, p, d, pool.ceil_mode, return_indices=True)
    R = torch.randn(out.shape).double()
    expected = torch.zeros(2, 3, 64).double().scatter_add(2, index.flatten(2), R.flatten(2))
    assert_same(oracles._max_pool(pool, x, R), expected.reshape(x.shape))


# --- networks


def two_layer_network(bias: float = 0.0) -> nn.Sequential:
    """x = (1, 1) has hidden activations (1, 2) and scores (1, 0, 2) + bias."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 3))
    model[0].weight.data = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    model[2].weight.data = torch.tensor([[3.0, -1.0], [2.0, -1.0], [0.0, 1.0]])
    model[2].bias.data = torch.full((3,), bias)
    return model


BOX = (0.0, 4.0)  # no negative weight below, so z^beta shares as x w


def test_contrasts_by_hand() -> None:
    model, x = two_layer_network(), torch.ones(1, 2)
    assert_same(oracles.activations(oracles.layers_of(model), x)[-1], row(1, 0, 2))
    # Score 1 all to hidden unit 1, and that to input 1.
    assert_same(oracles.lrp(model, x, 0, *BOX), row(1, 0))
    # CLRP1: the dual has 1/2 on class 1 (hidden unit 1) and 1/2 on class 2 (hidden unit 2, which
    # shares evenly): the inputs get 3/4 and 1/4.
    assert_same(oracles.clrp1(model, x, 0, *BOX, relu=False), row(0.25, -0.25))
    assert_same(oracles.clrp1(model, x, 0, *BOX), row(0.25, 0))
    # CLRP2: weights (-3, 1) send the score to hidden unit 2: the inputs get 1/2 each.
    assert_same(oracles.clrp2(model, x, 0, *BOX, relu=False), row(0.5, -0.5))
    assert_same(oracles.clrp2(model, x, 0, *BOX), row(0.5, 0))


def test_negative_score_keeps_its_sign_in_lrp_and_loses_it_in_contrasts() -> None:
    model, x = two_layer_network(bias=-3.0), torch.ones(1, 2)  # score of class 0: -2
    assert_same(oracles.lrp(model, x, 0, *BOX), row(-2, 0))
    assert_same(oracles.clrp1(model, x, 0, *BOX, relu=False), row(0.5, -0.5))
    assert_same(oracles.clrp2(model, x, 0, *BOX, relu=False), row(1, -1))


def test_targets_per_example() -> None:
    model, x = two_layer_network(), torch.tensor([[1.0, 1.0], [2.0, 0.5]])
    for method in (oracles.lrp, oracles.clrp1, oracles.clrp2):
        both = method(model, x, [0, 2], *BOX)
        assert_same(both[:1], method(model, x[:1], 0, *BOX))
        assert_same(both[1:], method(model, x[1:], torch.tensor(2), *BOX))


class Network(nn.Module):
    """Built as torchvision's AlexNet and VGG."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def calibrated() -> Network:
    torch.manual_seed(5)
    model = Network()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        model(torch.rand(8, 2, 12, 12))
    return model.eval()


@pytest.mark.parametrize("conserve", [False, True])
@pytest.mark.parametrize("avg_pool", ["even", "proportional"])
@pytest.mark.parametrize("output_rule", ["plus", "negated"])
def test_network_equals_a_chain_of_dense_rules(avg_pool: str, output_rule: str, conserve: bool) -> None:
    model = calibrated()
    x = torch.randn(2, 2, 12, 12)
    layers = oracles.layers_of(model)
    values = oracles.activations(layers, x)
    assert_same(values[-1], copy.deepcopy(model).double()(x.double()).detach())
    R = expected = torch.randn(2, 3).double()
    for i in reversed(range(len(layers))):
        layer, value = layers[i], values[i]
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            W, reach = oracles.module_matrices(layer, value.shape[1:])
            if i == 0:
                expected = oracles.zbeta_dense(W, value, None, None, expected, conserve=conserve, reach=reach)
            else:
                W = -W if output_rule == "negated" and i == len(layers) - 1 else W
                expected = oracles.zplus_dense(W, value, expected, conserve=conserve, reach=reach)
        elif isinstance(layer, nn.MaxPool2d):
            expected = oracles._max_pool(layer, value, expected)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            regions = oracles.dense_matrix(layer, value.shape[1:])
            expected = oracles.average_pool_dense(regions, value, expected, avg_pool)
        expected = expected.reshape(value.shape)
    result = oracles.relevance_sequential(layers, x, R, avg_pool=avg_pool, output_rule=output_rule, conserve=conserve)
    assert_same(result, expected, 1e-10)
    if conserve:
        assert_same(result.sum((1, 2, 3)), R.sum(1), 1e-10)


def test_relevance_layers_starts_anywhere() -> None:
    # The relevance of a hidden layer, sent down from there, is the relevance of the input.
    layers, x = oracles.layers_of(calibrated()), torch.randn(2, 2, 12, 12)
    every = oracles.relevance_layers(layers, x, torch.randn(2, 3))
    assert [r.shape for r in every] == [v.shape for v in oracles.activations(layers, x)]
    assert_same(oracles.relevance_sequential(layers[:5], x, every[5]), every[0])


def test_own_bounds_belong_to_each_example_and_channel() -> None:
    x = torch.tensor([[[[0.0, 1.0]], [[2.0, 5.0]]], [[[7.0, 7.0]], [[-3.0, -1.0]]]])
    low, high = oracles.bounds_of(x, None, None)
    assert_same(low[..., 0, 0], torch.tensor([[0.0, 2.0], [7.0, -3.0]]))
    assert_same(high[..., 0, 1], torch.tensor([[1.0, 5.0], [7.0, -1.0]]))
    with pytest.raises(ValueError, match="bounds"):
        oracles.bounds_of(x, 0.0, 5.0)


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(TypeError, match="Tanh"):
        oracles.activations([nn.Tanh()], torch.zeros(1, 2))
    conv = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
    with pytest.raises(TypeError, match="reflect"):
        oracles.activations([conv], torch.zeros(1, 1, 4, 4))
    net = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 1)]
    with pytest.raises(TypeError, match="bounds"):
        oracles.relevance_sequential(net, torch.rand(1, 1, 4, 4), torch.ones(1, 1))
