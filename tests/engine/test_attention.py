"""Attention: every way to write it gives one map, and that is the dense rule with the weights held constant."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import oracles
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    ModelStateError,
    UnsupportedOperationError,
    check_conservation,
)

CLOSE = {"rtol": 1e-9, "atol": 1e-12}  # float64 rounding of sums over a few dozen products
GAMMA = 0.1  # of the composite that attention takes by default

torch.manual_seed(4)
X = torch.randn(2, 3, 5, 4).double()  # examples, heads, tokens, channels
Q, K = torch.randn(2, 3, 6, 4).double(), torch.randn(2, 3, 5, 4).double()
BOOLEAN = torch.rand(6, 5) > 0.4
BOOLEAN[:, 0] = True
ADDED = torch.randn(6, 5).double()
WINDOWS = torch.where(BOOLEAN, 0.0, -100.0).double()  # exp(-100) is subnormal in float32


class Of(nn.Module):
    """A function behind a weighted operation that leaves relevance as it is, so that a model has a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(channels, channels, bias=False).double()
        nn.init.eye_(self.layer.weight)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def behind(function: Callable[[Tensor], Tensor], x: Tensor = X, **settings: Any) -> tuple[Tensor, Tensor]:
    """Relevance of the values behind the layer for random relevance of the output, and that relevance."""
    model = Of(function, x.shape[-1])
    relevance = torch.randn(function(x).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    explain = LayerLRPZBeta(model, model.layer, **settings)
    return explain.attribute(x, initial_relevance=relevance), relevance


def dense(weights: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    """The generalised gamma rule for ``weights @ x``, matrix by matrix."""
    rows = [
        oracles.generalised_gamma_dense(A, v.T, r.T, GAMMA).T  # each channel is an example of its own
        for A, v, r in zip(
            weights.flatten(0, -3), x.flatten(0, -3), relevance.reshape(-1, *relevance.shape[-2:]), strict=True
        )
    ]
    return torch.stack(rows).reshape(x.shape)


def scores() -> Tensor:
    return Q @ K.mT / 2  # four channels: the root of four


MASKS: dict[str, tuple[dict[str, Any], Callable[[], Tensor]]] = {
    "none": ({}, scores),
    "boolean": ({"attn_mask": BOOLEAN}, lambda: scores().masked_fill(~BOOLEAN, float("-inf"))),
    "added": ({"attn_mask": ADDED}, lambda: scores() + ADDED),
    "windows": ({"attn_mask": WINDOWS}, lambda: scores() + WINDOWS),
    "causal": (
        {"is_causal": True},
        lambda: scores().masked_fill(~torch.ones(6, 5, dtype=torch.bool).tril(), float("-inf")),
    ),
    "scale": ({"scale": 0.3}, lambda: Q @ K.mT * 0.3),
}


@pytest.mark.parametrize("name", MASKS)
def test_attention_shares_by_its_weights(name: str) -> None:
    arguments, masked = MASKS[name]
    received, relevance = behind(lambda v: F.scaled_dot_product_attention(Q + v.sum() * 0, K, v, **arguments))
    torch.testing.assert_close(received, dense(masked().softmax(-1), X, relevance), **CLOSE)


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "operator": lambda v: (Q @ (K + 0 * v).mT / 2).softmax(-1) @ v,
    "matmul": lambda v: torch.matmul(F.softmax(torch.matmul(Q, (K + 0 * v).mT) / 2, dim=-1), v),
    "bmm": lambda v: torch.bmm(
        (torch.bmm(Q.flatten(0, 1), (K + 0 * v).flatten(0, 1).mT) / 2).softmax(-1), v.flatten(0, 1)
    ).reshape(2, 3, 6, 4),
    "einsum": lambda v: torch.einsum(
        "nhls,nhsd->nhld", (torch.einsum("nhld,nhsd->nhls", Q, K + 0 * v) / 2).softmax(-1), v
    ),
    "einsum, values first": lambda v: torch.einsum(
        "nhsd,nhls->nhld", v, (torch.einsum("nhld,nhsd->nhls", Q, K + 0 * v) / 2).softmax(-1)
    ),
    "dropout in evaluation": lambda v: F.dropout((Q @ (K + 0 * v).mT / 2).softmax(-1), 0.5, False) @ v,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_attention_are_one_rule(form: str) -> None:
    received, relevance = behind(FORMS[form])
    torch.testing.assert_close(received, dense(scores().softmax(-1), X, relevance), **CLOSE)


def test_grouped_queries_share_their_values() -> None:
    query, key = torch.randn(2, 4, 6, 4).double(), torch.randn(2, 2, 5, 4).double()
    x = X[:, :2]

    def grouped(v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key + 0 * v, v, enable_gqa=True)

    def repeated(v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, (key + 0 * v).repeat_interleave(2, 1), v.repeat_interleave(2, 1))

    torch.testing.assert_close(behind(grouped, x)[0], behind(repeated, x)[0], **CLOSE)


def test_a_row_that_is_masked_throughout_loses_its_relevance_and_nothing_is_nan() -> None:
    mask = BOOLEAN.clone()
    mask[2] = False
    received, relevance = behind(lambda v: F.scaled_dot_product_attention(Q, K + 0 * v, v, attn_mask=mask))
    weights = scores().masked_fill(~mask, float("-inf")).softmax(-1).nan_to_num(0.0)
    torch.testing.assert_close(received, dense(weights, X, relevance), **CLOSE)


def test_a_row_without_any_score_that_nobody_reads_takes_nothing_from_the_others() -> None:
    queries, keys = Q.clone(), K.abs()
    queries[..., 2, :] = float("-inf")
    read = [0, 1, 3, 4, 5]
    received, relevance = behind(lambda v: F.scaled_dot_product_attention(queries, keys + 0 * v, v)[..., read, :])
    weights = (queries[..., read, :] @ keys.mT / 2).softmax(-1)
    torch.testing.assert_close(received, dense(weights, X, relevance), **CLOSE)


TALK, HEADS_TALK = torch.randn(3, 3).double(), torch.randn(3, 3, 1, 1).double()
DIFFERENCE = torch.randn(2, 3, 6, 5).double()

MIXED_WEIGHTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "heads talk by a linear layer": (
        lambda a: F.linear(a.permute(0, 2, 3, 1), TALK).permute(0, 3, 1, 2),
        lambda a: torch.einsum("gh,nhls->ngls", TALK, a),
    ),
    "heads talk by a convolution": (
        lambda a: F.conv2d(a, HEADS_TALK),
        lambda a: torch.einsum("gh,nhls->ngls", HEADS_TALK[..., 0, 0], a),
    ),
    "less other attention": (
        lambda a: a - 0.8 * (DIFFERENCE + 0 * a).softmax(-1),
        lambda a: a - 0.8 * DIFFERENCE.softmax(-1),
    ),
    "shared anew": (
        lambda a: a.masked_fill(a < 0.1, 0) / a.masked_fill(a < 0.1, 0).sum(-1, keepdim=True),
        lambda a: a.masked_fill(a < 0.1, 0) / a.masked_fill(a < 0.1, 0).sum(-1, keepdim=True),
    ),
}


@pytest.mark.parametrize("name", MIXED_WEIGHTS)
def test_weights_that_are_mixed_with_each_other_are_weights(name: str) -> None:
    as_written, weights = MIXED_WEIGHTS[name]
    received, relevance = behind(lambda v: as_written((Q @ (K + 0 * v).mT / 2).softmax(-1)) @ v)
    torch.testing.assert_close(received, dense(weights(scores().softmax(-1)), X, relevance), **CLOSE)


def test_weights_gate_values_that_are_gates_themselves() -> None:
    received, relevance = behind(lambda v: (Q @ (K + 0 * v).mT / 2).softmax(-1) @ v.tanh())
    torch.testing.assert_close(received, dense(scores().softmax(-1), X.tanh(), relevance), **CLOSE)


def test_weights_of_both_signs_make_values_of_both_signs() -> None:
    def summed(v: Tensor, scale: float) -> Tensor:
        attention = (Q @ (K + 0 * v).mT / 2).softmax(-1)
        mixed = (attention - 1.5 * (DIFFERENCE + 0 * attention).softmax(-1)) @ v.relu()  # of both signs
        return mixed * scale * scale + F.pad(v, (0, 0, 0, 1)).relu()  # times -1 twice, nothing is known of the signs

    received, expected = (behind(lambda v, scale=scale: summed(v, scale), X.abs())[0] for scale in (1.0, -1.0))
    torch.testing.assert_close(received, expected, **CLOSE)


def test_two_signals_take_half_each() -> None:
    # Linear attention without softmax: a product of two signals. By hand, with one channel: c = 2 * 3.
    received, relevance = behind(lambda v: v @ (v.mT @ v), X[:1, :1])
    assert received.shape == X[:1, :1].shape
    torch.testing.assert_close(received.sum(), relevance.sum(), **CLOSE)
    by_hand, sent = behind(lambda v: v[:, :1] @ v[:, 1:], torch.tensor([[[2.0], [3.0]]]).double())
    torch.testing.assert_close(by_hand, (sent / 2).expand(1, 2, 1), **CLOSE)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without biases": {"bias": False},
    "batch first": {"batch_first": True},
    "added keys": {"add_bias_kv": True},
    "a zero beside": {"add_zero_attn": True},
    "other sizes": {"kdim": 3, "vdim": 6},
}


