"""Dual concepts and initial relevance, by hand-worked numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import oracles
from helpers.nets import BOX, assert_same, row, small_pictures, two_layer_net
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP,
    ContrastiveLRP1,
    ContrastiveLRP2,
    DualConcept,
    InvalidInputError,
    InvalidTargetError,
    LayerContrastiveLRP,
    LayerContrastiveLRP1,
    LayerContrastiveLRP2,
    LRPZBeta,
    NearestRivals,
    NegatedWeights,
    NeuronContrastiveLRP2,
    OtherClasses,
    OtherLogits,
    SoftmaxGradient,
    TheseClasses,
    check_conservation,
)
from captum_clrp.contrast import contrast_named

OUTPUT = row(4, 1, -3, 0)
SCORE = row(4, 0, 0, 0)


# --- what each dual concept receives


def test_other_classes_share_the_score_uniformly() -> None:
    assert_same(OtherClasses().signed(OUTPUT, SCORE), row(4, -4 / 3, -4 / 3, -4 / 3))


def test_these_classes_share_the_score_uniformly_and_the_target_is_left_out() -> None:
    assert_same(TheseClasses([2]).signed(OUTPUT, SCORE), row(4, 0, -4, 0))
    assert_same(TheseClasses([1, 3]).signed(OUTPUT, SCORE), row(4, -2, 0, -2))
    assert_same(TheseClasses([0, 1]).signed(OUTPUT, SCORE), row(4, -4, 0, 0))


def test_other_logits_share_the_score_by_their_sizes() -> None:
    assert_same(OtherLogits().signed(OUTPUT, SCORE), row(4, -1, -3, 0))


def test_nearest_rivals_share_the_score_evenly() -> None:
    # Logits 4, 1, -3, 0: the rivals of class 0 are 1, then 3, then 2; of class 3 they are 0, then 1.
    assert_same(NearestRivals(1).signed(OUTPUT, SCORE), row(4, -4, 0, 0))
    assert_same(NearestRivals(2).signed(OUTPUT, SCORE), row(4, -2, 0, -2))
    assert_same(NearestRivals(3).signed(OUTPUT, SCORE), OtherClasses().signed(OUTPUT, SCORE))
    assert_same(NearestRivals(2).signed(OUTPUT, row(0, 0, 0, 8)), row(-4, -4, 0, 8))


def test_rivals_are_those_of_each_image_and_position_and_of_equal_ones_the_first() -> None:
    output = torch.tensor([[5.0, 1, 2], [5, 2, 1], [5, 2, 2]]).double()
    initial = torch.tensor([[6.0, 0, 0]] * 3).double()
    expected = torch.tensor([[6.0, 0, -6], [6, -6, 0], [6, -6, 0]]).double()
    assert_same(NearestRivals(1).signed(output, initial), expected)
    by_position, of_position = output.T[None], initial.T[None].clone()  # the same as one picture of three positions
    assert_same(NearestRivals(1).signed(by_position, of_position), expected.T[None])
    of_position[..., 1] = 0.0
    assert NearestRivals(1).signed(by_position, of_position)[..., 1].count_nonzero() == 0


def test_more_rivals_than_there_are_other_classes_are_refused() -> None:
    with pytest.raises(
        InvalidTargetError, match=r"NearestRivals\(4\) needs 4 classes .* there are 3; give a k from 1 to 3"
    ):
        NearestRivals(4).signed(OUTPUT, SCORE)
    with pytest.raises(InvalidTargetError, match="there are 2"):
        NearestRivals(3).signed(OUTPUT, row(4, 1, 0, 0))
    with pytest.raises(InvalidTargetError, match="no other class is left"):
        NearestRivals(1).signed(row(1, 2), row(1, 2))


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2", None])
def test_a_number_of_rivals_is_a_whole_one(k: Any) -> None:
    with pytest.raises(InvalidInputError, match="whole number of at least 1"):
        NearestRivals(k)


def test_negated_weights_receive_the_score_by_another_rule() -> None:
    assert NegatedWeights().negates_output_layer
    assert_same(NegatedWeights().signed(OUTPUT, SCORE), SCORE)


def test_softmax_gradient_is_that_of_the_probability() -> None:
    # Logits ln 2, 0, 0: probabilities 1/2, 1/4, 1/4. Seed p_t (1 - p_t) and -p_t p_k.
    output = row(math.log(2), 0, 0)
    assert_same(SoftmaxGradient().signed(output, row(9, 0, 0)), row(1 / 4, -1 / 8, -1 / 8))


def test_every_dual_gets_as_much_as_the_concept() -> None:
    for dual in (OtherClasses(), TheseClasses([1, 2]), NearestRivals(2), OtherLogits(), SoftmaxGradient()):
        total = dual.signed(OUTPUT, SCORE).sum(1)
        torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-12, rtol=0)


def test_several_explained_classes_have_the_rest_for_a_dual() -> None:
    # Multi-class explanation: scores 4 and 1 against 2.5 on each of the two others.
    assert_same(OtherClasses().signed(OUTPUT, row(4, 1, 0, 0)), row(4, 1, -2.5, -2.5))


def test_duals_act_example_by_example_and_position_by_position() -> None:
    output = torch.zeros(1, 3, 1, 2).double()
    initial = torch.zeros_like(output)
    initial[0, 0, 0, 0] = 6.0
    initial[0, 2, 0, 1] = 4.0
    expected = torch.tensor([[[[6.0, -2.0]], [[-3.0, -2.0]], [[-3.0, 4.0]]]]).double()
    assert_same(OtherClasses().signed(output, initial), expected)
    # A position that nobody asked about stays without relevance.
    initial[0, 2, 0, 1] = 0.0
    assert OtherClasses().signed(output, initial)[..., 1].count_nonzero() == 0


def test_a_dual_without_another_class_is_refused() -> None:
    one = torch.ones(2, 1)
    for dual in (OtherClasses(), OtherLogits()):
        with pytest.raises(InvalidTargetError, match="ContrastiveLRP2"):
            dual.signed(one, one)
    with pytest.raises(InvalidTargetError, match="no other class is left"):
        OtherClasses().signed(row(1, 2), row(1, 2))
    with pytest.raises(InvalidTargetError, match="no other class is left"):
        TheseClasses([0]).signed(OUTPUT, SCORE)


@pytest.mark.parametrize("classes", [[4], [-1], []])
def test_dual_classes_out_of_range_are_refused(classes: list[int]) -> None:
    with pytest.raises(InvalidTargetError, match="4 classes; give indices from 0 to 3"):
        TheseClasses(classes).signed(OUTPUT, SCORE)


def test_duals_print_what_they_are() -> None:
    assert repr(TheseClasses([1, 2])) == "TheseClasses([1, 2])"
    assert repr(OtherClasses()) == "OtherClasses()"
    assert repr(NearestRivals(5)) == "NearestRivals(5)"


def test_the_base_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="relevance"):
        DualConcept().signed(OUTPUT, SCORE)


# --- their maps through a network worked by hand
#
# two_layer_net at x = (1, 1): hidden activations (1, 2), scores (1, 0, 2). Relevance of hidden unit 1
# goes to input 1, that of hidden unit 2 evenly to both. Output weights (3, -1), (2, -1), (0, 1):
# classes 0 and 1 send their relevance to hidden unit 1, class 2 to hidden unit 2.


@pytest.mark.parametrize(
    ("dual", "signed"),
    [
        (OtherClasses(), row(1 - 1 / 2 - 1 / 4, -1 / 4)),
        (NegatedWeights(), row(1 - 1 / 2, -1 / 2)),
        (TheseClasses([1]), row(0, 0)),
        (TheseClasses([2]), row(1 - 1 / 2, -1 / 2)),
        (NearestRivals(1), row(1 - 1 / 2, -1 / 2)),  # class 2
        (OtherLogits(), row(1 - 1 / 2, -1 / 2)),  # sizes 0 and 2: all to class 2
    ],
    ids=repr,
)
def test_contrast_of_two_hidden_neurons_by_hand(dual: DualConcept, signed: Tensor) -> None:
    method = ContrastiveLRP(two_layer_net(), *BOX, dual=dual)
    x = torch.ones(1, 2).double()
    assert_same(method.attribute(x, target=0, relu_attributions=False), signed)
    assert_same(method.attribute(x, target=0), signed.clamp(min=0))


def test_softmax_gradient_through_the_network_by_hand() -> None:
    p = torch.tensor([1.0, 0.0, 2.0]).double().softmax(0)
    seed = p[0] * (torch.tensor([1.0, 0.0, 0.0]) - p)
    unit1, unit2 = seed[0] + seed[1], seed[2]
    method = ContrastiveLRP(two_layer_net(), *BOX, dual=SoftmaxGradient())
    relevance = method.attribute(torch.ones(1, 2).double(), target=0, relu_attributions=False)
    assert_same(relevance, row(float(unit1 + unit2 / 2), float(unit2 / 2)))


def test_the_named_classes_are_the_general_one_with_their_dual() -> None:
    model, x = two_layer_net(), torch.rand(3, 2).double()
    for named, dual in [(ContrastiveLRP1, OtherClasses()), (ContrastiveLRP2, NegatedWeights())]:
        expected = ContrastiveLRP(model, dual=dual).attribute(x, target=2)
        torch.testing.assert_close(named(model).attribute(x, target=2), expected, rtol=0, atol=0)


def test_a_negative_score_is_signed_in_lrp_and_a_magnitude_in_contrasts() -> None:
    model, x = two_layer_net(bias=-3.0), torch.ones(1, 2).double()  # score of class 0: -2
    assert_same(LRPZBeta(model, *BOX).attribute(x, target=0), row(-2, 0))
    for method, expected in [
        (ContrastiveLRP1(model, *BOX), row(0.5, -0.5)),
        (ContrastiveLRP2(model, *BOX), row(1, -1)),
    ]:
        assert_same(method.attribute(x, target=0, relu_attributions=False), expected)


def test_a_users_dual_is_one_method() -> None:
    class LastClass(DualConcept):
        def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
            result = torch.zeros_like(output)
            result[:, -1] = initial.sum(1)
            return result

    model, x = two_layer_net(), torch.ones(1, 2).double()
    method = ContrastiveLRP(model, *BOX, dual=LastClass())
    assert_same(method.attribute(x, target=0, relu_attributions=False), row(0.5, -0.5))


def test_one_output_has_a_contrast_by_negated_weights_only() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    x = torch.rand(1, 2).double()
    assert ContrastiveLRP2(model).attribute(x).shape == x.shape
    with pytest.raises(InvalidTargetError, match="ContrastiveLRP2"):
        ContrastiveLRP1(model).attribute(x)


# --- strength: how much of the dual is subtracted


def parts(dual: DualConcept, output: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """What the concept and the dual start with, each written out for one class."""
    m = output.shape[1]
    at_target = torch.eye(m, dtype=torch.float64)[target].expand_as(output)
    elsewhere, score = 1 - at_target, output[:, [target]].abs()
    match dual:
        case NegatedWeights():
            return score * at_target, score * at_target
        case OtherClasses():
            return score * at_target, score * elsewhere / (m - 1)
        case TheseClasses(classes=classes):
            chosen = torch.zeros(m, dtype=torch.float64)
            chosen[classes] = 1 / len(classes)
            return score * at_target, score * chosen
        case NearestRivals(k=k):
            dual_part = torch.zeros_like(output)
            for one, scores in zip(dual_part, output, strict=True):
                rivals = sorted((c for c in range(m) if c != target), key=lambda c, s=scores: -s[c])
                one[rivals[:k]] = scores[target].abs() / k
            return score * at_target, dual_part
        case OtherLogits():
            sizes = output.abs() * elsewhere
            return score * at_target, score * sizes / sizes.sum(1, keepdim=True)
    p = output.exp() / output.exp().sum(1, keepdim=True)
    p_t = p[:, [target]]
    return p_t * (1 - p_t) * at_target, p_t * p * elsewhere


DUALS = [OtherClasses(), NegatedWeights(), TheseClasses([0, 2]), NearestRivals(2), OtherLogits(), SoftmaxGradient()]


@pytest.mark.parametrize("conserve", [False, True])
@pytest.mark.parametrize("strength", [0, 0.3, 0.9, 1])
@pytest.mark.parametrize("dual", DUALS, ids=repr)
def test_a_strength_is_the_oracles_two_maps_weighed(dual: DualConcept, strength: float, conserve: bool) -> None:
    model, x, target = convolutions(), small_pictures(2, torch.float64), 1
    concept, opposite = oracle_maps(model, x, dual, target, conserve)
    assert opposite[-1].count_nonzero() > 0
    expected = [r - strength * r_dual for r, r_dual in zip(concept, opposite, strict=True)]
    method = ContrastiveLRP(model, dual=dual, strength=strength, conserve=conserve)
    signed = method.attribute(x, target, relu_attributions=False)
    assert_same(signed, expected[0])
    assert_same(method.attribute(x, target), expected[0].clamp(min=0))
    of_layer = LayerContrastiveLRP(model, model[2], dual=dual, strength=strength, conserve=conserve)
    assert_same(of_layer.attribute(x, target, relu_attributions=False), expected[3])
    # The delta and the report tell what was absorbed: what was sent is (1 - strength) of the total.
    _, delta = method.attribute(x, target, return_convergence_delta=True)
    sent = (1 - strength) * concept[-1].flatten(1).sum(1)
    assert_same(delta, sent - expected[0].flatten(1).sum(1))
    report = check_conservation(model, x, target, method=method)
    assert report.score == pytest.approx(float(sent.sum()), abs=1e-12)
    assert abs(report.unaccounted) <= max(report.rounding, 1e-10)


def convolutions() -> nn.Sequential:
    torch.manual_seed(4)  # with which every example has relevance at the input
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 7),
        nn.ReLU(),
        nn.Linear(7, 5),
    )
    return model.double().eval()


def oracle_maps(
    model: nn.Sequential, x: Tensor, dual: DualConcept, target: int, conserve: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Relevance at the input of every layer and at the output: of the concept, and apart from it of the dual."""
    layers = oracles.layers_of(model)
    concept, opposite = parts(dual, oracles.activations(layers, x)[-1], target)
    rule = "negated" if isinstance(dual, NegatedWeights) else "plus"
    return (
        oracles.relevance_layers(layers, x, concept, conserve=conserve),
        oracles.relevance_layers(layers, x, opposite, output_rule=rule, conserve=conserve),
    )


