"""The attribution classes as a user meets them: inputs, targets, options, results and errors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.nets import BOX, HIGH, LOW, assert_same, row, segmenter, small_net, small_pictures, two_layer_net
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP,
    ContrastiveLRP1,
    ContrastiveLRP2,
    InvalidInputError,
    InvalidTargetError,
    LRPZBeta,
    ModelStateError,
    TheseClasses,
    class_scores,
)

METHODS = [LRPZBeta, ContrastiveLRP1, ContrastiveLRP2]
CONTRASTS = [ContrastiveLRP1, ContrastiveLRP2]


class TwoInputs(nn.Module):
    """A picture and a few features, summed at the scores; the third input is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(6, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, y: Tensor, unused: Tensor | None = None) -> Tensor:
        return self.head(torch.relu(torch.cat([self.conv(x).mean((2, 3)), self.fc(y)], 1)))


class Scaled(nn.Module):
    """Further arguments: a factor for each example, and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor, factor: Tensor | float = 1.0, shift: bool = False) -> Tensor:
        z = torch.relu(self.fc(x)) * factor
        return z + 1 if shift else z


# --- results


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_results_are_shaped_typed_and_placed_as_inputs_without_a_graph(
    method: type[LRPZBeta], dtype: torch.dtype
) -> None:
    model, x = small_net(dtype=dtype), small_pictures(dtype=dtype).requires_grad_()
    relevance = method(model).attribute(x, target=1)
    assert relevance.shape == x.shape
    assert relevance.dtype == dtype
    assert relevance.device == x.device
    assert not relevance.requires_grad
    assert relevance.grad_fn is None
    assert relevance.isfinite().all()
    assert relevance.count_nonzero() > 0
    assert x.grad is None
    (relevance * 2).sum_to_size(1)  # an ordinary tensor, not one of inference mode
    assert not relevance.is_inference()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_single(dtype: torch.dtype) -> None:
    x = small_pictures()
    single = LRPZBeta(small_net()).attribute(x, target=1)
    half = LRPZBeta(small_net(dtype=dtype)).attribute(x.to(dtype), target=1)
    distance = (half.float() - single).norm() / single.norm()
    assert distance < (0.1 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.parametrize("method", METHODS)
def test_two_calls_give_equal_bytes(method: type[LRPZBeta]) -> None:
    explain, x = method(small_net()), small_pictures()
    assert torch.equal(explain.attribute(x, target=1), explain.attribute(x, target=1))


@pytest.mark.parametrize("method", METHODS)
def test_examples_do_not_depend_on_their_batch(method: type[LRPZBeta]) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(4, torch.float64)
    together = method(model).attribute(x, target=[0, 1, 2, 3])
    for i in range(4):
        assert_same(method(model).attribute(x[i : i + 1], target=i), together[i : i + 1])


@pytest.mark.parametrize("method", METHODS)
def test_the_surrounding_grad_mode_changes_nothing(method: type[LRPZBeta]) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    expected = method(model).attribute(x, target=1)
    for mode in (torch.no_grad(), torch.enable_grad(), torch.inference_mode()):
        with mode:
            inside = x * 1.0  # under inference mode a tensor of its own kind
            assert_same(method(model).attribute(inside, target=1), expected)


def test_memory_format_and_strides_change_nothing() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    expected = ContrastiveLRP2(model).attribute(x, target=1)
    wide = torch.zeros(2, 3, 12, 24).double()
    wide[..., ::2] = x
    for variant in (x.contiguous(memory_format=torch.channels_last), wide[..., ::2]):
        assert_same(ContrastiveLRP2(model).attribute(variant, target=1), expected)
    channels_last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    assert_same(ContrastiveLRP2(channels_last).attribute(x, target=1), expected)


# --- the score, by hand (two_layer_net: scores 1, 0, 2 + bias; see nets.py)


def test_relevance_sums_to_the_score_as_it_is() -> None:
    x = torch.ones(1, 2).double()
    assert_same(LRPZBeta(two_layer_net(), *BOX).attribute(x, target=0), row(1, 0))
    assert_same(LRPZBeta(two_layer_net(), *BOX).attribute(x, target=2), row(1, 1))
    assert_same(LRPZBeta(two_layer_net(bias=-3.0), *BOX).attribute(x, target=0), row(-2, 0))


@pytest.mark.parametrize("method", CONTRASTS)
def test_relu_attributions_keeps_what_speaks_for_the_target(method: type[ContrastiveLRP]) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    signed = method(model).attribute(x, target=1, relu_attributions=False)
    positive = method(model).attribute(x, target=1)
    assert (signed < 0).any()
    assert torch.equal(positive, signed.clamp(min=0))
    several = method(model).attribute_classes(x, [1, 2], relu_attributions=False)
    assert_same(several[:, 0], signed)
    assert torch.equal(method(model).attribute_classes(x, [1, 2]), several.clamp(min=0))


def test_nothing_left_of_a_contrast_is_said() -> None:
    # Classes 0 and 1 of this network look at the same hidden neuron.
    method = ContrastiveLRP(two_layer_net(), *BOX, dual=TheseClasses([1]))
    x = torch.ones(1, 2).double()
    with pytest.warns(UserWarning, match=r"example\(s\) \[0\] is zero everywhere"):
        assert method.attribute(x, target=0).count_nonzero() == 0


# --- inputs


@pytest.mark.parametrize("method", METHODS)
def test_a_tuple_of_inputs_gives_a_tuple(method: type[LRPZBeta]) -> None:
    model = TwoInputs().double().eval()
    nn.init.constant_(model.conv.bias, 3.0)  # both branches are active
    nn.init.constant_(model.fc.bias, 3.0)
    model.head.weight.data[:, ::2].abs_().neg_()  # and each speaks for and against
    model.head.weight.data[:, 1::2].abs_()
    x, y = torch.randn(2, 3, 5, 5).double(), torch.randn(2, 6).double()
    explain = method(model, conserve=True)
    results = explain.attribute((x, y), target=1)
    assert isinstance(results, tuple)
    assert [r.shape for r in results] == [x.shape, y.shape]
    if method is LRPZBeta:
        total = sum(r.flatten(1).sum(1) for r in results)
        assert_same(total, model(x, y)[:, 1].detach())
    assert all(r.count_nonzero() for r in results)
    several = explain.attribute_classes((x, y), [0, 1])
    assert_same(several[0][:, 1], results[0])
    assert_same(several[1][:, 1], results[1])


def test_a_tuple_of_one_input_stays_a_tuple() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    results = LRPZBeta(model).attribute((x,), target=1)
    assert isinstance(results, tuple)
    assert_same(results[0], LRPZBeta(model).attribute(x, target=1))


def test_an_input_that_is_not_used_has_no_relevance() -> None:
    model = TwoInputs().double().eval()
    x, y = torch.randn(2, 3, 5, 5).double(), torch.randn(2, 6).double()
    unused = torch.rand(2, 7).double()
    results = LRPZBeta(model).attribute((x, y, unused), target=1)
    assert results[2].shape == unused.shape
    assert results[2].count_nonzero() == 0


def test_additional_arguments_are_passed_on_and_get_no_relevance() -> None:
    model, x = Scaled().double(), torch.rand(2, 4).double()
    factor = torch.tensor([[2.0], [5.0]]).double()
    plain = LRPZBeta(model).attribute(x, target=1)
    scaled = LRPZBeta(model).attribute(x, target=1, additional_forward_args=factor)
    assert_same(scaled, plain * factor)
    assert_same(LRPZBeta(model).attribute(x, 1, (factor, False)), scaled)
    assert_same(LRPZBeta(model).attribute(x, 1, 3.0), plain * 3)
    shifted, delta = LRPZBeta(model).attribute(x, 1, (1.0, True), return_convergence_delta=True)
    assert_same((shifted.sum(1) + delta), model(x, 1.0, True)[:, 1].detach())
    several = LRPZBeta(model).attribute_classes(x, [1, 2], factor)
    assert_same(several[:, 0], scaled)


def test_a_frozen_model_and_inputs_that_require_gradients_make_no_difference() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    expected = LRPZBeta(model).attribute(x, target=1)
    assert_same(LRPZBeta(model.requires_grad_(False)).attribute(x.requires_grad_(), target=1), expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(1, 3, 12, 12, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 3, 12, 12, dtype=torch.complex64), "complex64"),
        (torch.full((1, 3, 12, 12), float("nan")), r"NaN or infinite, the first at index \(0, 0, 0, 0\)"),
        (torch.full((1, 3, 12, 12), float("inf")), "432 value"),
        (torch.zeros(0, 3, 12, 12), "empty"),
        (torch.tensor(1.0), "empty"),
        ((), "no input"),
        ((torch.zeros(1, 3, 12, 12), "zebra"), "input 1 is a str"),
    ],
)
def test_inputs_that_cannot_be_explained_are_refused(inputs: Any, message: str) -> None:
    explain = LRPZBeta(small_net())
    with pytest.raises(InvalidInputError, match=message):
        explain.attribute(inputs, target=1)


# --- convergence delta


def test_delta_is_the_score_minus_what_arrived() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    relevance, delta = LRPZBeta(model).attribute(x, target=1, return_convergence_delta=True)
    assert delta.shape == (3,)
    with torch.no_grad():
        assert_same(delta, model(x)[:, 1] - relevance.flatten(1).sum(1))
    _, delta = LRPZBeta(model, conserve=True).attribute(x, 1, return_convergence_delta=True)
    assert_same(delta, torch.zeros_like(delta))


@pytest.mark.parametrize("method", CONTRASTS)
def test_delta_of_a_contrast_is_that_of_the_signed_difference(method: type[ContrastiveLRP]) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    explain = method(model)
    signed = explain.attribute(x, target=1, relu_attributions=False)
    _, delta = explain.attribute(x, target=1, return_convergence_delta=True)
    assert_same(delta, -signed.flatten(1).sum(1))
    # With nothing absorbed the target and its dual have the same total.
    explain = method(model, conserve=True)
    signed, delta = explain.attribute(x, 1, None, True, relu_attributions=False)
    assert_same(signed.flatten(1).sum(1), torch.zeros(3).double())
    assert_same(delta, torch.zeros(3).double())


# --- several classes, several parts


@pytest.mark.parametrize("method", METHODS)
def test_attribute_classes_is_as_many_single_calls(method: type[LRPZBeta]) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    explain = method(model)
    maps = explain.attribute_classes(x, [4, 0, 2])
    assert maps.shape == (3, 3, 3, 12, 12)
    for k, target in enumerate([4, 0, 2]):
        assert_same(maps[:, k], explain.attribute(x, target=target))
    assert_same(explain.attribute_classes(x, torch.tensor([4, 0, 2])), maps)
    assert_same(explain.attribute_classes(x, (4, 0, 2)), maps)
    each = torch.tensor([[4, 0], [1, 1], [2, 3]])  # (N, K)
    maps = explain.attribute_classes(x, each)
    assert maps.shape == (3, 2, 3, 12, 12)
    for k in range(2):
        assert_same(maps[:, k], explain.attribute(x, target=each[:, k]))
    assert_same(explain.attribute_classes(x, each.tolist()), maps)
    assert explain.attribute_classes(x, [1]).shape == (3, 1, 3, 12, 12)


@pytest.mark.filterwarnings("ignore:the contrast of example")
@pytest.mark.parametrize("method", METHODS)
def test_attribute_classes_of_outputs_with_positions(method: type[LRPZBeta]) -> None:
    explain, x = method(segmenter()), torch.randn(2, 3, 10, 10).double()
    maps = explain.attribute_classes(x, [(1, 2, 3), (0, 4, 4)])
    assert_same(maps[:, 0], explain.attribute(x, target=(1, 2, 3)))
    assert_same(maps[:, 1], explain.attribute(x, target=(0, 4, 4)))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "empty"),
        ([5], "out of range"),
        ([[0, 1], [2]], "as many classes for each example"),
        (torch.zeros(2, 0, dtype=torch.long), "K classes"),
        (torch.zeros(2, 2, 2, dtype=torch.long), "K classes"),
        (torch.zeros(3, 2, dtype=torch.long), "does not fit"),
    ],
)
def test_bad_classes_are_refused(classes: Any, message: str) -> None:
    with pytest.raises(InvalidTargetError, match=message):
        LRPZBeta(small_net()).attribute_classes(small_pictures(), classes)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("method", METHODS)
def test_parts_of_a_batch_are_put_together_again(method: type[LRPZBeta], size: int) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    target = [4, 0, 2]
    for bounds in ((None, None), (LOW, HIGH), (LOW[0], HIGH[0]), (x - 1, x + 1)):
        explain = method(model, *bounds)
        whole, delta = explain.attribute(x, target, return_convergence_delta=True)
        parts, deltas = explain.attribute(x, target, return_convergence_delta=True, internal_batch_size=size)
        assert_same(parts, whole)
        assert_same(deltas, delta)
    for classes in ([4, 0], torch.tensor([[4, 0], [1, 1], [2, 3]])):
        maps = explain.attribute_classes(x, classes)
        assert_same(explain.attribute_classes(x, classes, internal_batch_size=size), maps)


def test_parts_divide_everything_that_is_counted_by_example() -> None:
    model, x = Scaled().double(), torch.rand(3, 4).double()
    factor = torch.tensor([[2.0], [5.0], [7.0]]).double()
    explain = LRPZBeta(model)
    whole = explain.attribute(x, 1, factor)
    assert_same(explain.attribute(x, 1, factor, internal_batch_size=2), whole)
    start = torch.rand(3, 3).double()
    whole = explain.attribute(x, initial_relevance=start)
    assert_same(explain.attribute(x, initial_relevance=start, internal_batch_size=2), whole)
    whole = explain.attribute(x, initial_relevance=class_scores([0, 1]))
    parts = explain.attribute(x, initial_relevance=class_scores([0, 1]), internal_batch_size=2)
    assert_same(parts, whole)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2"])
def test_a_part_holds_at_least_one_example(size: Any) -> None:
    with pytest.raises(InvalidInputError, match="internal_batch_size"):
        LRPZBeta(small_net()).attribute(small_pictures(), 1, internal_batch_size=size)


# --- options and states


def test_verbose_prints_the_rule_of_every_operation(capsys: pytest.CaptureFixture[str]) -> None:
    LRPZBeta(small_net()).attribute(small_pictures(), target=1, verbose=True)
    printed = capsys.readouterr().out
    assert "conv1: conv2d -> ZBeta" in printed
    assert "conv2: conv2d -> ZPlus" in printed
    LRPZBeta(small_net()).attribute(small_pictures(), target=1)
    assert capsys.readouterr().out == ""


def test_constructor_refuses_what_it_cannot_use() -> None:
    with pytest.raises(InvalidInputError, match="'proportional' or 'even'"):
        LRPZBeta(small_net(), avg_pool="mean")
    with pytest.raises(TypeError, match=r"nn\.Module"):
        LRPZBeta(lambda x: x)  # type: ignore[arg-type]
    model = small_net()
    model.conv1.rule = "z+"
    with pytest.raises(TypeError, match="PropagationRule"):
        LRPZBeta(model)


@pytest.mark.parametrize("module", [nn.BatchNorm1d(4), nn.Dropout(0.5)], ids=lambda m: type(m).__name__)
def test_training_mode_that_would_change_something_is_refused(module: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 4), module, nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelStateError, match=r"1 \(\w+\); call model.eval\(\) first"):
        LRPZBeta(model).attribute(torch.rand(3, 4), target=0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training


def test_training_mode_that_changes_nothing_is_accepted() -> None:
    model = two_layer_net().train()
    assert_same(LRPZBeta(model, *BOX).attribute(torch.ones(1, 2).double(), target=0), row(1, 0))


def test_a_model_without_a_weighted_operation_is_refused() -> None:
    with pytest.raises(ModelStateError, match="no weighted operation"):
        LRPZBeta(nn.ReLU()).attribute(torch.rand(1, 3), target=0)


def test_a_model_whose_output_does_not_depend_on_its_input_is_refused() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(len(x), 2)

    with pytest.raises(ModelStateError, match="does not depend on the inputs"):
        LRPZBeta(Constant()).attribute(torch.rand(1, 3), target=0)


def test_an_output_that_is_not_finite_is_refused() -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, float("inf"))
    with pytest.raises(ModelStateError, match="NaN or infinite"):
        LRPZBeta(model).attribute(torch.rand(1, 2), target=0)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_a_scripted_model_is_refused_and_what_to_do_is_said() -> None:
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2))
    with pytest.raises(ModelStateError, match=r"nn\.Module that it was made from"):
        LRPZBeta(scripted).attribute(torch.rand(1, 2), target=0)


def test_wrappers_are_looked_through() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    expected = ContrastiveLRP2(model).attribute(x, target=1)
    assert_same(ContrastiveLRP2(nn.DataParallel(model)).attribute(x, target=1), expected)
    assert_same(ContrastiveLRP2(torch.compile(model)).attribute(x, target=1), expected)


def test_clrp2_needs_an_output_layer() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x)

    from captum_clrp import UnsupportedOperationError

    with pytest.raises(UnsupportedOperationError, match=r"fc.*ContrastiveLRP1"):
        ContrastiveLRP2(Skip()).attribute(torch.rand(1, 3), target=0)


def test_every_error_is_one_of_ours_and_of_what_captum_raises() -> None:
    from captum_clrp import ContrastiveLRPError, UnsupportedOperationError

    for error, captums in [
        (InvalidInputError, ValueError),
        (InvalidTargetError, AssertionError),
        (ModelStateError, RuntimeError),
        (UnsupportedOperationError, TypeError),
    ]:
        assert issubclass(error, ContrastiveLRPError)
        assert issubclass(error, captums)
