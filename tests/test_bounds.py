"""The domain of the input: helpers that derive it, what is accepted, and how it travels to the first layer."""

from __future__ import annotations

import pytest
import torch
import torchvision
from helpers import oracles
from helpers.nets import HIGH, LOW, distance, pictures
from torch import Tensor, nn
from torchvision import transforms

from captum_clrp import ContrastiveLRP1, InvalidInputError, LRPZBeta, bounds_from_transform, normalized_bounds
from captum_clrp.bounds import InputDomain

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def assert_imagenet(bounds: tuple[Tensor, Tensor]) -> None:
    """The numbers of the authors' script are the extremes of these: -2.1179 and 2.64."""
    low, high = bounds
    torch.testing.assert_close(low, LOW)
    torch.testing.assert_close(high, HIGH)
    assert low.shape == high.shape == (1, 3, 1, 1)
    assert round(float(low.min()), 4) == -2.1179
    assert round(float(high.max()), 2) == 2.64


# --- helpers


def test_bounds_of_mean_and_std() -> None:
    assert_imagenet(normalized_bounds(*IMAGENET))
    low, high = normalized_bounds([127.5], [127.5], pixel_range=(0, 255))
    assert (low.item(), high.item()) == (-1.0, 1.0)
    low, high = normalized_bounds((0.5, 0.25), (0.5, 0.25))
    assert low.flatten().tolist() == [-1, -1]
    assert high.flatten().tolist() == [1, 3]


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.5, 0.5]), ([0.5], [0.0]), ([0.5], [-1.0]), ([[0.5]], [[0.5]])])
def test_mean_and_std_that_are_no_normalisation_are_refused(mean, std) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match="one mean and one positive std for each channel"):
        normalized_bounds(mean, std)


@pytest.mark.parametrize(
    "transform",
    [
        torchvision.models.AlexNet_Weights.DEFAULT,
        torchvision.models.AlexNet_Weights.DEFAULT.transforms(),
        torchvision.models.ResNet50_Weights.IMAGENET1K_V2,
        transforms.Normalize(*IMAGENET),
        transforms.Compose([transforms.ToTensor(), transforms.Normalize(*IMAGENET)]),
        transforms.Compose([transforms.Resize(9), transforms.Compose([transforms.Normalize(*IMAGENET)])]),
        nn.Sequential(transforms.Resize(9), transforms.Normalize(*IMAGENET)),
        {"mean": IMAGENET[0], "std": IMAGENET[1], "input_size": (3, 224, 224)},
    ],
    ids=lambda t: type(t).__name__,
)
def test_bounds_of_a_preprocessing(transform) -> None:  # type: ignore[no-untyped-def]
    assert_imagenet(bounds_from_transform(transform))


def test_bounds_of_timms_configuration() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet10t", pretrained=False)
    assert_imagenet(bounds_from_transform(model.pretrained_cfg))
    config = timm.data.resolve_model_data_config(model)
    assert_imagenet(bounds_from_transform(config))
    assert_imagenet(bounds_from_transform(timm.data.create_transform(**config)))


@pytest.mark.parametrize("transform", [None, transforms.ToTensor(), {}, transforms.Compose([])])
def test_a_preprocessing_without_normalisation_is_refused(transform) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match=r"normalized_bounds\(mean, std\)"):
        bounds_from_transform(transform)


# --- what is accepted


def convolution(**options) -> nn.Conv2d:  # type: ignore[no-untyped-def]
    return nn.Conv2d(3, 4, 3, **options).double()


def relevance(model: nn.Module, x: Tensor, low=None, high=None) -> Tensor:  # type: ignore[no-untyped-def]
    output = model(x).detach()
    return LRPZBeta(model, low, high).attribute(x, initial_relevance=torch.ones_like(output))


