"""Hooks that the user registered are part of the model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from helpers.bodies import CLOSE, Body, body, images, plain
from torch import Tensor
from torch.autograd.graph import register_multi_grad_hook
from torch.utils.flop_counter import FlopCounterMode

from captum_clrp import LRPZBeta


def test_hooks_that_change_outputs_are_part_of_the_model() -> None:
    model = body(plain)
    model.conv1.register_forward_hook(
        lambda module, inputs, output: output * torch.tensor([1.0, 0, 2, -1]).double().view(1, 4, 1, 1)
    )
    model.conv2.register_forward_pre_hook(lambda module, inputs: (inputs[0].clamp(max=0.2),))
    x = images()

    def as_hooked(s: Body, x: Tensor) -> Tensor:
        h = s.conv1(x) * torch.tensor([1.0, 0, 2, -1]).double().view(1, 4, 1, 1)
        return s.head(F.relu(s.conv2(F.relu(h).clamp(max=0.2))))

    torch.testing.assert_close(LRPZBeta(model).attribute(x, 1), LRPZBeta(body(as_hooked)).attribute(x, 1), **CLOSE)


def test_hooks_that_keep_activations_may() -> None:
    model = body(plain)
    kept: dict[str, Any] = {}
    model.conv1.register_forward_hook(lambda m, i, o: kept.update(conv1=o.detach().clone()))
    model.conv2.register_forward_hook(lambda m, i, o: kept.update(conv2=o.detach().cpu()))
    x = images()
    torch.testing.assert_close(LRPZBeta(model).attribute(x, 1), LRPZBeta(body(plain)).attribute(x, 1), **CLOSE)
    with torch.no_grad():
        assert torch.equal(kept["conv1"].detach(), model.conv1(x))


def test_hooks_for_gradients_of_several_tensors_are_never_called() -> None:
    model, called = body(plain), []
    model.conv2.register_forward_hook(lambda m, i, o: (register_multi_grad_hook((i[0], o), called.append), None)[1])
    x = images()
    torch.testing.assert_close(LRPZBeta(model).attribute(x, 1), LRPZBeta(body(plain)).attribute(x, 1), **CLOSE)
    assert not called


def test_a_counter_of_operations_sees_the_forward_pass() -> None:
    model, x = body(plain), images()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(x)
    expected = LRPZBeta(model).attribute(x, 1)
    with FlopCounterMode(display=False) as counted:
        actual = LRPZBeta(model).attribute(x, 1)
    assert torch.equal(actual, expected)
    ours, models = counted.get_flop_counts()["Global"], forward.get_flop_counts()["Global"]
    assert ours[torch.ops.aten.addmm] == models[torch.ops.aten.addmm] > 0
    # the model's own convolutions; bounds of the first one, and positive parts of the second
    assert ours[torch.ops.aten.convolution] > 2 * models[torch.ops.aten.convolution] > 0
