"""bfloat16: where it is taken, how far maps move, and what stays in float32 or float64."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, InvalidInputError, LRPZBeta, weights_at_rest
from captum_clrp.engine import precision
from captum_clrp.engine.precision import has_fast_bfloat16, takes_bfloat16

UNIT = 2.0**-9
"""Half the distance of 1 to the next number of bfloat16: the largest relative error of one rounding."""
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that computes fast in bfloat16, so that no map warns."""
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)


def network(*, bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(5)
    layers = [
        nn.Conv2d(3, 16, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, bias=bias),
        nn.ReLU(),
    ]
    layers += [nn.Conv2d(16, 32, 1, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, 6)]
    return nn.Sequential(*layers).eval().to(dtype)


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def positive_target(model: nn.Module, x: torch.Tensor) -> list[int]:
    return model(x).argmax(1).tolist()


def test_every_value_is_within_what_the_roundings_allow() -> None:
    """Sums of terms of one sign keep relative errors. A value of relevance goes through 4 weighted operations; each rounds
    activations, weights, denominator, quotient, product and result, some twice: at most 9 roundings."""
    model, x = network(), images()
    target = positive_target(model, x)
    exact = LRPZBeta(network(dtype=torch.float64), 0.0, 1.0).attribute(x.double(), target)
    brief = LRPZBeta(model, 0.0, 1.0, precision="bfloat16").attribute(x, target)
    assert (exact >= 0).all()
    assert ((brief - exact).abs() <= ((1 + UNIT) ** (9 * 4) - 1) * exact + 1e-12).all()
    distance = (brief - exact).norm() / exact.norm()
    assert 1e-4 < distance < 5e-3  # it is bfloat16, and far better than the bound


@pytest.mark.parametrize("method", [ContrastiveLRP1, ContrastiveLRP2])
def test_contrasts_lose_little(method: type) -> None:
    model, x = network(), images()
    exact = method(network(dtype=torch.float64), 0.0, 1.0).attribute(x.double(), 2, relu_attributions=False)
    brief = method(model, 0.0, 1.0, precision="bfloat16").attribute(x, 2, relu_attributions=False)
    assert 1e-4 < (brief - exact).norm() / exact.norm() < 1e-2


@pytest.mark.parametrize("method", [ContrastiveLRP1, ContrastiveLRP2])
def test_the_contrast_itself_is_formed_in_double_precision(method: type) -> None:
    """Of an output layer alone nothing is rounded to bfloat16 (z^beta has the first layer; a rule of one's own does not)."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    x = torch.rand(3, 3, 2, 2)
    settings = {"relu_attributions": False}
    plain = method(model).attribute(x, 1, **settings)
    brief = method(model, precision="bfloat16").attribute(x, 1, **settings)
    assert torch.equal(plain, brief)


def test_what_has_no_bfloat16_twin_stays_as_it_was() -> None:
    torch.manual_seed(3)
    depthwise = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.ReLU(), nn.Conv2d(3, 3, 3, groups=3), nn.Flatten())
    x = images()
    for model in (depthwise.eval(), network(dtype=torch.float64)):
        of_its_type = x.to(next(model.parameters()).dtype)
        plain = LRPZBeta(model).attribute(of_its_type, 0)
        assert torch.equal(plain, LRPZBeta(model, precision="bfloat16").attribute(of_its_type, 0))


def test_conserve_holds_to_the_precision() -> None:
    model, x = network(), images()
    target = positive_target(model, x)
    relevance, delta = LRPZBeta(model, 0.0, 1.0, conserve=True, precision="bfloat16").attribute(
        x, target, return_convergence_delta=True
    )
    score = model(x)[torch.arange(2), target]
    assert (delta.abs() < 0.01 * score.abs()).all()
    assert torch.allclose(relevance.sum((1, 2, 3)), score, rtol=0.01)


def test_classes_together_equal_classes_one_by_one() -> None:
    model, x = network(), images()
    method = ContrastiveLRP2(model, precision="bfloat16")
    both = method.attribute_classes(x, [1, 4])
    assert torch.equal(both, torch.stack([method.attribute(x, 1), method.attribute(x, 4)], dim=1))


def test_weights_at_rest_are_kept_in_bfloat16() -> None:
    model, x = network(), images()
    method = LRPZBeta(model, precision="bfloat16")
    alone = method.attribute(x, 1)
    with weights_at_rest():
        assert torch.equal(method.attribute(x, 1), alone)
        assert torch.equal(method.attribute(x, 1), alone)
        assert not torch.equal(LRPZBeta(model).attribute(x, 1), alone)  # not the weights of the other precision


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"precision='float16' is not known; choose 'float32', 'bfloat16' or 'auto'"
    ):
        LRPZBeta(network(), precision="float16")  # type: ignore[arg-type]


def test_auto_takes_bfloat16_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    assert takes_bfloat16("auto", CPU)
    assert not takes_bfloat16("float32", CPU)
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not takes_bfloat16("auto", CPU)


def test_a_slow_device_warns_with_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    monkeypatch.setattr(precision, "slowdown", lambda device: 3.21)
    with pytest.warns(UserWarning, match=r"takes 3\.2 times as long in it as in float32; precision='auto'"):
        assert takes_bfloat16("bfloat16", CPU)


def test_the_slowdown_is_measured() -> None:
    precision.slowdown.cache_clear()
    assert 0 < precision.slowdown(CPU) < 1000


def test_a_processor_counts_only_if_its_kernels_may_use_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_on_processor", lambda: True)
    assert has_fast_bfloat16(CPU)
    assert not has_fast_bfloat16(torch.device("meta"))
    monkeypatch.setattr(precision, "bfloat16_on_processor", lambda: False)
    assert not has_fast_bfloat16(CPU)
