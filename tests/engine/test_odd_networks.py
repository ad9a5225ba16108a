"""Networks as users build them: each odd one explains as its plain twin does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import CLOSE, Body, body, images, plain
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from captum_clrp import ContrastiveLRP2, LayerLRPZBeta, LRPZBeta, check_conservation, explain_plan
from captum_clrp.rules import Epsilon


def net(function: Callable[..., Any]) -> Body:
    """`body` with two constants that carry a graph from before, as hypernetworks have them."""
    model = body(function)
    model.half = torch.full((), 0.25).double().requires_grad_() * 2
    model.other_weight = model.conv1.weight * 1.0
    return model


TWINS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}


def twin(reference: Callable[..., Any] = plain) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        TWINS[function.__name__] = (function, reference)
        return function

    return register


@twin()
def no_grad_inside(s: Body, x: Tensor) -> Tensor:
    with torch.no_grad():
        return plain(s, x)


@twin()
def enable_grad_inside(s: Body, x: Tensor) -> Tensor:
    with torch.enable_grad():
        h = F.relu(F.conv2d(x, s.conv1.weight * 1.0, s.conv1.bias + 0, padding=1))
        return s.head(F.relu(F.conv2d(h, s.conv2.weight * 1.0, s.conv2.bias, padding=1)))


@twin()
def inference_mode_inside(s: Body, x: Tensor) -> Tensor:
    with torch.inference_mode():
        h = F.relu(s.conv1(x)) * torch.ones(1).double()
        h = s.conv2(h)
        h += torch.zeros(1).double()
        return s.head(h.relu_())


@twin()
def detached_inside(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x)).detach()
    return s.head(F.relu(s.conv2(h.data)).detach_().requires_grad_())


@twin()
def checkpointed(s: Body, x: Tensor) -> Tensor:
    return s.head(checkpoint(lambda h: F.relu(s.conv2(h)), F.relu(s.conv1(x)), use_reentrant=False))


@twin()
def compiled_function_inside(s: Body, x: Tensor) -> Tensor:
    return s.head(torch.compile(lambda h: torch.relu(s.conv2(h)), backend="eager")(F.relu(s.conv1(x))))


@twin()
def example_by_example(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    return s.head(torch.stack([F.relu(s.conv2(e[None]))[0] for e in h]))


@twin()
def unpacked(s: Body, x: Tensor) -> Tensor:
    a, b, *rest = F.relu(s.conv1(x)).transpose(0, 1)
    return s.head(F.relu(s.conv2(torch.stack([a, b, *rest], 1))))


@twin()
def pieces_in_place(s: Body, x: Tensor) -> Tensor:
    first, second = s.conv1(x).chunk(2, 1)
    h = s.conv2(torch.cat((first.relu_(), F.relu(second)), 1))
    for piece in h.unbind(1):
        piece.clamp_(min=0)
    return s.head(h)


@twin()
def an_error_on_the_way(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    try:
        h = s.conv2(torch.cat([h, h], 1))
    except RuntimeError:
        h = s.conv2(h)
    return s.head(F.relu(h))


def test_a_module_that_failed_is_left_behind() -> None:
    """What runs after it in the same forward is not named after it; its rule goes with its weights."""

    def forward(s: Body, x: Tensor) -> Tensor:
        h = F.relu(s.conv1(x))
        try:
            s.conv2(torch.cat([h, h], 1))
        except RuntimeError:
            h = F.conv2d(h, s.conv2.weight, s.conv2.bias, padding=1)
        return s.head(F.relu(h))

    model, x = body(forward), images()
    model.conv2.rule = Epsilon()
    second = [r for r in explain_plan(model, x).records if r.operation == "conv2d"][1]
    assert (second.module, second.rule) == ("(Body)", "Epsilon(epsilon=1e-09, bias=False)")
    expected = body(plain)
    expected.conv2.rule = Epsilon()
    torch.testing.assert_close(LRPZBeta(model).attribute(x, 1), LRPZBeta(expected).attribute(x, 1), **CLOSE)


@twin()
def looks_at_values(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    assert bool(torch.isfinite(h).all()) and h.max().item() > 0 and len(repr(h)) and h.numel() and not h.isnan().any()
    assert h.shape == torch.empty_like(h).shape and h.argmax() >= 0 and h.dtype == torch.float64
    return s.head(F.relu(s.conv2(h)))


@twin()
def written_to_slices(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    out = torch.zeros_like(h)
    out[:, :2] += h[:, :2]
    out[:, 2:] = h[:, 2:]
    return s.head(F.relu(s.conv2(out)))


@twin()
def written_to_a_view_of_a_constant(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    out = torch.ones_like(h)
    view = out[:, :2]
    view.mul_(h[:, :2])
    out[:, 2:].copy_(h[:, 2:])
    return s.head(F.relu(s.conv2(out)))


@twin()
def written_to_new_memory(s: Body, x: Tensor) -> Tensor:
    h = x.new_empty(len(x), 4, *x.shape[2:])
    for k in range(4):
        h[:, k] = F.relu(s.conv1(x))[:, k]
    return s.head(F.relu(s.conv2(h)))


@twin(lambda s, x: s.head(s.conv2(torch.cat([F.relu(s.conv1(x))[:, :2] - 5.0, F.relu(s.conv1(x))[:, 2:]], 1))))
def negative_through_a_view(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    h[:, :2].sub_(5.0)
    return s.head(s.conv2(h))


@twin(lambda s, x: s.head(s.conv2(torch.cat([F.relu(s.conv1(x))[:, :2] * -1, F.relu(s.conv1(x))[:, 2:]], 1))))
def negative_through_a_view_of_a_view(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    flat = h.view(len(x), 4, -1)
    flat.narrow(1, 0, 2).neg_()
    return s.head(s.conv2(h))


def residual(s: Body, x: Tensor) -> Tensor:
    h = s.conv1(x)
    return s.head(F.relu(s.conv2(F.relu(h)) + F.relu(h)))


@twin(residual)
def residual_in_place(s: Body, x: Tensor) -> Tensor:
    h = s.conv1(x)
    y = s.conv2(h.relu_())
    y += h
    return s.head(y.relu_())


@twin(residual)
def residual_overwritten_afterwards(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    y = F.relu(s.conv2(h) + h)
    h.zero_()
    return s.head(y)


@twin(lambda s, x: s.head(s.conv2(F.relu(s.conv1(x)) + F.relu(s.conv1(x)))))
def added_to_itself(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    h += h
    return s.head(s.conv2(h))


@twin(lambda s, x: s.head(s.conv2(F.max_pool2d(s.conv1(x), 2))) + s.head(F.relu(s.conv1(x))))
def pooled_then_overwritten(s: Body, x: Tensor) -> Tensor:
    h = s.conv1(x)
    pooled = F.max_pool2d(h, 2)
    h.relu_()
    return s.head(s.conv2(pooled)) + s.head(h)


@twin(lambda s, x: s.head(F.relu(s.conv1(x).amax((2, 3), keepdim=True))))
def winner_overwritten(s: Body, x: Tensor) -> Tensor:
    return s.head(s.conv1(x).amax((2, 3), keepdim=True).relu_())


@twin(lambda s, x: s.head(torch.maximum(s.conv1(x), s.conv2(s.conv1(x)))) + s.head(F.relu(s.conv1(x))))
def maximum_then_overwritten(s: Body, x: Tensor) -> Tensor:
    h = s.conv1(x)
    winner = torch.maximum(h, s.conv2(h))
    h.relu_()
    return s.head(winner) + s.head(h)


@twin(lambda s, x: s.head(s.conv2(s.conv1(x)) + s.conv1(x) * 2))
def out_argument(s: Body, x: Tensor) -> Tensor:
    h = s.conv1(x)
    double = torch.empty_like(h)
    torch.mul(h, 2, out=double)
    return s.head(s.conv2(h) + double)


@twin(lambda s, x: s.head(F.relu(s.conv2(F.relu(s.conv2(F.relu(s.conv1(x))))))))
def one_module_twice(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    for _ in range(2):
        h = F.relu(s.conv2(h))
    return s.head(h)


@twin(lambda s, x: s.head(F.relu(F.conv2d(F.relu(s.conv1(x)), s.conv2.weight, padding=1))))
def weights_shared_by_functions(s: Body, x: Tensor) -> Tensor:
    weight = s.conv2.weight.flip(0).flip(0)
    return s.head(F.relu(F.conv2d(F.relu(s.conv1(x)), weight, padding="same")))


@twin(lambda s, x: s.head(F.relu(s.conv2(F.relu(s.conv1(x))) * 2)))
def batched_dimension_folded(s: Body, x: Tensor) -> Tensor:
    h = F.relu(s.conv1(x))
    frames = h.unsqueeze(1).expand(-1, 2, -1, -1, -1).flatten(0, 1)
    return s.head(F.relu(s.conv2(frames).unflatten(0, (len(x), 2)).sum(1)))


@pytest.mark.parametrize("name", TWINS)
def test_explains_as_its_plain_twin(name: str) -> None:
    odd, reference = TWINS[name]
    x = images()
    for method in (LRPZBeta, ContrastiveLRP2):
        for conserve in (False, True):
            actual, expected = (
                method(net(f), 0.0, 1.0, conserve=conserve).attribute(x, initial_relevance=torch.ones_like)
                for f in (odd, reference)
            )
            torch.testing.assert_close(actual, expected, **CLOSE)
        assert expected.abs().sum() > 0


@pytest.mark.parametrize("name", TWINS)
def test_the_model_computes_as_ever_while_it_is_recorded(name: str) -> None:
    odd, _ = TWINS[name]
    model, x = net(odd), images()
    seen = []
    LRPZBeta(model).attribute(x, initial_relevance=lambda output: seen.append(output) or torch.zeros_like(output))
    with torch.no_grad():
        assert torch.equal(seen[0], model(x.clone()))


def test_layers_of_odd_networks_can_be_read() -> None:
    model, x = body(residual_in_place), images()
    at = LayerLRPZBeta(model, model.conv2, conserve=True).attribute(x, 1, attribute_to_layer_input=True)
    reference = body(lambda s, x: (lambda h: s.head(F.relu(s.conv2(h) + h)))(F.relu(s.conv1(x))))
    expected = LayerLRPZBeta(reference, reference.conv2, conserve=True).attribute(x, 1, attribute_to_layer_input=True)
    torch.testing.assert_close(at, expected, **CLOSE)


def test_reports_agree_with_what_is_returned() -> None:
    for odd, _ in TWINS.values():
        report = check_conservation(net(odd), images(), 1)
        assert abs(report.unaccounted) < 1e-9 * (1 + abs(report.score))
        relevance, delta = LRPZBeta(net(odd)).attribute(images(), 1, return_convergence_delta=True)
        assert float(relevance.sum()) == pytest.approx(report.at_input, abs=1e-9)
        assert float(delta.sum()) == pytest.approx(report.absorbed, abs=1e-9)
