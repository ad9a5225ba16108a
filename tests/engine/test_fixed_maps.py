"""Means, sums, centring and mixing as linear maps: each rule on them against its dense matrix, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import oracles
from torch import Tensor

from captum_clrp.engine.fixed_maps import CentringMap, PoolingMap, ShiftMap, SumMap, mixing_map
from captum_clrp.engine.linear_maps import LinearMap
from captum_clrp.rules import Epsilon, Gamma, RelevanceRule, ZPlus, distribute, prepare

CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64 rounding of sums over a dozen products


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def attention(shape: tuple[int, ...]) -> Tensor:
    return normal(*shape).softmax(-1)


CASES: dict[str, tuple[Tensor, Callable[[Tensor], LinearMap], Callable[[Tensor], Tensor]]] = {
    "mean over tokens": (normal(2, 5, 3), lambda x: PoolingMap(lambda values: values.mean(1), x), lambda x: x.mean(1)),
    "sum over tokens": (normal(2, 5, 3), lambda x: PoolingMap(lambda values: values.sum(1), x), lambda x: x.sum(1)),
    "overlapping pooling with padding": (
        normal(2, 3, 7, 7),
        lambda x: PoolingMap(lambda values: F.avg_pool2d(values, 3, 2, 1), x),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
    ),
    "centring over the last dimension": (
        normal(2, 4, 6),
        lambda x: CentringMap(lambda v: v.mean(-1, keepdim=True), 6, x),
        lambda x: x - x.mean(-1, keepdim=True),
    ),
    "centring over two dimensions": (
        normal(2, 3, 2, 2),
        lambda x: CentringMap(lambda v: v.mean((2, 3), keepdim=True), 4, x),
        lambda x: x - x.mean((2, 3), keepdim=True),
    ),
    "attention": (
        normal(2, 2, 5, 3),
        lambda x: mixing_map(attention((2, 2, 4, 5)), lambda values, weights: weights @ values),
        lambda x: attention((2, 2, 4, 5))[: len(x)] @ x,
    ),
}


def shared(rule: RelevanceRule, layer: LinearMap, x: Tensor, relevance: Tensor) -> Tensor:
    return distribute(layer, prepare(rule, layer, x), relevance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", ["gamma", "zplus", "epsilon"])
def test_rules_on_fixed_maps_are_the_dense_rules(name: str, rule: str) -> None:
    x, layer_of, operation = CASES[name]
    x = x.clone()
    x[0, 0] = 0.0
    relevance = normal(*operation(x).shape)
    for n in range(len(x)):  # attention has other weights for each example
        only = x[n : n + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda values, n=n: operation(torch.cat([x[:n], values, x[n + 1 :]]))[n], only
        )
        W = jacobian.reshape(relevance[n].numel(), only.numel())
        dense = {
            "gamma": lambda W=W, only=only, n=n: oracles.generalised_gamma_dense(W, only, relevance[n : n + 1], 0.3),
            "zplus": lambda W=W, only=only, n=n: oracles.zplus_dense(W, only, relevance[n : n + 1]),
            "epsilon": lambda W=W, only=only, n=n: oracles.epsilon_dense(W, only, relevance[n : n + 1], 0.2),
        }[rule]()
        ours = {"gamma": Gamma(0.3), "zplus": ZPlus(), "epsilon": Epsilon(0.2)}[rule]
        torch.testing.assert_close(shared(ours, layer_of(x), x, relevance)[n : n + 1], dense, **CLOSE)


def test_a_sum_of_signed_values_by_hand() -> None:
    # 3 and -1 become 6 and -1 with gamma = 1: of 5, shares 6 and -1. -3 and 1 mirror them. 2 and -2 sum to zero: 4, -2.
    x = torch.tensor([[3.0, -3.0, 2.0], [-1.0, 1.0, -2.0]], dtype=torch.float64)
    relevance = torch.tensor([5.0, 5.0, 1.0], dtype=torch.float64)
    expected = torch.tensor([[6.0, 6.0, 2.0], [-1.0, -1.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(shared(Gamma(1.0), SumMap(x), x, relevance), expected, **CLOSE)


def test_a_shift_takes_its_share_where_the_rule_gives_biases_one() -> None:
    x, shift = torch.tensor([[2.0, -4.0]], dtype=torch.float64), torch.tensor([2.0, 1.0], dtype=torch.float64)
    received = shared(Epsilon(0.0, bias=True), ShiftMap(shift, x), x, torch.ones_like(x))
    torch.testing.assert_close(received, torch.tensor([[0.5, 4 / 3]], dtype=torch.float64), **CLOSE)


def test_attention_weights_too_small_for_a_quotient_count_as_zero() -> None:
    # Masked windows have weights of exp(-100), subnormal in float32: what they alone would carry is absorbed, not NaN.
    scores = torch.tensor([[0.0, -100.0, -100.0], [-100.0, 0.0, -100.0]])
    values = torch.tensor([[-1.0, 1.0], [2.0, -3.0], [1.0, 1.0]])
    layer = mixing_map(scores.softmax(-1), lambda v, w: w @ v)
    assert scores.softmax(-1)[0, 1] > 0
    received = shared(ZPlus(), layer, values, torch.ones(2, 2))
    torch.testing.assert_close(received, torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
