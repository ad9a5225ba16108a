"""Weights that a model computes, changes or shares."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import oracles
from helpers.bodies import CLOSE, Body, body, images, plain
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from captum_clrp import ContrastiveLRP1, LRPZBeta, UnsupportedOperationError


class Standardized(nn.Conv2d):
    """Weight standardisation, as in BiT and NFNet."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class BatchNormalized(nn.Conv2d):
    """Weight standardisation by ``F.batch_norm`` in training mode, as timm does it: weights, not activations."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True).reshape_as(
            self.weight
        )
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def frozen(conv: nn.Conv2d) -> nn.Conv2d:
    """The plain convolution with the weights that ``conv`` computes."""
    weights = []

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.conv2d or func is F.conv2d:
                weights.append(args[1])
            return func(*args, **(kwargs or {}))

    with Spy(), torch.no_grad():
        conv(torch.zeros(1, conv.in_channels, 8, 8).double())
    result = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding).double()
    result.weight.data.copy_(weights[0])
    result.bias.data.copy_(conv.bias.data)
    return result


def old_norm(name: str) -> Callable[[nn.Conv2d], nn.Conv2d]:
    def apply(conv: nn.Conv2d) -> nn.Conv2d:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(nn.utils, name)(conv)

    return apply


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def parametrized(conv: nn.Conv2d) -> nn.Conv2d:
    parametrize.register_parametrization(conv, "weight", Doubled())
    return conv


def recast(kind: type[nn.Conv2d]) -> Callable[[nn.Conv2d], nn.Conv2d]:
    def apply(conv: nn.Conv2d) -> nn.Conv2d:
        conv.__class__ = kind
        return conv

    return apply


def pruned(conv: nn.Conv2d) -> nn.Conv2d:
    return prune.l1_unstructured(conv, "weight", 0.3)


MAKES_WEIGHTS = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight norm": old_norm("weight_norm"),
    "old spectral norm": old_norm("spectral_norm"),
    "parametrization": parametrized,
    "weight standardisation": recast(Standardized),
    "weight standardisation by batch norm": recast(BatchNormalized),
    "pruned": pruned,
}


@pytest.mark.parametrize("name", MAKES_WEIGHTS)
def test_weights_that_are_computed_count_as_weights(name: str) -> None:
    model = body(plain)
    model.conv2 = MAKES_WEIGHTS[name](model.conv2)
    model.eval()
    x = images()
    model(x.clone())
    twin = body(plain)
    twin.conv2 = frozen(model.conv2)
    twin.eval()
    for method in (LRPZBeta, ContrastiveLRP1):
        torch.testing.assert_close(method(model).attribute(x, 1), method(twin).attribute(x, 1), **CLOSE)


def by_convolution(s: Body, h: Tensor, weight: Tensor) -> Tensor:
    return s.head(F.relu(F.conv2d(h, weight, padding=1)))


def by_transposed_convolution(s: Body, h: Tensor, weight: Tensor) -> Tensor:
    return s.head(F.relu(F.conv_transpose2d(h, weight)))


def by_linear(s: Body, h: Tensor, weight: Tensor) -> Tensor:
    return s.head(F.relu(F.linear(h.movedim(1, -1), weight.flatten(1)[:, :4]).movedim(-1, 1)))


@pytest.mark.parametrize("use", [by_convolution, by_transposed_convolution, by_linear], ids=lambda f: f.__name__)
def test_weights_made_from_the_input_get_no_relevance(use: Callable[..., Tensor]) -> None:
    """As in dynamic convolutions and hypernetworks: like gates, they count as the numbers that they are."""
    x = images(1)

    def dynamic(s: Body, x: Tensor) -> Tensor:
        h = F.relu(s.conv1(x))
        return use(s, h, s.conv2.weight * (h.mean() - h.amax((0, 2, 3))[:, None, None, None]))

    def frozen(s: Body, x: Tensor) -> Tensor:
        return use(s, F.relu(s.conv1(x)), weight)

    model = body(dynamic)
    with torch.no_grad():
        h = F.relu(model.conv1(x))
        weight = model.conv2.weight * (h.mean() - h.amax((0, 2, 3))[:, None, None, None])
    for method in (LRPZBeta, ContrastiveLRP1):
        for conserve in (False, True):
            expected = method(body(frozen), conserve=conserve).attribute(x, 1)
            torch.testing.assert_close(method(model, conserve=conserve).attribute(x, 1), expected, **CLOSE)


@pytest.mark.parametrize("function", [F.conv2d, F.conv_transpose2d], ids=lambda f: f.__name__)
def test_weights_made_from_the_input_for_a_constant_are_refused(function: Callable[..., Tensor]) -> None:
    """All of the signal would be in the weights, which get no relevance."""
    model = body(
        lambda s, x: s.head(function(torch.ones(1, 4, 6, 6).double(), s.conv2.weight * F.relu(s.conv1(x)).mean()))
    )
    with pytest.raises(UnsupportedOperationError, match="its weights depend on the input and its operand does not"):
        LRPZBeta(model).attribute(images(1), 1)


def test_weights_that_change_between_calls_are_seen() -> None:
    """Through optimizers, ``.data``, ``load_state_dict``, and another tensor in the same place."""
    x = images()

    def explain(model: nn.Module) -> Tensor:
        return LRPZBeta(model, conserve=True).attribute(x, initial_relevance=torch.ones_like)

    model = body(plain)
    before = explain(model)
    changes: list[Callable[[], Any]] = [
        lambda: torch.optim.SGD(model.parameters(), 1e-3).step(),
        lambda: model.conv2.weight.data.mul_(-1.5),
        lambda: model.load_state_dict({k: v + 0.1 for k, v in model.state_dict().items()}),
        lambda: setattr(model.conv2, "weight", nn.Parameter(model.conv2.weight.detach().flip(0))),
        lambda: setattr(model.conv2.weight, "data", model.conv2.weight.detach().flip(1)),
        lambda: model.conv2.weight.data[2].zero_(),
        lambda: model.conv2.weight.data[1, 2, 0].neg_(),
        lambda: nn.init.normal_(model.fc.weight),
        lambda: model.float() and model.double(),
    ]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for change in changes:
        change()
        after = explain(model)
        torch.testing.assert_close(after, explain(copy.deepcopy(model)), **CLOSE)
        assert not torch.equal(after, before)
        before = after


def test_single_weights_written_through_data_are_seen() -> None:
    """PyTorch counts no such write; W+ of one that changed its sign would be another."""
    x = torch.rand(2, 40).double()
    model = nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 3)).double().eval()
    lrp = LRPZBeta(model)
    lrp.attribute(x, 1)
    for row, column in ((0, 1), (7, 3), (33, 31), (49, 39)):
        model[0].weight.data[row, column] += 3.0
        torch.testing.assert_close(lrp.attribute(x, 1), LRPZBeta(copy.deepcopy(model)).attribute(x, 1), **CLOSE)


def test_sequential_model() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Flatten(), nn.LazyLinear(5)).double().eval()
    x = images()
    model(x)
    expected = oracles.lrp(model, x, 3)
    torch.testing.assert_close(LRPZBeta(model).attribute(x, 3), expected, **CLOSE)


def test_unused_modules_do_no_harm() -> None:
    model = body(plain)
    model.never = nn.LSTM(3, 3)
    torch.testing.assert_close(LRPZBeta(model).attribute(images(), 1), LRPZBeta(body(plain)).attribute(images(), 1))


def test_submodule_shared_under_two_names() -> None:
    model = body(lambda s, x: s.head(s.again(F.relu(s.conv2(F.relu(s.conv1(x)))))))
    model.again = model.conv2
    reference = body(lambda s, x: s.head(s.conv2(F.relu(s.conv2(F.relu(s.conv1(x)))))))
    x = images()
    torch.testing.assert_close(LRPZBeta(model).attribute(x, 1), LRPZBeta(reference).attribute(x, 1), **CLOSE)