NAMED: list[Callable[..., Any]] = [ContrastiveLRP1, ContrastiveLRP2]


@pytest.mark.parametrize("method", NAMED)
def test_a_strength_of_several_classes_and_of_parts_of_a_batch(method: Any) -> None:
    model, x = convolutions(), small_pictures(3, torch.float64)
    dual = method.dual
    maps = method(model, strength=0.9).attribute_classes(x, [4, 1], internal_batch_size=2)
    for k, target in enumerate([4, 1]):
        concept, opposite = oracle_maps(model, x, dual, target, False)
        assert_same(maps[:, k], (concept[0] - 0.9 * opposite[0]).clamp(min=0))
    layered = LayerContrastiveLRP1 if method is ContrastiveLRP1 else LayerContrastiveLRP2
    at_layer = layered(model, model[0], strength=0.9).attribute(x, 4, internal_batch_size=2)
    concept, opposite = oracle_maps(model, x, dual, 4, False)
    assert_same(at_layer, (concept[1] - 0.9 * opposite[1]).clamp(min=0))


@pytest.mark.parametrize("strength", [0.0, 0.9, 1.0])
def test_a_strength_of_neurons(strength: float) -> None:
    model, x, neuron = convolutions(), small_pictures(2, torch.float64), 3
    up_to = nn.Sequential(*model[:7])
    concept, opposite = oracle_maps(up_to, x, NegatedWeights(), neuron, False)
    method = NeuronContrastiveLRP2(model, model[6], strength=strength)
    expected = concept[0] - strength * opposite[0]
    assert_same(method.attribute(x, neuron, relu_attributions=False), expected)
    assert_same(method.attribute_neurons(x, [0, neuron])[:, 1], expected.clamp(min=0))


