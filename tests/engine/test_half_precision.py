"""float16, bfloat16, float64 and autocast: finite maps near those of float32, sums in at least float32."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.bodies import SmallUNet
from helpers.nets import distance, pictures, randomised, small_net, small_pictures
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta, ModelStateError, check_conservation

pytestmark = pytest.mark.filterwarnings("ignore:the contrast of example")

# Relative L2 distance to float32. Activations carry 8 bits of mantissa in bfloat16 and 11 in float16; a rule evaluated
# with so few would be off by several times as much, a wrong one by 1.
NEAR = {torch.float16: 0.02, torch.bfloat16: 0.15}


def converted(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(model).to(dtype)


@pytest.mark.parametrize("conserve", [False, True], ids=["", "conserve"])
@pytest.mark.parametrize("dtype", NEAR, ids=str)
def test_maps_are_finite_and_near_float32(dtype: torch.dtype, conserve: bool) -> None:
    model, x = small_net(), small_pictures()
    expected = LRPZBeta(model, conserve=conserve).attribute(x, 1)
    actual = LRPZBeta(converted(model, dtype), conserve=conserve).attribute(x.to(dtype), 1)
    assert actual.dtype == dtype
    assert actual.isfinite().all()
    assert distance(actual, expected) < NEAR[dtype]


@pytest.mark.parametrize("method", [ContrastiveLRP1, ContrastiveLRP2], ids=lambda m: m.__name__)
@pytest.mark.parametrize("dtype", NEAR, ids=str)
def test_contrasts_are_finite(dtype: torch.dtype, method: type[LRPZBeta]) -> None:
    model, x = small_net(), small_pictures()
    relevance = method(converted(model, dtype)).attribute(x.to(dtype), 1)
    assert relevance.dtype == dtype
    assert relevance.isfinite().all()
    assert not (relevance < 0).any()


@pytest.mark.parametrize("dtype", NEAR, ids=str)
def test_networks_with_transposed_convolutions(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = randomised(SmallUNet().eval(), 16)
    x = pictures(1, 16)
    relevance = LRPZBeta(converted(model, dtype), conserve=True).attribute(x.to(dtype), (1, 5, 5))
    assert relevance.isfinite().all()
    assert relevance.abs().sum() > 0


class Attending(nn.Module):
    """200 tokens that look at each other: weights of 1/200 on average."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].relu().mean(1))


@pytest.mark.parametrize("rules", ["paper", "gamma"])
@pytest.mark.parametrize("dtype", NEAR, ids=str)
def test_attention_over_many_tokens(dtype: torch.dtype, rules: str) -> None:
    torch.manual_seed(0)
    model, x = Attending().eval(), torch.rand(2, 200, 8)
    expected = LRPZBeta(model, 0.0, 1.0, rules=rules).attribute(x, 1)
    actual = LRPZBeta(converted(model, dtype), 0.0, 1.0, rules=rules).attribute(x.to(dtype), 1)
    assert expected.abs().sum() > 0
    assert distance(actual, expected) < NEAR[dtype]


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e3, 5e4])
def test_scores_of_any_size_fit_into_float16(factor: float) -> None:
    """Relevance of 5e4 is near the largest number of float16, that of 1e-4 spread over pixels below its smallest."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2)).eval()
    x = small_pictures(1)
    initial = torch.tensor([[factor, 0.0]])
    expected = LRPZBeta(model).attribute(x, initial_relevance=initial)
    actual = LRPZBeta(model.half()).attribute(x.half(), initial_relevance=initial.half())
    assert actual.isfinite().all()
    if factor >= 1:  # below that the result itself has few digits left
        assert distance(actual, expected) < 0.02


def test_an_overflow_in_the_model_is_said_to_be_one() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 3)).eval()
    with torch.no_grad():
        model[1].bias.fill_(60000.0)
        model[1].weight.fill_(600.0)
    x = small_pictures(1).abs() + 1
    with pytest.raises(ModelStateError, match="NaN or infinite.*half-precision"):
        LRPZBeta(model.half()).attribute(x.half(), 1)


def test_float64_conserves_to_its_precision() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(dtype=torch.float64)
    report = check_conservation(model, x, 1)
    assert abs(report.unaccounted) < 1e-12 * abs(report.score)
    relevance = LRPZBeta(model, conserve=True).attribute(x, 1)
    assert relevance.dtype == torch.float64
    torch.testing.assert_close(relevance.sum((1, 2, 3)), model(x)[:, 1].detach(), rtol=1e-10, atol=1e-12)


def autocast_map(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return LRPZBeta(model, conserve=True).attribute(x, 1)


def test_autocast_around_the_call() -> None:
    model, x = small_net(), small_pictures()
    expected = LRPZBeta(model, conserve=True).attribute(x, 1)
    actual = autocast_map(model, x)
    assert actual.dtype == torch.float32
    assert distance(actual, expected) < NEAR[torch.bfloat16]
    assert torch.equal(LRPZBeta(model, conserve=True).attribute(x, 1), expected)  # nothing of it stays


def test_autocast_inside_the_model() -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.net(x).float()

    model, x = Casting().eval(), small_pictures()
    expected = LRPZBeta(small_net(), conserve=True).attribute(x, 1)
    assert distance(LRPZBeta(model, conserve=True).attribute(x, 1), expected) < NEAR[torch.bfloat16]


def test_the_rules_are_not_evaluated_in_the_precision_of_autocast() -> None:
    """One layer on the input itself: its map depends on no activation that was rounded."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 3)).eval()
    x = small_pictures()
    initial = torch.ones(2, 3)
    expected = LRPZBeta(model).attribute(x, initial_relevance=initial)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = LRPZBeta(model).attribute(x, initial_relevance=initial)
    assert distance(actual, expected) < 1e-5


def test_a_model_of_mixed_precision() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3).bfloat16()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x.bfloat16()).relu().float().mean((2, 3)))

    model, x = Mixed().eval(), small_pictures()
    relevance = LRPZBeta(model, conserve=True).attribute(x, 1)
    assert relevance.dtype == torch.float32
    torch.testing.assert_close(relevance.sum((1, 2, 3)), model(x)[:, 1].detach(), rtol=0.05, atol=1e-3)
