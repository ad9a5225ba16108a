"""Inputs of any memory layout, further arguments of every kind, and calls inside a mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bodies import CLOSE, Operation, body, images, plain
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta


def inference_tensor(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def subclass(x: Tensor) -> Tensor:
    from torchvision import tv_tensors

    return tv_tensors.Image(x)


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "strided": lambda x: torch.stack([x, x * 0], -1)[..., 0],
    "requires grad": lambda x: x.clone().requires_grad_(),
    "with a graph": lambda x: x.clone().requires_grad_() * 1,
    "inference tensor": inference_tensor,
    "parameter": lambda x: nn.Parameter(x.clone()),
    "picture of torchvision": subclass,
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_in_any_layout(name: str) -> None:
    x = images()
    given = INPUTS[name](x)
    expected = LRPZBeta(body(plain)).attribute(x, 1)
    actual = LRPZBeta(body(plain)).attribute(given, 1)
    torch.testing.assert_close(torch.as_tensor(actual), expected, **CLOSE)
    assert not actual.requires_grad
    assert actual.grad_fn is None
    assert given.grad is None if given.is_leaf else True


def test_expanded_input() -> None:
    x = images(1, 1).expand(2, 3, 6, 6)
    torch.testing.assert_close(LRPZBeta(body(plain)).attribute(x, 1), LRPZBeta(body(plain)).attribute(x.clone(), 1))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda m: m.__name__)
def test_called_inside_a_mode(mode: Any) -> None:
    x, expected = images(), {}
    for method in (LRPZBeta, ContrastiveLRP1, ContrastiveLRP2):
        expected[method] = method(body(plain)).attribute(x, 1)
    for method, map_outside in expected.items():
        with mode():
            inside = method(body(plain)).attribute(images(), 1)
            classes = method(body(plain)).attribute_classes(images(), [1, 2])
        assert torch.equal(inside, map_outside)
        torch.testing.assert_close(classes[:, 0], map_outside, **CLOSE)


def test_additional_arguments_of_every_kind() -> None:
    model = Operation(lambda x, scale, flag, options: net(x) * scale + (options["shift"] if flag else 0))
    net = body(plain)
    model.net = net
    x = images()
    scale = torch.tensor(2.0).double().requires_grad_()
    relevance = LRPZBeta(model, conserve=True).attribute(x, 1, additional_forward_args=(scale, True, {"shift": 1.0}))
    torch.testing.assert_close(relevance.sum((1, 2, 3)), (net(x) * 2 + 1)[:, 1].detach(), **CLOSE)
    assert scale.grad is None