X = pictures(2, 6).double()


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-3.0, 3.0),
        (-3, 3),
        (LOW, HIGH),
        (LOW.double(), 5.0),
        (LOW[0], HIGH[0]),
        (None, 3.0),
        (X - 1, X + 1),
        (torch.tensor(-3.0), torch.tensor([[[[3.0]]]])),
    ],
)
def test_bounds_are_numbers_or_tensors_that_broadcast(low, high) -> None:  # type: ignore[no-untyped-def]
    model = convolution()
    start = torch.ones_like(model(X).detach())
    expected = oracles.relevance_sequential([model], X, start, low, high)
    torch.testing.assert_close(relevance(model, X, low, high), expected)


def test_bounds_matter() -> None:
    model = convolution()
    assert distance(relevance(model, X, -3.0, 3.0), relevance(model, X)) > 0.05


def test_own_bounds_are_each_examples_and_each_channels() -> None:
    """The rest of the batch changes nothing, and nor does another channel of the same example."""
    model = convolution()
    alone = relevance(model, X[:1])
    crowded = relevance(model, torch.cat([X[:1], X[1:] * 50]))[:1]
    torch.testing.assert_close(crowded, alone, rtol=1e-12, atol=1e-12)
    low, high = X.amin((2, 3), keepdim=True), X.amax((2, 3), keepdim=True)
    torch.testing.assert_close(relevance(model, X, low, high), relevance(model, X))


def test_an_input_without_positions_is_one_channel() -> None:
    model, x = nn.Linear(4, 2).double(), torch.randn(3, 4).double()
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    torch.testing.assert_close(relevance(model, x, low, high), relevance(model, x))


def test_a_flat_picture_within_its_own_bounds_is_absorbed_or_conserved() -> None:
    model, x = convolution(), torch.full((1, 3, 6, 6), 0.7).double()
    assert relevance(model, x).count_nonzero() == 0
    start = torch.ones(1, 4, 4, 4).double()
    kept = LRPZBeta(model, conserve=True).attribute(x, initial_relevance=start)
    torch.testing.assert_close(kept.sum(), start.sum())


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-1.0, 9.0, r"input 0 leaves its bounds by 0\.6282 below low=-1"),
        (-9.0, 1.0, r"leaves its bounds by 1\.072 above high=1"),
        (0.0, 255.0, "normalized_bounds"),
        (3.0, -3.0, "low is above high"),
        (torch.zeros(5), 9.0, r"low of shape \(.*5,?\) does not broadcast"),
        (-9.0, torch.zeros(3, 1, 1, 1, 1), "high of shape"),
        (-9.0, float("inf"), "high=inf is not finite"),
        (float("nan"), 9.0, "not finite"),
        ((-9.0, -9.0), 9.0, "low is a tuple of 2 bounds for 1 input"),
    ],
)
def test_unusable_bounds_are_refused_by_how_much(low, high, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match=message):
        relevance(convolution(), X, low, high)


def test_rounding_at_the_bounds_is_no_offence() -> None:
    """Normalising a white pixel in another order may end one float above the bound."""
    x = pictures(1, 6)
    x[0, :, 0, 0] = HIGH[0, :, 0, 0] * (1 + 1e-7)
    model = nn.Conv2d(3, 4, 3)
    for method in (LRPZBeta(model, LOW, HIGH), ContrastiveLRP1(model, LOW, HIGH)):
        assert method.attribute(x, target=(0, 0, 0)).isfinite().all()


def test_several_inputs_have_a_bound_each() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 2, bias=False).double()
            self.b = nn.Linear(4, 2, bias=False).double()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.cat([self.a(x), self.b(y)], 1)

    model, x, y = Two(), torch.rand(2, 3).double(), torch.rand(2, 4).double() * 9
    start = torch.ones(2, 4).double()
    method = LRPZBeta(model, (0.0, None), (1.0, torch.tensor(9.0)))
    of_x, of_y = method.attribute((x, y), initial_relevance=start)
    W = model.a.weight.detach()
    torch.testing.assert_close(of_x, oracles.zbeta_dense(W, x, 0.0, 1.0, start[:, :2]))
    W = model.b.weight.detach()
    torch.testing.assert_close(of_y, oracles.zbeta_dense(W, y, None, 9.0, start[:, 2:]))


SMALL = torch.tensor([[[0.0, 2.0], [-3.0, 1.0]], [[0.5, 0.5], [0.0, 9.0]]])
"""Two examples of two channels of two values."""


