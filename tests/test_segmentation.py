"""Dense outputs: the map for one pixel and for a region of a segmentation, conserved."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torchvision
from helpers.bodies import SmallUNet
from helpers.nets import pictures, randomised
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, InvalidTargetError, LRPZBeta, check_conservation

SIZE = 64
CLASS, ROW, COLUMN = 3, 40, 20


def torchvision_segmenter(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        make = getattr(torchvision.models.segmentation, name)
        model = make(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)
        return randomised(model.eval(), SIZE)


def u_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomised(SmallUNet(classes=5).eval(), SIZE)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(lambda: torchvision_segmenter("fcn_resnet50"), id="fcn_resnet50"),
        pytest.param(lambda: torchvision_segmenter("deeplabv3_mobilenet_v3_large"), id="deeplabv3_mobilenet_v3_large"),
        pytest.param(u_net, id="u_net"),
    ],
)
def segmenter(request: pytest.FixtureRequest) -> nn.Module:
    make: Callable[[], nn.Module] = request.param
    return make()


def named(model: nn.Module, *indices: int) -> tuple[object, ...]:
    """The target as it is given for this network, whose output may be a dictionary."""
    return indices if isinstance(model, SmallUNet) else ("out", *indices)


def output_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        output = model(x)
    return output if isinstance(output, Tensor) else output["out"]


def region_scores(model: nn.Module, mask: Tensor) -> Callable[[object], object]:
    """Initial relevance: the scores of ``CLASS`` inside ``mask`` (H, W)."""

    def scores(output: Tensor) -> Tensor:
        chosen = torch.zeros_like(output)
        chosen[:, CLASS] = output[:, CLASS] * mask
        return chosen

    if isinstance(model, SmallUNet):
        return scores  # type: ignore[return-value]
    return lambda output: {"out": scores(output["out"])}  # type: ignore[index]


def test_a_pixel_s_score_arrives_or_is_accounted_for(segmenter: nn.Module) -> None:
    x = pictures(2, SIZE)
    target = named(segmenter, CLASS, ROW, COLUMN)
    score = output_of(segmenter, x)[:, CLASS, ROW, COLUMN]
    report = check_conservation(segmenter, x, target)
    # Float32 sums over a hundred layers.
    assert report.score == pytest.approx(float(score.sum()), rel=1e-5)
    assert abs(report.unaccounted) < 1e-3 * abs(report.score)
    relevance = LRPZBeta(segmenter, conserve=True).attribute(x, target)
    torch.testing.assert_close(relevance.sum((1, 2, 3)), score, rtol=1e-2, atol=0)


def test_a_region_s_scores_arrive_or_are_accounted_for(segmenter: nn.Module) -> None:
    x = pictures(1, SIZE)
    mask = torch.zeros(SIZE, SIZE)
    mask[8:24, 30:50] = 1
    initial = region_scores(segmenter, mask)
    total = float((output_of(segmenter, x)[:, CLASS] * mask).sum())
    report = check_conservation(segmenter, x, initial_relevance=initial)
    assert report.score == pytest.approx(total, rel=1e-5)
    assert abs(report.unaccounted) < 1e-3 * abs(total)
    relevance = LRPZBeta(segmenter, conserve=True).attribute(x, initial_relevance=initial)
    assert float(relevance.sum()) == pytest.approx(total, rel=1e-2)


def test_a_region_of_one_pixel_is_that_pixel(segmenter: nn.Module) -> None:
    x = pictures(1, SIZE)
    mask = torch.zeros(SIZE, SIZE)
    mask[ROW, COLUMN] = 1
    lrp = LRPZBeta(segmenter)
    region = lrp.attribute(x, initial_relevance=region_scores(segmenter, mask))
    pixel = lrp.attribute(x, named(segmenter, CLASS, ROW, COLUMN))
    torch.testing.assert_close(region, pixel, rtol=1e-5, atol=1e-8)


def test_contrasts_of_a_pixel_are_finite_and_not_negative(segmenter: nn.Module) -> None:
    x = pictures(1, SIZE)
    target = named(segmenter, CLASS, ROW, COLUMN)
    for method in (ContrastiveLRP1, ContrastiveLRP2):
        relevance = method(segmenter, conserve=True).attribute(x, target)
        assert relevance.isfinite().all()
        assert not (relevance < 0).any()
        assert relevance.sum() > 0


def test_a_pixel_of_the_u_net_sees_its_receptive_field_only() -> None:
    """The corner far away has no path to the pixel, through neither convolutions nor transposed ones."""
    model, x = u_net(), pictures(1, SIZE)
    relevance = LRPZBeta(model, conserve=True).attribute(x, (CLASS, 2, 2))
    variable = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(variable)[0, CLASS, 2, 2], variable)
    unreachable = torch.ones(SIZE, SIZE, dtype=torch.bool)
    unreachable[: SIZE // 2, : SIZE // 2] = False
    assert not gradient[..., unreachable].any()
    assert not relevance[..., unreachable].any()
    assert relevance.abs().sum() > 0


def test_the_auxiliary_head_has_targets_of_its_own() -> None:
    model, x = torchvision_segmenter("deeplabv3_mobilenet_v3_large"), pictures(1, SIZE)
    with torch.no_grad():
        score = model(x)["aux"][0, CLASS, ROW, COLUMN]
    relevance = LRPZBeta(model, conserve=True).attribute(x, ("aux", CLASS, ROW, COLUMN))
    assert float(relevance.sum()) == pytest.approx(float(score), rel=1e-2)
    with pytest.raises(InvalidTargetError, match=r"out.*aux"):
        LRPZBeta(model).attribute(x, (CLASS, ROW, COLUMN))
