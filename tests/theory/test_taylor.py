"""Supplement A by automatic differentiation: first order is the rule, higher orders are zero."""

import pytest
import torch

from captum_clrp.engine.linear_maps import FullyConnected
from captum_clrp.errors import InvalidInputError
from captum_clrp.rules import Epsilon, WSquare, ZBeta, ZPlus, distribute, prepare
from captum_clrp.theory import taylor

# One neuron worked by hand: x.w + b = 4 - 3 + 4 - 1 = 4, so f(x) = 4.
X = torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64)
W = torch.tensor([2.0, -1.0, 4.0], dtype=torch.float64)
B = -1.0

BY_HAND = {
    # v = x, v.w = 5, step 4/5: the root is x/5
    "z": (taylor.z_direction, [0.4, 0.6, 0.2], [16 / 5, -12 / 5, 16 / 5]),
    # v = (2, 0, 1), v.w = 8, step 1/2
    "z+": (taylor.z_plus_direction, [1.0, 3.0, 0.5], [2.0, 0.0, 2.0]),
    # box [-1, 5]: v = (3, -2, 2), v.w = 6 + 2 + 8 = 16, step 1/4
    "z^beta": (taylor.z_beta_direction(-1.0, 5.0), [1.25, 3.5, 0.5], [1.5, 0.5, 2.0]),
    # v = w, v.w = 21, step 4/21
    "w^2": (taylor.w_square_direction, [34 / 21, 67 / 21, 5 / 21], [16 / 21, 4 / 21, 64 / 21]),
}


@pytest.mark.parametrize("rule", BY_HAND)
def test_one_neuron_worked_by_hand(rule):
    direction, root_by_hand, first_order_by_hand = BY_HAND[rule]
    root = taylor.root_point(X, W, B, direction)
    terms = taylor.taylor_terms(taylor.rectifier(W, B), X, root)
    torch.testing.assert_close(root, torch.tensor(root_by_hand, dtype=torch.float64))
    torch.testing.assert_close(terms[0], torch.tensor(first_order_by_hand, dtype=torch.float64))
    assert torch.equal(terms[1:], torch.zeros(2, 3, dtype=torch.float64))
    assert float(terms.sum()) == pytest.approx(4.0)  # conserved


RULES = {
    "z": (taylor.z_direction, Epsilon(0.0)),
    "z+": (taylor.z_plus_direction, ZPlus()),
    "z^beta": (taylor.z_beta_direction(-2.5, 2.5), ZBeta(-2.5, 2.5)),
    "w^2": (taylor.w_square_direction, WSquare()),
}


def random_layer(*, inputs=7, neurons=12, signed=True):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    x = 4 * random(inputs) - 2 if signed else 2 * random(inputs)
    return x, 2 * random(neurons, inputs) - 1, -0.3 * random(neurons)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_first_order_is_the_rule_and_higher_orders_vanish(rule, signed):
    direction, closed_form = RULES[rule]
    x, weight, bias = random_layer(signed=signed)
    activations = torch.relu(weight @ x + bias)
    assert 0 < int((activations > 0).sum()) < activations.numel()  # both cases of the proof occur

    terms = taylor.decompose(x, weight, bias, direction, order=4)

    layer = FullyConnected(weight, bias)
    by_rule = distribute(layer, prepare(closed_form, layer, x[None]), activations[None])[0]
    torch.testing.assert_close(terms[0], by_rule, rtol=1e-12, atol=1e-12)
    assert torch.equal(terms[1:], torch.zeros_like(terms[1:]))
    torch.testing.assert_close(terms.sum(), activations.sum())


def test_root_points_stay_in_the_domain_of_their_rule():
    x, weight, bias = random_layer(signed=False)
    for w, b in zip(weight, bias, strict=True):
        z = taylor.root_point(x, w, b, taylor.z_direction)
        plus = taylor.root_point(x, w, b, taylor.z_plus_direction)
        box = taylor.root_point(x, w, b, taylor.z_beta_direction(0.0, 2.0))
        assert (z >= 0).all()
        assert (plus >= 0).all()
        assert ((box >= 0) & (box <= 2)).all()
        for root in (z, plus, box):
            assert float(taylor.rectifier(w, b)(root)) == pytest.approx(0, abs=1e-12)


def test_an_inactive_neuron_is_its_own_root_and_gets_nothing():
    root = taylor.root_point(X, -W, B, taylor.z_direction)
    assert torch.equal(root, X)
    assert not taylor.taylor_terms(taylor.rectifier(-W, B), X, root).any()


def test_higher_orders_are_seen_where_they_exist():
    # f = (2a + b)^3 at (1, 1), root 0: gradient 0 there, and so is the second order; third order: 1/6 d^3 f = f.
    w = torch.tensor([2.0, 1.0], dtype=torch.float64)
    x = torch.ones(2, dtype=torch.float64)
    terms = taylor.taylor_terms(lambda p: (p @ w) ** 3, x, torch.zeros_like(x))
    expected = torch.tensor([[0, 0], [0, 0], [18, 9]], dtype=torch.float64)
    torch.testing.assert_close(terms, expected, rtol=0, atol=1e-3)  # derivatives are taken a millionth beside the root
    # Around 1 instead of 0 (not a root): f(x) - f(0.5 x) splits over all three orders.
    half = taylor.taylor_terms(lambda p: (p @ w) ** 3, x, x / 2)
    by_hand = torch.tensor([10.125, 10.125, 3.375], dtype=torch.float64)
    torch.testing.assert_close(half.sum(1), by_hand, rtol=1e-5, atol=0)
    assert float(half.sum()) == pytest.approx(27 - 27 / 8, rel=1e-5)


def test_a_positive_bias_is_refused():
    with pytest.raises(InvalidInputError, match=r"bias 0\.5 is positive"):
        taylor.root_point(X, W, 0.5, taylor.z_direction)


def test_a_direction_without_a_root_is_refused():
    w = torch.tensor([1.0, 1.0])
    with pytest.raises(InvalidInputError, match="orthogonal"):
        taylor.root_point(torch.tensor([2.0, 1.0]), w, -1.0, lambda x, w: torch.tensor([1.0, -1.0]))