class Attends(nn.Module):
    def __init__(self, need_weights: bool, **variant: Any) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Linear(5, 8)
        self.attention = nn.MultiheadAttention(8, 2, **variant)
        self.key = nn.Linear(8, variant.get("kdim", 8))
        self.value = nn.Linear(8, variant.get("vdim", 8))
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.attention(h, self.key(h), self.value(h), need_weights=self.need_weights)[0]


@pytest.mark.parametrize("name", VARIANTS)
def test_modules_of_attention_are_followed_whatever_their_settings(name: str) -> None:
    x = torch.rand(3, 4, 5).double()
    maps = []
    for need_weights in (False, True):
        model = Attends(need_weights, **VARIANTS[name]).double().eval()
        maps.append(LRPZBeta(model).attribute(x, initial_relevance=torch.ones_like))
        report = check_conservation(model, x, initial_relevance=torch.ones_like)
        assert abs(report.unaccounted) < 1e-9 * abs(report.score)
    torch.testing.assert_close(*maps, **CLOSE)
    assert maps[0].abs().sum() > 0


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layers_leave_their_fast_path_and_give_the_output_they_gave(norm_first: bool) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first).double().eval()
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(2, 5, 8).double()
    outputs = []
    LRPZBeta(model, conserve=True).attribute(
        x, initial_relevance=lambda out: outputs.append(out) or torch.ones_like(out)
    )
    torch.testing.assert_close(outputs[0], model(x).detach(), **CLOSE)
    relevance = LRPZBeta(model, conserve=True).attribute(x, initial_relevance=torch.ones_like)
    torch.testing.assert_close(relevance.sum(), torch.tensor(80.0).double(), rtol=1e-6, atol=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    together = nn.TransformerEncoder(model, 2).eval()
    relevance = LRPZBeta(together, conserve=True).attribute(x, initial_relevance=torch.ones_like)
    torch.testing.assert_close(relevance.sum(), torch.tensor(80.0).double(), rtol=1e-6, atol=0)


class Classifies(nn.Module):
    """A small transformer with a class token and a position embedding."""

    def __init__(self, tokens: int = 6) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embed = nn.Linear(4, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, tokens + 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu")
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1) + self.position
        return self.head(self.norm(self.layer(h))[:, 0])


def test_the_class_token_is_named_and_spread_where_everything_is_conserved() -> None:
    model, x = Classifies().double().eval(), torch.rand(2, 6, 4).double()
    report = check_conservation(model, x, target=1)
    (token,) = [layer for layer in report.layers if layer.operation == "cat" and layer.rule == "absorbed"]
    assert abs(token.absorbed) > 1e-3 * abs(report.score)
    assert abs(report.unaccounted) < 1e-9 * abs(report.score)
    score = model(x)[:, 1].detach()
    spread = LRPZBeta(model, conserve=True).attribute(x, target=1).sum((1, 2))
    torch.testing.assert_close(spread, score, rtol=1e-9, atol=0)


def test_examples_do_not_see_each_other() -> None:
    model, x = Classifies().double().eval(), torch.rand(3, 6, 4).double()
    for explain in (LRPZBeta(model, conserve=True), ContrastiveLRP1(model)):
        together = explain.attribute(x, target=[0, 1, 2])
        alone = torch.cat([explain.attribute(x[i : i + 1], target=i) for i in range(3)])
        torch.testing.assert_close(together, alone, **CLOSE)


def test_classes_of_one_pass_equal_single_calls() -> None:
    model, x = Classifies().double().eval(), torch.rand(2, 6, 4).double()
    explain = ContrastiveLRP1(model)
    together = explain.attribute_classes(x, [2, 0])
    for k, target in enumerate([2, 0]):
        torch.testing.assert_close(together[:, k], explain.attribute(x, target=target), **CLOSE)


def test_dropped_attention_weights_are_refused() -> None:
    with pytest.raises(ModelStateError, match="dropout_p=0.0"):
        behind(lambda v: F.scaled_dot_product_attention(Q, K + 0 * v, v, dropout_p=0.5))


@torch.library.custom_op("captum_clrp_test::flash_attn_func", mutates_args=())
def flash_attn_func(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As packages with kernels of their own bind them."""
    return (q @ k.mT).softmax(-1) @ v


class FlashAttnFunc(torch.autograd.Function):
    """As others do."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT).softmax(-1) @ v


def native_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    h, w = v[:, 0], torch.eye(4).double()
    return torch._native_multi_head_attention(h, h, h, 4, 1, w.repeat(3, 1), w.new_zeros(12), w, w.new_zeros(4))[0]


@pytest.mark.parametrize(
    ("kernel", "named"),
    [
        (flash_attn_func, "flash_attn_func"),
        (torch.ops.captum_clrp_test.flash_attn_func, "flash_attn_func"),
        (torch.ops.captum_clrp_test.flash_attn_func.default, "flash_attn_func"),
        (FlashAttnFunc.apply, "custom torch.autograd.Function"),
        (native_attention, "_native_multi_head_attention"),
    ],
)
def test_fused_kernels_are_refused_by_name_with_the_remedy(kernel: Callable[..., Tensor], named: str) -> None:
    with pytest.raises(UnsupportedOperationError) as caught:
        behind(lambda v: kernel(v, v, v) * 1)
    assert named in str(caught.value)
    assert "torch.nn.functional.scaled_dot_product_attention" in str(caught.value)


def test_both_heads_of_a_distilled_network_are_its_output_layer() -> None:
    torch.manual_seed(0)
    deit = timm.models.deit.VisionTransformerDistilled
    model = deit(img_size=12, patch_size=4, num_classes=5, embed_dim=8, depth=1, num_heads=2).double().eval()
    x = torch.rand(2, 3, 12, 12).double()
    twin = copy.deepcopy(model)
    for mine, negated in ((model.head, twin.head), (model.head_dist, twin.head_dist)):
        nn.init.normal_(mine.weight)
        negated.weight.data, negated.bias.data = -mine.weight.data, -mine.bias.data
    score = model(x)[:, 1].detach()
    relevance = LRPZBeta(model, conserve=True).attribute(x, target=1)
    torch.testing.assert_close(relevance.flatten(1).sum(1), score, rtol=1e-9, atol=0)
    # CLRP2 is relevance by W less relevance by -W; of the network with -W it is the opposite, if both heads are negated.
    signed, opposite = (ContrastiveLRP2(m).attribute(x, target=1, relu_attributions=False) for m in (model, twin))
    torch.testing.assert_close(signed, -opposite, rtol=1e-6, atol=1e-12)
    assert signed.abs().sum() > 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_values_of_one_sign_lose_nothing(sign: int) -> None:
    # z+ would find no positive contribution where all values of a channel are negative.
    values = sign * (X.abs() + 0.1)
    received, relevance = behind(lambda v: F.scaled_dot_product_attention(Q, K + 0 * v, v), values)
    torch.testing.assert_close(received, dense(scores().softmax(-1), values, relevance), **CLOSE)
    torch.testing.assert_close(received.sum(), relevance.sum(), **CLOSE)


def test_attention_over_constant_values_is_refused() -> None:
    with pytest.raises(UnsupportedOperationError, match="values that do not depend on the inputs"):
        behind(lambda v: F.scaled_dot_product_attention(v, v, torch.ones(2, 3, 5, 4).double()))
