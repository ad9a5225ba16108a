"""Weighted operations as linear maps, and the memory of their derived weights."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers import oracles
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta, weights_at_rest
from captum_clrp.engine import linear_maps
from captum_clrp.engine.linear_maps import Convolution, FullyConnected, LinearMap, Part, ProductMap
from captum_clrp.rules import Epsilon, Flat, Gamma, RelevanceRule, Term, WSquare, ZBeta, ZPlus


def convolution(module: nn.modules.conv._ConvNd) -> Convolution:
    return Convolution(
        module.weight,
        module.bias,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        transposed=module.transposed,
        output_padding=module.output_padding,
    )


CONVOLUTIONS = [
    (nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2), (2, 8)),
    (nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (2, 5, 6)),
    (nn.Conv3d(1, 2, 2, padding=1, stride=2), (1, 3, 2, 3)),
    (nn.ConvTranspose1d(2, 2, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4)),
    (nn.ConvTranspose2d(2, 3, 3, stride=2, dilation=2), (2, 3, 3)),
    (nn.ConvTranspose3d(1, 2, 2, stride=2), (1, 2, 2, 2)),
    # matrix products, for a single example
    (nn.Conv1d(3, 2, 1), (3, 4)),
    (nn.Conv2d(2, 3, 1), (2, 3, 2)),
    (nn.Conv3d(2, 1, 1, dilation=2), (2, 2, 1, 2)),
    # nearly so
    (nn.Conv2d(2, 3, 1, padding=1), (2, 2, 3)),
    (nn.Conv2d(2, 3, 1, stride=(1, 2)), (2, 2, 3)),
    (nn.Conv2d(4, 2, 1, groups=2), (4, 2, 3)),
    (nn.ConvTranspose2d(2, 3, 1), (2, 2, 3)),
]


def assert_is_matrix(layer: LinearMap, weight: Tensor, W: Tensor, shape: tuple[int, ...]) -> None:
    """``apply`` multiplies with W, ``transpose`` with its transpose."""
    for examples in (3, 1):
        x = torch.randn(examples, *shape).double()
        with torch.no_grad():
            z = layer.apply(x, weight)
            torch.testing.assert_close(z.flatten(1), x.flatten(1) @ W.T)
            s = torch.randn_like(z)
            back = layer.transpose(s, weight, x)
        torch.testing.assert_close(back, (s.flatten(1) @ W).reshape(x.shape))


@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS, ids=lambda v: type(v).__name__)
def test_convolution_is_its_matrix(module: nn.Module, shape: tuple[int, ...]) -> None:
    module = copy.deepcopy(module).double()
    W, reach = oracles.module_matrices(module, shape)
    layer = convolution(module)
    assert_is_matrix(layer, module.weight.detach(), W, shape)
    assert_is_matrix(layer, layer.receptive_field(torch.zeros(1, *shape)), reach.double(), shape)


@pytest.mark.parametrize("kernel", [(2, 3), (4, 2)])
def test_uneven_padding_is_what_same_means_for_even_kernels(kernel: tuple[int, int]) -> None:
    module = nn.Conv2d(2, 3, kernel, padding="same").double()
    W, _ = oracles.module_matrices(module, (2, 5, 6))
    totals = [k - 1 for k in reversed(kernel)]
    layer = Convolution(
        module.weight,
        None,
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        groups=1,
        uneven_padding=[side for t in totals for side in (t // 2, t - t // 2)],
    )
    assert_is_matrix(layer, module.weight.detach(), W, (2, 5, 6))


def test_fully_connected_is_its_matrix() -> None:
    module = nn.Linear(4, 3).double()
    layer = FullyConnected(module.weight, module.bias)
    assert_is_matrix(layer, module.weight.detach(), module.weight.detach(), (4,))
    sequence = torch.randn(2, 5, 4).double()
    s = torch.randn(2, 5, 3).double()
    back = layer.transpose(s, module.weight.detach(), sequence)
    torch.testing.assert_close(back, s @ module.weight.detach())


@pytest.mark.parametrize("constant_first", [False, True])
def test_product_with_a_constant_is_its_matrix(constant_first: bool) -> None:
    shape = (3, 4)
    constant = torch.randn(*((5, 3) if constant_first else (4, 5))).double()

    def product(x: Tensor, w: Tensor) -> Tensor:
        return w @ x if constant_first else x @ w

    W = oracles.dense_matrix(lambda x: product(x, constant), shape)
    assert_is_matrix(ProductMap(constant, product), constant, W, shape)


def test_product_that_sums_an_index_away_gives_relevance_memory_of_its_own() -> None:
    layer = ProductMap(torch.rand(2, 3, 4), lambda a, b: torch.einsum("nci,ncj->nc", a, b))
    received = layer.transpose(torch.ones(2, 3), layer.weight, torch.rand(2, 3, 5))
    torch.testing.assert_close(received.mul_(2.0), 2 * layer.weight.sum(2, keepdim=True).expand(2, 3, 5))


def test_base_class_says_what_is_missing() -> None:
    layer = LinearMap(torch.ones(1, 1))
    with pytest.raises(NotImplementedError, match="apply"):
        layer.apply(torch.ones(1, 1), torch.ones(1, 1))
    with pytest.raises(NotImplementedError, match="transpose"):
        layer.transpose(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1))


# --- derived weights


def test_parts_of_weights_and_of_negated_weights() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0, 0.0]]))
    layer = FullyConnected(weight)
    assert layer.full.tolist() == [[1, -2, 0]]
    assert layer.positive.tolist() == [[1, 0, 0]]
    assert layer.negative.tolist() == [[0, -2, 0]]
    assert layer.absolute.tolist() == [[1, 2, 0]]
    dual = layer.with_negated_weights()
    assert dual.negated
    assert not layer.negated
    assert dual.full.tolist() == [[-1, 2, 0]]
    assert dual.positive.tolist() == [[0, 2, 0]]
    assert dual.negative.tolist() == [[-1, 0, 0]]
    assert dual.absolute.tolist() == [[1, 2, 0]]
    assert dual.with_negated_weights().positive.tolist() == layer.positive.tolist()


def test_half_precision_weights_are_derived_in_single_precision() -> None:
    layer = FullyConnected(nn.Parameter(torch.ones(1, 2, dtype=torch.bfloat16)))
    for derived in (layer.full, layer.positive, layer.absolute):
        assert derived.dtype == torch.float32


def test_bias_is_shaped_to_be_added_to_an_output() -> None:
    module = nn.Conv2d(2, 3, 1)
    assert convolution(module).over_outputs(module.bias).shape == (3, 1, 1)
    assert FullyConnected(torch.ones(4, 1)).over_outputs(torch.ones(4)).shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (70000, 2), (3, 100000), (7,), ()])
def test_parts_in_any_shape_and_precision(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight = torch.randn(shape).to(dtype)
    layer = FullyConnected(weight)
    wide = layer.in_double_precision().with_negated_weights()
    for kind, of in (("positive", relu), ("negative", lambda w: -relu(-w)), ("absolute", torch.abs)):
        assert torch.equal(getattr(layer, kind), of(weight.float()))
        assert torch.equal(getattr(wide, kind), of(-weight.double()))


def relu(weight: Tensor) -> Tensor:
    return torch.where(weight > 0, weight, 0.0)


def test_parts_of_both_signs_side_by_side() -> None:
    for module in (nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3)):
        layer = convolution(module)
        expected = torch.cat((relu(module.weight), -relu(-module.weight)), 0 if layer.transposed else 1)
        assert torch.equal(layer.both_signs, expected)
        dual = torch.cat((relu(-module.weight), -relu(module.weight)), 0 if layer.transposed else 1)
        assert torch.equal(layer.with_negated_weights().both_signs, dual)


# -- large fully connected layers, some outputs at a time ---------------------------------------------------------------


class OwnRule(ZPlus):
    """Takes its weights whole, how large they are beside the largest one, and gives zeros their share."""

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        return (Term(activations + 1, layer.positive / layer.positive.max()),)


RULES: dict[str, Callable[[], RelevanceRule]] = {
    "z+": ZPlus,
    "z^beta": lambda: ZBeta(-1.0, 1.0),
    "epsilon": lambda: Epsilon(1e-3, bias=True),
    "gamma": Gamma,
    "w^2": WSquare,
    "flat": Flat,
    "one's own": OwnRule,
}


def large(rule: RelevanceRule | None) -> nn.Sequential:
    torch.manual_seed(3)
    layers = nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 10), nn.ReLU(), nn.Linear(10, 4)
    model = nn.Sequential(*layers).double().eval()
    if rule is not None:
        model[2].rule = model[4].rule = rule
    return model


def in_parts(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Take every layer in parts, a fully connected one in blocks of two or three outputs; what was so taken."""
    taken: list[Part] = []

    def watch(kind: type[LinearMap]) -> None:
        parts = kind.parts

        def watched(self: LinearMap, *args: Any, **settings: Any) -> Iterator[Part] | None:
            found = list(parts(self, *args, **settings) or ())
            taken.extend(found)
            return iter(found)

        monkeypatch.setattr(kind, "parts", watched)

    monkeypatch.setattr(linear_maps, "_LARGE", 1)
    monkeypatch.setattr(linear_maps, "_BLOCK", 160)
    monkeypatch.setattr(linear_maps, "_FEW", math.inf)
    monkeypatch.setattr(linear_maps, "_HEAVY", 1)
    monkeypatch.setattr(linear_maps, "_WORTHWHILE", 2.0)
    watch(FullyConnected)
    watch(Convolution)
    return taken


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("conserve", [False, True])
def test_a_layer_in_blocks_shares_relevance_as_the_whole_one(
    rule: str, conserve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = large(RULES[rule]()), torch.randn(3, 5, 6, dtype=torch.float64)
    initial = torch.randn(3, 5, 4, dtype=torch.float64)
    lrp = LRPZBeta(model, -9.0, 9.0, conserve=conserve)
    whole = lrp.attribute(x, initial_relevance=initial)
    taken = in_parts(monkeypatch)
    torch.testing.assert_close(lrp.attribute(x, initial_relevance=initial), whole, rtol=1e-11, atol=1e-13)
    assert any(part.layer.weight.size(1) == 9 for part in taken) == (rule != "one's own")


@pytest.mark.parametrize("contrast", [ContrastiveLRP1, ContrastiveLRP2])
def test_contrasts_of_several_classes_are_the_same_in_blocks(
    contrast: type[ContrastiveLRP1], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = large(None).float(), torch.rand(3, 6)
    explainer = contrast(model, 0.0, 1.0)
    whole = explainer.attribute_classes(x, [0, 1, 3])
    single = explainer.attribute(x, 3, relu_attributions=False)
    taken = in_parts(monkeypatch)
    torch.testing.assert_close(explainer.attribute_classes(x, [0, 1, 3]), whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(explainer.attribute(x, 3, relu_attributions=False), single, rtol=1e-4, atol=1e-6)
    assert taken


def parts_of(layer: LinearMap, activations: Tensor, relevance: Tensor, **settings: bool) -> list[Part] | None:
    live = layer.live_outputs(activations, relevance)
    if live is None:
        return None
    parts = layer.parts(activations, live, **{"without_zeros": True, "together": False, **settings})
    return None if parts is None else list(parts)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("kept", [False, True])
def test_blocks_have_every_live_output_once_and_the_weights_of_a_matrix(every: int, kept: bool) -> None:
    with weights_at_rest() if kept else contextlib.nullcontext():
        layer = FullyConnected(nn.Parameter(torch.randn(1100, 4096)), torch.randn(1100)).with_negated_weights()
    relevance = torch.zeros(8, 1100)
    relevance[4:, ::every] = torch.randn(4, len(range(0, 1100, every)))
    parts = parts_of(layer, torch.rand(8, 4096), relevance)
    assert parts is not None
    outputs = [torch.arange(1100)[part.outputs] for part in parts]
    assert torch.cat(outputs).tolist() == list(range(0, 1100, every))
    for of, part in zip(outputs, parts, strict=True):
        assert torch.equal(part.layer.positive, layer.positive[of])
        assert torch.equal(part.layer.bias, layer.bias[of])
        assert torch.equal(part.of_outputs(relevance), relevance[:, of])
    assert len(parts) == (5 if every == 1 else 2)


@pytest.mark.parametrize(
    ("outputs", "rows", "double", "count"),
    [(480, 1, False, None), (480, 1, True, 4), (1000, 1, False, 4), (1000, 8, False, 4), (1000, 9, False, None)],
)
def test_a_matrix_is_taken_in_blocks_for_few_activations(
    outputs: int, rows: int, double: bool, count: int | None
) -> None:
    layer: LinearMap = FullyConnected(torch.randn(outputs, 4096))
    layer = layer.in_double_precision() if double else layer
    parts = parts_of(layer, torch.rand(rows, 4096), torch.ones(rows, outputs))
    assert (None if parts is None else len(parts)) == count


# -- large convolutions, without the channels that take no part -----------------------------------------------------------


def with_dead_channels(rule: RelevanceRule | None) -> nn.Sequential:
    """Half of the channels of each convolution are zero for any input, the others for none."""
    torch.manual_seed(5)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, (3, 2), stride=2, padding=1), nn.ReLU())
    model = nn.Sequential(*layers, nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(160, 5)).double().eval()
    with torch.no_grad():
        for layer in model[:5:2]:
            layer.bias[::2], layer.bias[1::2] = -99.0, 30.0
        model[4].weight.abs_()
    if rule is not None:
        model[2].rule = model[4].rule = rule
    return model


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("conserve", [False, True])
def test_a_layer_without_its_dead_channels_shares_relevance_as_the_whole_one(
    rule: str, conserve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = with_dead_channels(RULES[rule]()), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    lrp = LRPZBeta(model, -9.0, 9.0, conserve=conserve)
    whole, of_all = lrp.attribute(x, 2), lrp.attribute_classes(x, [0, 1, 4])
    taken = in_parts(monkeypatch)
    torch.testing.assert_close(lrp.attribute(x, 2), whole, rtol=1e-10, atol=1e-12)
    leaves_zeros_out = rule in ("z+", "epsilon", "gamma")  # the others give relevance to zeros, too
    sizes = [part.layer.weight.size(0) for part in taken if part.layer.weight.dim() == 4]
    assert sizes == {  # from the last layer to the first, which has z^beta; examples apart or together
        "z^beta": [4] * 3 + [6] * 3 + [8] * 3,
        "w^2": [4, 6] + [8] * 3,
        "flat": [4, 6] + [8] * 3,
        "one's own": [8] * 3,  # whose terms are not those of z+: it inherits no claim about them
    }.get(rule, [4] * 3 + [3] * 3 + [4] * 3)
    if rule != "one's own":
        seen = {part.layer.weight.size(1) for part in taken if part.layer.weight.shape[2:] == (3, 2)}
        assert seen == {4 if leaves_zeros_out and not conserve else 8}
    torch.testing.assert_close(lrp.attribute_classes(x, [0, 1, 4]), of_all, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", [LRPZBeta, ContrastiveLRP1])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("outside", ["error", None])
@pytest.mark.filterwarnings("ignore:precision=.bfloat16")
def test_a_batch_in_pieces_is_the_batch(
    method: type[LRPZBeta], precision: str, outside: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds of each example by itself, too: that is what z^beta holds a tensor of."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(320, 4))
    model, x = nn.Sequential(*layers).eval(), torch.randn(5, 3, 19, 19) * torch.arange(1.0, 6).view(-1, 1, 1, 1)
    bounds = (-99.0, 99.0) if outside else (None, None)
    explainer = method(model, *bounds, precision=precision)  # type: ignore[arg-type]
    whole = explainer.attribute(x, 2)
    made: list[Part] = []
    monkeypatch.setattr(linear_maps, "_HEAVY", 0)
    monkeypatch.setattr(linear_maps, "_PIECE", 2 * 6 * 19 * 19 * (2 if precision == "bfloat16" else 4))
    pieces = Convolution._pieces

    def watched(layer: Convolution, activations: Tensor) -> Iterator[Part] | None:
        found = list(pieces(layer, activations) or [])
        made.extend(found)
        return iter(found) if found else None

    monkeypatch.setattr(Convolution, "_pieces", watched)
    found = explainer.attribute(x, 2)
    assert [(part.examples.start, part.examples.stop) for part in made] == 2 * [(0, 2), (2, 4), (4, 6)]
    torch.testing.assert_close(
        found, whole, rtol=0, atol=(1e-2 if precision == "bfloat16" else 1e-6) * float(whole.max())
    )
    assert whole.flatten(1).any(1).all()
    made.clear()
    explainer.attribute_classes(x, [0, 1])
    assert not made  # what is kept for further classes is kept whole


@pytest.mark.parametrize("method", ["terms", "factors", "complete_denominator"])
def test_a_rule_with_methods_of_its_own_inherits_no_claim_about_them(method: str) -> None:
    claims = ("by_output", "by_example", "zeros_receive_nothing", "starts_with_output")
    own = type("Own", (Epsilon,), {method: getattr(Epsilon, method)})
    assert all(getattr(Epsilon, claim) for claim in claims)
    assert not any(getattr(own, claim) for claim in claims)
    assert type("Claiming", (Epsilon,), {method: getattr(Epsilon, method), "by_output": True}).by_output
    assert type("Named", (Epsilon,), {}).by_example


def test_bounds_of_each_example_go_with_it() -> None:
    x, each = torch.rand(3, 2, 4, 4), torch.tensor([-1.0, -2.0, -3.0]).view(3, 1, 1, 1)
    pair = slice(1, 3)
    for bound in (each, each.numpy(), each.expand(3, 2, 4, 4)):
        rule = ZBeta(bound, 9.0).of_examples(pair, x)
        assert isinstance(rule, ZBeta) and rule.high == 9.0
        assert torch.equal(torch.as_tensor(rule.low)[:, 0, 0, 0], torch.tensor([-2.0, -3.0]))
    for bound in (-1.0, torch.tensor(-1.0), torch.rand(1, 2, 1, 1), torch.rand(3, 1, 1)):
        rule = ZBeta(bound, 9.0)
        assert rule.of_examples(pair, x) is rule


def test_a_class_that_reaches_further_outputs_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = with_dead_channels(None), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        model[7].weight.zero_()
        model[7].weight[0, 20:40] = model[7].weight[1, 60:80] = model[7].weight[2, 100:120] = 1.0  # channels 1, 3, 5
    lrp = LRPZBeta(model, 0.0, 1.0)
    whole = torch.stack([lrp.attribute(x, k) for k in (0, 1, 2, 0)], 1)
    assert all(whole[:, k].any() for k in range(4))
    taken = in_parts(monkeypatch)
    torch.testing.assert_close(lrp.attribute_classes(x, [0, 1, 2, 0]), whole, rtol=1e-10, atol=1e-12)
    in_front = [part.layer.weight.size(0) for part in taken if part.layer.weight.shape[2:] == (1, 1)]
    assert in_front == [1, 2, 3]  # for the last class it has what it needs


def test_no_relevance_gives_none_and_nan_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = with_dead_channels(None), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    lrp = LRPZBeta(model, 0.0, 1.0)
    in_parts(monkeypatch)
    assert not lrp.attribute(x, initial_relevance=torch.zeros(2, 5, dtype=torch.float64)).any()
    layer = Convolution(torch.ones(2, 1, 1, 1), None, stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1)
    live = layer.live_outputs(
        torch.ones(1, 1, 2, 2), torch.tensor([[0.0, 0.0], [0.0, -1.0], [float("nan"), 0.0]]).view(1, 3, 1, 2)
    )
    assert live is not None and live.tolist() == [[False, True, True]]


@pytest.mark.parametrize("places", [(5,), (5, 3), (2, 5, 3)])
@pytest.mark.parametrize("size", [-1.0, 1.0])
def test_a_channel_lives_wherever_it_is_not_zero(
    places: tuple[int, ...], size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_maps, "_HEAVY", 0)
    dimensions, count = len(places), math.prod(places)
    settings = {"stride": [1] * dimensions, "padding": [0] * dimensions, "dilation": [1] * dimensions, "groups": 1}
    layer = Convolution(torch.ones(count + 1, 2, *[1] * dimensions), None, **settings)
    relevance = torch.cat((torch.eye(count) * size, torch.zeros(1, count))).view(1, count + 1, *places)
    live = layer.live_outputs(torch.ones(1, 2, *places), relevance)
    assert live is not None and live.tolist() == [[True] * count + [False]]
    live = layer.live_outputs(torch.ones(1, 2, *places), relevance[:, :-1])
    assert live is not None and live.all()


@pytest.mark.parametrize(("dead", "parts"), [(0, None), (8, None), (32, 2)])
def test_a_convolution_is_taken_without_channels_where_many_are_dead(dead: int, parts: int | None) -> None:
    module = nn.Conv2d(128, 128, 3, padding=1)
    x, relevance = torch.rand(2, 128, 24, 24), torch.rand(2, 128, 24, 24)
    relevance[:, :dead] = 0
    found = parts_of(convolution(module), x, relevance)
    assert (None if found is None else len(found)) == parts
    together = parts_of(convolution(module), x, relevance, together=True)
    assert (None if together is None else len(together)) == (parts and 1)
    brief = parts_of(convolution(module).in_low_precision(), x, relevance)
    assert brief is None  # for a quarter of the channels
    small = parts_of(convolution(module), x[..., :8, :8], relevance[..., :8, :8])
    assert small is None