def test_a_strength_by_hand() -> None:
    # As above: R = (1, 0); R_dual = (3/4, 1/4) for CLRP1 and (1/2, 1/2) for CLRP2.
    model, x = two_layer_net(), torch.ones(1, 2).double()
    first, second = ContrastiveLRP1(model, *BOX, strength=0.8), ContrastiveLRP2(model, *BOX, strength=0.8)
    assert_same(first.attribute(x, 0, relu_attributions=False), row(0.4, -0.2))
    assert_same(second.attribute(x, 0, relu_attributions=False), row(0.6, -0.4))
    assert_same(first.attribute(x, 0), row(0.4, 0))


def test_the_whole_contrast_is_the_default_to_the_bit() -> None:
    model, x = convolutions().float(), small_pictures(2)
    for dual in DUALS:
        default = ContrastiveLRP(model, dual=dual).attribute(x, 1, relu_attributions=False)
        whole = ContrastiveLRP(model, dual=dual, strength=1).attribute(x, 1, relu_attributions=False)
        torch.testing.assert_close(whole, default, rtol=0, atol=0)


def test_a_dual_that_knows_of_no_strength_is_taken_whole() -> None:
    class Seeded(DualConcept):
        def signed(self, output: Tensor, initial: Tensor) -> Tensor:  # type: ignore[override]
            return initial - initial.flip(1)

    model, x = two_layer_net(), torch.ones(1, 2).double()
    method = ContrastiveLRP(model, *BOX, dual=Seeded())
    assert_same(method.attribute(x, target=0, relu_attributions=False), row(0.5, -0.5))


