"""Normalisation inside ``forward``: bounds follow the values through it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import CLOSE, body, images, plain
from torch import Tensor

from captum_clrp import LRPZBeta, UnsupportedOperationError, explain_plan

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]).double(), torch.tensor([0.2, 0.25, 0.3]).double()
COLUMN = (1, 3, 1, 1)


def normalized(x: Tensor) -> Tensor:
    return (x - MEAN.view(COLUMN)) / STD.view(COLUMN)


def in_place_normalized(x: Tensor) -> Tensor:
    return x.sub_(MEAN.view(COLUMN)).div_(STD.view(COLUMN))


def channel_by_channel(x: Tensor) -> Tensor:
    return torch.cat([(x[:, k].unsqueeze(1) - MEAN[k]) / STD[k] for k in range(3)], 1)


def slices_in_place(x: Tensor) -> Tensor:
    for k in range(3):
        x[:, k].sub_(MEAN[k]).div_(STD[k])
    return x


def slices_assigned(x: Tensor) -> Tensor:
    for k in range(3):
        x[:, k] = (x[:, k] - MEAN[k]) / STD[k]
    return x


def new_memory(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    for k in range(3):
        y[:, k] = (x[:, k] - MEAN[k]) / STD[k]
    return y


def pieces(x: Tensor) -> Tensor:
    return torch.cat([(p - m) / s for p, m, s in zip(x.chunk(3, 1), MEAN, STD, strict=True)], 1)


def stacked_pieces(x: Tensor) -> Tensor:
    return torch.stack([(p - m) / s for p, m, s in zip(x.unbind(1), MEAN, STD, strict=True)], 1)


def through_the_last_dimension(x: Tensor) -> Tensor:
    return ((x.permute(0, 2, 3, 1) - MEAN) / STD).permute(0, 3, 1, 2).contiguous()


def scaled_by_a_negative_number(x: Tensor) -> Tensor:
    return -(MEAN.view(COLUMN) - x) * -1.0 / -STD.view(COLUMN)


def by_a_layer(x: Tensor) -> Tensor:
    return F.batch_norm(x, MEAN, STD**2, eps=0.0)


def by_torchvision(x: Tensor) -> Tensor:
    import torchvision.transforms.functional as TF

    return TF.normalize(x, MEAN.tolist(), STD.tolist())


def by_torchvision_v2(x: Tensor) -> Tensor:
    from torchvision.transforms import v2

    return v2.Normalize(MEAN.tolist(), STD.tolist())(x)


def from_bytes(x: Tensor) -> Tensor:
    return normalized((x * 255) / 255.0)


def clamped_and_detached(x: Tensor) -> Tensor:
    return normalized(torch.clamp(x.detach(), 0, 1).clone().to(torch.float64))


NORMALIZED = [
    normalized,
    in_place_normalized,
    channel_by_channel,
    slices_in_place,
    slices_assigned,
    new_memory,
    pieces,
    stacked_pieces,
    through_the_last_dimension,
    scaled_by_a_negative_number,
    by_a_layer,
    by_torchvision,
    by_torchvision_v2,
    from_bytes,
    clamped_and_detached,
]


@pytest.mark.parametrize("own_range", [False, True], ids=["bounds given", "own range"])
@pytest.mark.parametrize("inside", NORMALIZED, ids=lambda f: f.__name__)
def test_normalised_inside_as_outside(inside: Callable[[Tensor], Tensor], own_range: bool) -> None:
    x = images()
    bounds = (None, None) if own_range else (normalized(torch.zeros(COLUMN)), normalized(torch.ones(COLUMN)))
    expected = LRPZBeta(body(plain), *bounds).attribute(normalized(x), 2)
    given = (None, None) if own_range else (0.0, 1.0)
    actual = LRPZBeta(body(lambda s, x: plain(s, inside(x))), *given).attribute(x, 2)
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_googlenet_s_transform_input() -> None:
    def transform(x: Tensor) -> Tensor:
        return torch.cat([x[:, k].unsqueeze(1) * (0.1 * k + 0.2) + 0.3 - k for k in range(3)], 1)

    x = images()
    expected = LRPZBeta(body(plain), transform(0 * x), transform(0 * x + 1)).attribute(transform(x), 2)
    torch.testing.assert_close(
        LRPZBeta(body(lambda s, x: plain(s, transform(x))), 0.0, 1.0).attribute(x, 2), expected, **CLOSE
    )


@pytest.mark.parametrize(
    "inside",
    [
        lambda x: torch.log(x + 1e-3),
        lambda x: (x + 0.5).reciprocal(),
        lambda x: x**2,
        lambda x: F.instance_norm(x),
        lambda x: x / x.amax((1, 2, 3), keepdim=True),
        lambda x: F.normalize(x),
        lambda x: torch.log(x),
        lambda x: 1 / (x - 0.5),
    ],
    ids=["log", "reciprocal", "square", "instance norm", "by its maximum", "unit length", "log of zero", "pole"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_monotone_at_the_input_still_conserves(inside: Callable[[Tensor], Tensor]) -> None:
    x = images().clamp(min=0.01)
    model = body(lambda s, x: plain(s, inside(x)))
    try:
        with torch.no_grad():
            score = model(x.clone())[:, 2]
        relevance = LRPZBeta(model, 0.0, 1.0, conserve=True).attribute(x, 2)
    except UnsupportedOperationError as error:
        assert "a constant divided by an activation" in str(error)
        return
    torch.testing.assert_close(relevance.sum((1, 2, 3)), score, **CLOSE)
    first = next(r for r in explain_plan(model, x).records if r.operation == "conv2d")
    assert first.rule.startswith("ZBeta")


def test_values_of_all_examples_in_one_row_have_no_range_of_their_own() -> None:
    """Which of them belong to one example is not known: the first layer takes the rule of activations."""
    model = body(lambda s, x: plain(s, (x.flatten() ** 2).view_as(x)))
    first = next(r for r in explain_plan(model, images()).records if r.operation == "conv2d")
    assert first.rule == "ZPlus()"


def test_bounds_follow_to_every_first_convolution_of_parallel_stems() -> None:
    model = body(lambda s, x: s.head(F.relu(s.conv1(normalized(x))) + F.relu(s.conv1(x.flip(3) * 2))))
    records = explain_plan(model, images()).records
    assert [r.rule[:5] for r in records if r.operation == "conv2d"] == ["ZBeta", "ZBeta"]
