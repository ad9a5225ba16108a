"""What is explained: targets and initial relevance, as a user gives them and as they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.nets import assert_same, row, segmenter, small_net, small_pictures, two_layer_net
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, InvalidTargetError, LRPZBeta, class_scores
from captum_clrp.targets import target_scores

METHODS = [LRPZBeta, ContrastiveLRP1, ContrastiveLRP2]
OUTPUT = row(4, 1, -3, 0)


# --- targets


@pytest.mark.parametrize("method", METHODS)
def test_targets_in_every_form_of_captum(method: type[LRPZBeta]) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    explain = method(model)
    expected = explain.attribute(x, target=2)
    for target in (torch.tensor(2), torch.tensor([2]), [2, 2, 2], np.int64(2), torch.full((3,), 2)):
        assert_same(explain.attribute(x, target=target), expected)
    each = torch.cat([explain.attribute(x[i : i + 1], target=t) for i, t in enumerate([4, 0, 2])])
    for target in ([4, 0, 2], torch.tensor([4, 0, 2]), [np.int32(4), 0, 2]):
        assert_same(explain.attribute(x, target=target), each)


@pytest.mark.filterwarnings("ignore:the contrast of example")
@pytest.mark.parametrize("method", METHODS)
def test_targets_of_outputs_of_more_than_two_dimensions(method: type[LRPZBeta]) -> None:
    model, x = segmenter(), torch.randn(2, 3, 10, 10).double()
    explain = method(model)
    one = explain.attribute(x, target=(1, 2, 3))
    assert_same(explain.attribute(x, target=[(1, 2, 3), (1, 2, 3)]), one)
    other = explain.attribute(x, target=(0, 4, 4))
    assert_same(explain.attribute(x, target=[(1, 2, 3), (0, 4, 4)]), torch.cat([one[:1], other[1:]]))
    # The neuron at (2, 3) sees the 3 x 3 pixels around (4, 6).
    seen = torch.zeros(10, 10, dtype=torch.bool)
    seen[3:6, 5:8] = True
    assert one[..., ~seen].count_nonzero() == 0
    assert one[..., seen].count_nonzero() > 0


@pytest.mark.parametrize("squeeze", [False, True])
def test_no_target_for_one_output(squeeze: bool) -> None:
    layers: list[nn.Module] = [nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)]
    if squeeze:
        layers.append(nn.Flatten(0))  # (N,)
    model, x = nn.Sequential(*layers).double(), torch.rand(3, 4).double()
    model[0].weight.data.abs_()
    model[2].weight.data.copy_(torch.tensor([[1.0, -1.0, 2.0]]))
    relevance = LRPZBeta(model, conserve=True).attribute(x)
    assert_same(relevance.sum(1), model(x).detach().flatten())
    contrast = ContrastiveLRP2(model, conserve=True)
    signed = contrast.attribute(x, relu_attributions=False)
    assert_same(signed.sum(1), torch.zeros(3).double())
    assert signed.count_nonzero() > 0
    if not squeeze:
        assert_same(LRPZBeta(model, conserve=True).attribute(x, target=0), relevance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [5, -1, [0, 1, 2], None, 1.5, True, (0, 1), "zebra", torch.tensor([0.0, 1.0])])
def test_a_bad_target_is_captums_error_and_says_what_fits(method: type[LRPZBeta], target: Any) -> None:
    explain = method(small_net())
    for error in (InvalidTargetError, AssertionError, IndexError, ValueError):
        with pytest.raises(error, match=r"target|give"):
            explain.attribute(small_pictures(), target=target)
    assert explain.attribute(small_pictures(), target=1).isfinite().all()


class ManyOutputs(nn.Module):
    """Returns what several heads say, packed in some way."""

    def __init__(self, pack: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.a(x), self.b(x))


@pytest.mark.parametrize(
    ("pack", "first", "second"),
    [(lambda a, b: {"out": a, "aux": b}, "out", "aux"), (lambda a, b: (a, b), 0, 1), (lambda a, b: [a, b], 0, 1)],
    ids=["dict", "tuple", "list"],
)
def test_a_tuple_target_names_one_of_several_outputs(pack: Any, first: Any, second: Any) -> None:
    model, x = ManyOutputs(pack).double(), torch.rand(2, 4).double()
    explain = LRPZBeta(model)
    assert_same(explain.attribute(x, target=(first, 2)), LRPZBeta(model.a).attribute(x, target=2))
    assert_same(explain.attribute(x, target=(second, 1)), LRPZBeta(model.b).attribute(x, target=1))
    with pytest.raises(InvalidTargetError, match="does not say which one"):
        explain.attribute(x, target=2)


def test_a_packed_single_output_needs_no_name() -> None:
    model = ManyOutputs(lambda a, b: {"out": a}).double()
    x = torch.rand(2, 4).double()
    assert_same(LRPZBeta(model).attribute(x, target=2), LRPZBeta(model.a).attribute(x, target=2))


# --- initial relevance


@pytest.mark.parametrize("method", METHODS)
def test_initial_relevance_is_a_tensor_or_a_function_of_the_output(method: type[LRPZBeta]) -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    explain = method(model)
    with torch.no_grad():
        score = torch.zeros(2, 5).double()
        score[:, 1] = model(x)[:, 1]
    if method is not LRPZBeta:
        score = score.abs()
    expected = explain.attribute(x, target=1)
    assert_same(explain.attribute(x, initial_relevance=score), expected)
    assert_same(explain.attribute(x, initial_relevance=lambda output: score), expected)


def test_the_function_gets_the_output() -> None:
    model, x = small_net(), small_pictures()
    seen: list[Tensor] = []
    LRPZBeta(model).attribute(x, initial_relevance=lambda output: seen.append(output) or output)
    with torch.no_grad():
        torch.testing.assert_close(seen[0], model(x))
    assert not seen[0].requires_grad


def test_initial_relevance_of_several_classes_and_of_a_region() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    explain = LRPZBeta(model)
    both = explain.attribute(x, initial_relevance=class_scores([1, 3]))
    assert_same(both, explain.attribute(x, target=1) + explain.attribute(x, target=3))
    net, picture = segmenter(), torch.randn(1, 3, 10, 10).double()
    explain = LRPZBeta(net)
    region = torch.zeros(1, 4, 5, 5).double()
    region[:, 2, 1:3, 1:3] = 1.0
    whole = explain.attribute(picture, initial_relevance=lambda output: output * region)
    parts = [explain.attribute(picture, target=(2, i, j)) for i in (1, 2) for j in (1, 2)]
    assert_same(whole, torch.stack(parts).sum(0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (torch.zeros(2, 4), r"shape \(2, 4\) does not fit the output of shape \(2, 5\)"),
        (torch.zeros(5), r"shape \(5,\)"),
        (lambda output: output[:1], r"shape \(1, 5\)"),
        (lambda output: 1.0, "type float"),
        ([1.0], "type list"),
        (torch.full((2, 5), float("nan")), "NaN"),
    ],
)
def test_initial_relevance_that_does_not_fit_is_refused(method: type[LRPZBeta], initial: Any, message: str) -> None:
    with pytest.raises(InvalidTargetError, match=message):
        method(small_net()).attribute(small_pictures(), initial_relevance=initial)


def test_class_scores_start_at_several_classes() -> None:
    assert_same(class_scores([0, 2])(OUTPUT), row(4, 0, -3, 0))
    # The multi-class explanation of the paper is the sum of the explanations of its classes.
    model, x = two_layer_net(), torch.rand(3, 2).double()
    method = LRPZBeta(model)
    together = method.attribute(x, initial_relevance=class_scores([0, 2]))
    assert_same(together, method.attribute(x, target=0) + method.attribute(x, target=2))


def test_target_scores_take_every_form_of_captum() -> None:
    output = torch.arange(1.0, 7.0).reshape(2, 3)
    first = torch.tensor([[0.0, 2.0, 0.0], [0.0, 5.0, 0.0]])
    each = torch.tensor([[0.0, 0.0, 3.0], [4.0, 0.0, 0.0]])
    for target in (1, torch.tensor(1), torch.tensor([1]), np.int64(1), [1, 1]):
        assert_same(target_scores(output, target), first)
    for target in ([2, 0], torch.tensor([2, 0]), [np.int32(2), np.int32(0)]):
        assert_same(target_scores(output, target), each)
    volume = torch.arange(1.0, 13.0).reshape(2, 2, 3)
    for target in ((1, 2), [(1, 2), (1, 2)]):
        expected = torch.zeros_like(volume)
        expected[:, 1, 2] = volume[:, 1, 2]
        assert_same(target_scores(volume, target), expected)
    expected = torch.zeros_like(volume)
    expected[0, 0, 1], expected[1, 1, 0] = 2.0, 10.0
    assert_same(target_scores(volume, [(0, 1), (1, 0)]), expected)
    for output in (torch.tensor([5.0, 6.0]), torch.tensor([[5.0], [6.0]])):
        assert_same(target_scores(output, None), output)


@pytest.mark.parametrize(
    ("target", "shape", "message"),
    [
        (3, (2, 3), "out of range"),
        (-1, (2, 3), "class from 0 to 2"),
        ([0, 1, 2], (2, 3), "does not fit"),
        (torch.tensor([0, 1, 2]), (2, 3), "target tensor of shape"),
        (None, (2, 3), "give a class from 0 to 2"),
        (1.0, (2, 3), "integers"),
        (True, (2, 3), "integers"),
        (torch.tensor([0.0, 1.0]), (2, 3), "integers"),
        ((0, 5), (2, 3, 4), "tuple of 2 indices"),
        ((0, 1), (2, 3), "does not fit|out of range"),
        (1, (2, 3, 4), "tuple of 2 indices"),
        ([(0, 1)], (2, 3, 4), "does not fit"),
        ("zebra", (2, 3), "integers|does not fit"),
    ],
)
def test_a_target_that_does_not_fit_says_what_would(target, shape, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidTargetError, match=message):
        target_scores(torch.rand(shape), target)
