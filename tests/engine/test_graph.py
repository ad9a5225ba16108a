"""Which layers are output layers, the ones whose weights the second contrast negates."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import oracles
from helpers.bodies import CLOSE, Body, body, images, plain
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, InvalidTargetError, LRPZBeta, UnsupportedOperationError


def two_passes(model: nn.Module, x: Tensor, target: int, names: list[str]) -> Tensor:
    """Relevance for the weights as they are minus that for negated ones, both of the score's magnitude."""
    with torch.no_grad():
        output = model(x.clone())
    initial = torch.zeros_like(output)
    initial[:, target] = output[:, target].abs()
    maps = [LRPZBeta(model).attribute(x, initial_relevance=initial)]
    mirrored = copy.deepcopy(model)

    class Negated(torch.overrides.TorchFunctionMode):
        """Everything computes as before, but the rule of the named layers sees ``-W``."""

    from captum_clrp.rules import RelevanceRule, Term, ZPlus

    class OfNegated(RelevanceRule):
        def terms(self, layer: Any, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
            return ZPlus().terms(layer.with_negated_weights(), activations, nonnegative)

    for name in names:
        mirrored.get_submodule(name).rule = OfNegated()
    maps.append(LRPZBeta(mirrored).attribute(x, initial_relevance=initial))
    return maps[0] - maps[1]


def squeezenet_head(s: Body, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(F.relu(s.conv2(F.relu(s.conv1(x)))), 1).flatten(1)


def two_branches(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    return s.fc(h.mean((2, 3))) + s.conv2(h).amax((2, 3)) @ torch.eye(4, 5).double()


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.first = nn.Linear(4, 5)
        self.second = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv(x))
        return self.first(h.mean((2, 3))) + self.second(h.amax((2, 3)))


def test_clrp2_of_a_convolution_followed_by_pooling() -> None:
    model, x = body(squeezenet_head), images()
    actual = ContrastiveLRP2(model).attribute(x, 1, relu_attributions=False)
    torch.testing.assert_close(actual, two_passes(model, x, 1, ["conv2"]), **CLOSE)
    layers = nn.Sequential(model.conv1, nn.ReLU(), model.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.testing.assert_close(actual, oracles.clrp2(layers, x, 1, relu=False), **CLOSE)


def test_clrp2_of_a_head_that_sums_two_branches() -> None:
    model, x = TwoHeads().double().eval(), images()
    actual = ContrastiveLRP2(model).attribute(x, 1, relu_attributions=False)
    torch.testing.assert_close(actual, two_passes(model, x, 1, ["first", "second"]), **CLOSE)


def test_clrp2_behind_batch_norm_softmax_and_slices() -> None:
    """Whatever stands behind the output layer, its weights are what is negated."""
    for after in (
        lambda y: F.softmax(y, 1),
        lambda y: F.batch_norm(y, torch.zeros(5).double(), torch.ones(5).double()),
        lambda y: torch.cat([y[:, 2:], y[:, :2]], 1),
        lambda y: y / 3.0 - 1.0,
        lambda y: y.view(len(y), 5, 1).squeeze(-1),
    ):
        model, x = body(lambda s, x, after=after: after(plain(s, x))), images()
        actual = ContrastiveLRP2(model).attribute(x, 1, relu_attributions=False)
        torch.testing.assert_close(actual, two_passes(model, x, 1, ["fc"]), **CLOSE)


def test_clrp2_with_a_path_around_the_output_layer_is_refused() -> None:
    model = body(lambda s, x: (lambda h: s.conv2(h) + h)(F.relu(s.conv1(x))).mean((2, 3)))
    with pytest.raises(UnsupportedOperationError, match=r"conv.*goes around it.*ContrastiveLRP1"):
        ContrastiveLRP2(model).attribute(images(), 1)
    assert ContrastiveLRP1(model).attribute(images(), 1).sum() > 0


@pytest.mark.parametrize("shape", ["(N, 1)", "(N,)"])
@pytest.mark.parametrize("target", [None, 0])
def test_one_output(shape: str, target: int | None) -> None:
    def forward(s: Body, x: Tensor) -> Tensor:
        y = plain(s, x)[:, 2:3]
        return y if shape == "(N, 1)" else y.squeeze(1)

    model, x = body(forward), images()
    if shape == "(N,)" and target == 0:
        return  # Captum knows no target there either
    torch.testing.assert_close(LRPZBeta(model).attribute(x, target), LRPZBeta(body(plain)).attribute(x, 2), **CLOSE)
    actual = ContrastiveLRP2(model).attribute(x, target)
    torch.testing.assert_close(actual, ContrastiveLRP2(body(plain)).attribute(x, 2), **CLOSE)
    with pytest.raises(InvalidTargetError, match=r"(?s)no other class to contrast with.*ContrastiveLRP2"):
        ContrastiveLRP1(model).attribute(x, target)


def test_regression_with_several_outputs() -> None:
    model, x = body(lambda s, x: plain(s, x) * 100 - 50), images()
    for target in range(5):
        relevance = LRPZBeta(model, conserve=True).attribute(x, target)
        torch.testing.assert_close(relevance.sum((1, 2, 3)), model(x)[:, target], **CLOSE)