@pytest.mark.parametrize(
    ("low", "high", "lows", "highs"),
    [
        (0.0, 1.0, [[0, -3], [0, 0]], [[2, 1], [1, 9]]),
        (0.0, None, [[0, -3], [0, 0]], [[2, 1], [0.5, 9]]),
        (None, 1.0, [[0, -3], [0.5, 0]], [[2, 1], [1, 9]]),
        (None, None, [[0, -3], [0.5, 0]], [[2, 1], [0.5, 9]]),
    ],
)
def test_widened_bounds_reach_as_far_as_each_example_and_channel(low, high, lows, highs) -> None:  # type: ignore[no-untyped-def]
    ((x, bounds),) = InputDomain(low, high, outside="widen").of((SMALL,))
    assert x is SMALL
    assert torch.equal(bounds.low, torch.tensor(lows).unsqueeze(-1).expand_as(SMALL).float())
    assert torch.equal(bounds.high, torch.tensor(highs).unsqueeze(-1).expand_as(SMALL).float())


def test_clipped_values_lie_on_their_bounds() -> None:
    ((x, bounds),) = InputDomain(0.0, 1.0, outside="clip").of((SMALL,))
    assert torch.equal(x, torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[0.5, 0.5], [0.0, 1.0]]]))
    assert (bounds.low == 0).all()
    assert (bounds.high == 1).all()
    with pytest.raises(InvalidInputError, match="outside='typo' is not known; choose 'error', 'clip' or 'widen'"):
        InputDomain(0.0, 1.0, outside="typo")  # type: ignore[arg-type]


# --- bounds travel with the values as far as the first weighted operation


class Before(nn.Module):
    """``change`` and then a convolution."""

    def __init__(self, change) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.change = change
        self.conv = nn.Conv2d(3, 4, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.change(x))


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        (lambda x: x * 2 + 1, -5.0, 7.0),
        (lambda x: (x - 0.5) / 0.25, -14.0, 10.0),
        (lambda x: -x, -3.0, 3.0),
        (lambda x: x.flip(3), -3.0, 3.0),
        (lambda x: nn.functional.pad(x, (1, 1, 1, 1)), None, None),
        (lambda x: torch.cat([x[:, 2:], x[:, :2]], 1), -3.0, 3.0),
    ],
    ids=["scale and shift", "normalise", "negate", "flip", "pad", "swap channels"],
)
def test_bounds_follow_what_happens_before_the_first_layer(change, low, high) -> None:  # type: ignore[no-untyped-def]
    model = Before(change)
    changed = change(X)
    if low is None:  # around the picture there is nothing but zero
        low = nn.functional.pad(torch.full_like(X, -3.0), (1, 1, 1, 1))
        high = -low
    start = torch.ones_like(model(X).detach())
    at_conv = oracles.relevance_sequential([model.conv], changed, start, low, high)
    actual = LRPZBeta(model, -3.0, 3.0).attribute(X, initial_relevance=start)
    x = X.clone().requires_grad_()
    moved = change(x)
    # Scaling hands relevance over as it is; moving returns it to where it came from.
    (gradient,) = torch.autograd.grad(moved, x, at_conv)
    (scale,) = torch.autograd.grad(change(x).sum(), x)
    torch.testing.assert_close(actual, gradient / scale)


def test_batch_norm_before_the_first_layer_moves_the_bounds() -> None:
    """Measured against the same network with its input normalised beforehand."""
    norm = nn.BatchNorm2d(3).double().eval()
    norm.running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
    nn.init.constant_(norm.weight, -2.0)  # turns low and high around
    conv = convolution()
    start = torch.ones_like(conv(X).detach())
    actual = LRPZBeta(nn.Sequential(norm, conv), -3.0, 3.0).attribute(X, initial_relevance=start)
    with torch.no_grad():
        ends = norm(torch.full_like(X, -3.0)), norm(torch.full_like(X, 3.0))
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        expected = LRPZBeta(conv, low, high).attribute(norm(X), initial_relevance=start)
    torch.testing.assert_close(actual, expected)