@pytest.mark.parametrize("strength", [-0.1, 1.1, 90, math.nan, math.inf, True, "0.9", None, torch.tensor(0.9)])
def test_a_strength_is_a_share(strength: Any) -> None:
    model = two_layer_net()
    makers: list[Callable[..., Any]] = [
        partial(ContrastiveLRP, model, dual=OtherClasses()),
        *(partial(named, model) for named in NAMED),
        partial(LayerContrastiveLRP, model, model[0], dual=OtherClasses()),
        partial(LayerContrastiveLRP1, model, model[0]),
        partial(LayerContrastiveLRP2, model, model[0]),
        partial(NeuronContrastiveLRP2, model, model[0]),
    ]
    for make in makers:
        with pytest.raises(InvalidInputError, match="give a number from 0 .* to 1"):
            make(strength=strength)


def test_a_strength_may_come_from_numpy_and_is_shown() -> None:
    method = ContrastiveLRP2(two_layer_net(), strength=np.float32(0.5))
    assert method.strength == 0.5
    assert "strength=0.5" in repr(method)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lrp", (None, 1)),
        ("clrp1", (OtherClasses(), 1)),
        ("clrp2-s0.9", (NegatedWeights(), 0.9)),
        ("rivals5", (NearestRivals(5), 1)),
        ("rivals12-s.95", (NearestRivals(12), 0.95)),
        ("other-logits-s0", (OtherLogits(), 0)),
        ("sglrp-s1", (SoftmaxGradient(), 1)),
    ],
)
def test_contrasts_have_names(name: str, expected: tuple[DualConcept | None, float]) -> None:
    found = contrast_named(name)
    assert found is not None
    assert (repr(found[0]), found[1]) == (repr(expected[0]), expected[1])


@pytest.mark.parametrize(
    "name", ["", "clrp3", "lrp-s0.9", "clrp1-s1.1", "clrp1-s", "rivals", "rivals0", "rivals5-x", "xclrp1"]
)
def test_names_of_other_kinds_are_none(name: str) -> None:
    assert contrast_named(name) is None
