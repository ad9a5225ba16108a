"""Each peer, as the benchmarks set it up, does what its column says: compared with the formulas."""

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("zennit")

from benchmarks import networks, peers

LOW, HIGH = torch.full((1, 3, 1, 1), -1.5), torch.full((1, 3, 1, 1), 2.0)


def toy() -> nn.Sequential:
    """Without biases, where all implementations mean the same rule."""
    model = networks.TOY[0].build().double()
    assert isinstance(model, nn.Sequential)
    return model


def example() -> Tensor:
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return -1.5 + 3.5 * x


def pulled_back(layer, x: Tensor, s: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(layer(x), x, s)[0]


def z_plus(layer, weight: Tensor, x: Tensor, r: Tensor, apply) -> Tensor:
    """R_in = x (W+^T s), s = R / (W+ x), for inputs that are not negative."""

    def positive(v: Tensor) -> Tensor:
        return apply(v, weight.clamp(min=0))

    z = positive(x)
    return x * pulled_back(positive, x, r / (z + (z == 0)))


def by_hand(model: nn.Sequential, x: Tensor, initial: Tensor, *, z_beta: bool = True) -> Tensor:
    """LRP through the toy network, layer by layer, from the paper's formulas."""
    conv1, _, pool, conv2, _, _, linear = model

    def first(v: Tensor, w: Tensor) -> Tensor:
        return nn.functional.conv2d(v, w, stride=2, padding=1)

    def second(v: Tensor, w: Tensor) -> Tensor:
        return nn.functional.conv2d(v, w, padding=1)

    a1 = conv1(x).relu()
    a2 = pool(a1)
    a3 = conv2(a2).relu()
    r = z_plus(linear, linear.weight, a3.flatten(1), initial, nn.functional.linear).view_as(a3)
    r = z_plus(conv2, conv2.weight, a2, r, second)
    r = pulled_back(pool, a1, r)
    if not z_beta:
        return z_plus(conv1, conv1.weight, x, r, first)
    low, high = LOW.double().expand_as(x), HIGH.double().expand_as(x)
    terms = [(1, x, conv1.weight), (-1, low, conv1.weight.clamp(min=0)), (-1, high, conv1.weight.clamp(max=0))]
    z = sum(sign * first(v, w) for sign, v, w in terms)
    s = r / (z + (z == 0))
    return sum(sign * v * pulled_back(lambda u, w=w: first(u, w), v, s) for sign, v, w in terms).detach()


def initial_relevance(model: nn.Module, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
    output = model(x).detach()
    one = torch.zeros_like(output)
    one[:, target] = output[:, target]
    dual = (output[:, target] / 9).unsqueeze(1).repeat(1, 10)
    dual[:, target] = 0
    return one, dual


def build(kind: str, model: nn.Module) -> peers.Peer:
    low, high = LOW.double(), HIGH.double()
    if kind == "autolrp":
        pytest.importorskip("autolrp")
        return peers.AutoLRP(model, low, high)
    if kind == "captum":
        return peers.CaptumLRP(model, low, high)
    return peers.Zennit(model, low, high, canonizers=kind == "zennit+canonizers")


KINDS = ["zennit", "zennit+canonizers", "autolrp", "captum"]
# Captum's and Zennit's stabilizers of 1e-9 shift a denominator of 1e-4 by 1e-5 of its value.
CLOSE = {"rtol": 1e-4, "atol": 1e-7}


@pytest.mark.parametrize("kind", KINDS)
def test_lrp_is_the_formula(kind):
    model, x = toy(), example()
    if kind == "captum":
        x = x.abs()  # without a rule for the first layer it is z+ there, on inputs >= 0
    one, _ = initial_relevance(model, x, 4)
    expected = by_hand(model, x, one, z_beta=kind != "captum")
    got = peers.lrp(build(kind, peers.own_copy(model)), x, 4)
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_clrp1_is_the_clamped_difference(kind):
    model, x = toy(), example()
    if kind == "captum":
        x = x.abs()
    one, dual = initial_relevance(model, x, 4)
    expected = by_hand(model, x, one - dual, z_beta=kind != "captum").clamp(min=0)
    got = peers.clrp1(build(kind, peers.own_copy(model)), x, 4)
    assert (expected > 0).any()
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_clrp2_negates_the_target_weights(kind):
    model, x = toy(), example()
    if kind == "captum":
        x = x.abs()
    one, _ = initial_relevance(model, x, 4)
    negated = peers.own_copy(model)
    with torch.no_grad():
        negated[-1].weight[4].neg_()
    z_beta = kind != "captum"
    difference = by_hand(model, x, one, z_beta=z_beta) - by_hand(negated, x, one, z_beta=z_beta)
    copy = peers.own_copy(model)
    got = peers.clrp2(build(kind, copy), x, 4)
    torch.testing.assert_close(got, difference.clamp(min=0), **CLOSE)
    assert torch.equal(copy[-1].weight, model[-1].weight)


class Flat(nn.Module):
    """Only modules that Captum's defaults know, and (N, m) out."""

    def __init__(self):
        super().__init__()
        plain = toy()
        self.features = nn.Sequential(plain[0], nn.ReLU(), plain[2], plain[3], nn.ReLU())
        self.head = nn.Conv2d(8, 10, 4).double()

    def forward(self, x):
        return self.head(self.features(x)).flatten(1)


def test_seeded_captum_is_plain_captum():
    from captum.attr import LRP

    model, x, target = Flat(), example(), torch.tensor([4, 7])
    plain = LRP(model).attribute(x, target=target)
    got = peers.lrp(peers.CaptumDefault(model, LOW, HIGH), x, target)
    torch.testing.assert_close(got, plain)


def test_autolrp_copes_with_outputs_that_are_zero():
    model = nn.Sequential(toy(), nn.ReLU())
    x = example()
    output = model(x)
    assert (output == 0).any()
    target = output.argmax(1)
    relevance = peers.lrp(build("autolrp", model), x, target)
    torch.testing.assert_close(relevance.sum((1, 2, 3)), output.amax(1).detach(), **CLOSE)


def test_biases_are_bypassed():
    model = toy()
    for layer in (0, 3):
        model[layer].bias = nn.Parameter(torch.linspace(-0.1, 0.3, model[layer].out_channels).double())
    model[6].bias = nn.Parameter(torch.linspace(-1, 1, 10).double())
    x = example()
    one, _ = initial_relevance(model, x, 4)
    expected = by_hand(model, x, one)
    torch.testing.assert_close(peers.lrp(build("zennit", model), x, 4), expected, **CLOSE)
    expected = by_hand(model, x.abs(), initial_relevance(model, x.abs(), 4)[0], z_beta=False)
    got = peers.lrp(build("captum", peers.own_copy(model)), x.abs(), 4)
    torch.testing.assert_close(got, expected, **CLOSE)


def test_captum_gets_a_rule_that_works_on_modules_that_return_their_input():
    plain = toy()
    model = nn.Sequential(plain[0], nn.Identity(), *plain[1:])
    x = example().abs()
    expected = by_hand(plain, x, initial_relevance(plain, x, 4)[0], z_beta=False)
    torch.testing.assert_close(peers.lrp(build("captum", model), x, 4), expected, **CLOSE)
