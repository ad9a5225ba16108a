"""Networks as users build them: each odd one explains as its plain twin does, or is refused with the remedy."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
import torch.nn.functional as F
from networks import Body, Operation, body, images
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    InvalidTargetError,
    LayerLRPZBeta,
    LRPZBeta,
    ModelStateError,
    UnsupportedOperationError,
    check_conservation,
    explain_plan,
)
from captum_clrp.rules import Epsilon

# Float64 rounding; another order of sums at most.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def plain(s: Body, x: Tensor) -> Tensor:
    return s.head(F.relu(s.conv2(F.relu(s.conv1(x)))))


def net(function: Callable[..., Any]) -> Body:
    """`body` with two constants that carry a graph from before, as hypernetworks have them."""
    model = body(function)
    model.half = torch.full((), 0.25).double().requires_grad_() * 2
    model.other_weight = model.conv1.weight * 1.0
    return model


# -- odd networks and their plain twins ---------------------------------------------------------------------------

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
    """What runs after it in the same forward is neither named after it nor given its rule."""

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
    assert (second.module, second.rule) == ("(Body)", "ZPlus()")
    torch.testing.assert_close(LRPZBeta(model).attribute(x, 1), LRPZBeta(body(plain)).attribute(x, 1), **CLOSE)


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


# -- normalisation inside forward ----------------------------------------------------------------------------------

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


def test_bounds_follow_to_every_first_convolution_of_parallel_stems() -> None:
    model = body(lambda s, x: s.head(F.relu(s.conv1(normalized(x))) + F.relu(s.conv1(x.flip(3) * 2))))
    records = explain_plan(model, images()).records
    assert [r.rule[:5] for r in records if r.operation == "conv2d"] == ["ZBeta", "ZBeta"]


# -- modules and weights -------------------------------------------------------------------------------------------


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


# -- wrappers ------------------------------------------------------------------------------------------------------


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_submodule(model: Body) -> nn.Module:
    model.conv2 = torch.compile(model.conv2, backend="eager")
    return model


def data_parallel(model: nn.Module) -> nn.Module:
    return nn.DataParallel(model)


def data_parallel_inside(model: Body) -> nn.Module:
    model.conv2 = nn.DataParallel(model.conv2)
    return model


def symbolically_traced(model: nn.Module) -> nn.Module:
    layers = (model.conv1, nn.ReLU(), model.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.fc)
    return torch.fx.symbolic_trace(nn.Sequential(*layers))


def wrapped(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Identity(), model, nn.Identity())


def averaged(model: nn.Module) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(model)


def copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


@pytest.mark.parametrize(
    "wrap",
    [
        compiled,
        compiled_in_place,
        compiled_submodule,
        data_parallel,
        data_parallel_inside,
        symbolically_traced,
        wrapped,
        averaged,
        copied,
    ],
    ids=lambda f: f.__name__,
)
def test_wrappers_make_no_difference(wrap: Callable[[Any], nn.Module]) -> None:
    x = images()
    model = wrap(body(plain)).eval()
    if wrap in (compiled, compiled_in_place, compiled_submodule):
        model(x)  # as in use: compiled already
    for method in (LRPZBeta, ContrastiveLRP1, ContrastiveLRP2):
        torch.testing.assert_close(method(model).attribute(x, 1), method(body(plain)).attribute(x, 1), **CLOSE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["script", "trace", "script inside", "trace inside", "frozen"])
def test_scripted_modules_are_refused_with_the_remedy(how: str) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).double().eval()
    x = images()
    made: nn.Module = torch.jit.trace(layers, x) if "trace" in how else torch.jit.script(layers)
    made = torch.jit.freeze(made) if how == "frozen" else made
    model = nn.Sequential(nn.Identity(), made) if "inside" in how else made
    with pytest.raises(ModelStateError, match=r"(?s)scripted or traced.*explain the nn.Module"):
        LRPZBeta(model).attribute(x, (1, 2, 2))


# -- what cannot be followed is refused, not left out --------------------------------------------------------------


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class InNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


@torch.jit.script
def scripted_swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


traced_double = torch.jit.trace(lambda x: x * 2, torch.zeros(1))


library = torch.library.Library("captum_clrp_test", "DEF")  # drops its operations with itself
library.define("double(Tensor x) -> Tensor")
library.impl("double", lambda x: x.detach().clone() * 2, "CompositeExplicitAutograd")


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "custom function": (Square.apply, "custom torch.autograd.Function"),
    "custom function that returns its input": (Same.apply, "outside torch functions"),
    "reentrant checkpoint": (lambda h: checkpoint(torch.relu, h, use_reentrant=True), "custom torch.autograd.Function"),
    "scripted function": (scripted_swish, "outside torch functions"),
    "traced function": (traced_double, "outside torch functions"),
    "vmap": (lambda h: torch.vmap(torch.relu)(h), "outside torch functions"),
    "grad inside": (lambda h: torch.func.grad(lambda t: t.relu().sum())(h), "outside torch functions"),
    "kernel by its own name": (torch.ops.aten.relu.default, "relu.default"),
    "custom kernel": (lambda h: torch.ops.captum_clrp_test.double(h), "double"),
    "foreach": (lambda h: torch._foreach_mul([h], 2.0)[0], "_foreach_mul"),
    "foreach in place": (lambda h: [k := h.clone(), torch._foreach_mul_([k], 2.0)][0], "_foreach_mul_"),
    "data replaced": (lambda h: setattr(k := h.clone(), "data", h * 2) or k, "__set__"),
    "set": (lambda h: h.clone().set_(h), "set_"),
    "fourier transform": (lambda h: torch.fft.ifft2(torch.fft.fft2(h)).real, "fft_fft2"),
}


@pytest.mark.parametrize("enable_grad", [False, True], ids=["", "grad enabled"])
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refused_also_where_another_branch_carries_the_signal(name: str, enable_grad: bool) -> None:
    function, message = REFUSED[name]

    def forward(s: Body, x: Tensor) -> Tensor:
        h = F.relu(s.conv1(x))
        with torch.set_grad_enabled(enable_grad):
            side = function(h)
        return s.head(s.conv2(h) + side)

    with pytest.raises(UnsupportedOperationError) as caught:
        LRPZBeta(body(forward)).attribute(images(), 1)
    assert message in str(caught.value)
    assert "What to do" in str(caught.value)


def test_numpy_on_the_way_is_warned_of() -> None:
    def forward(s: Body, x: Tensor) -> Tensor:
        h = F.relu(s.conv1(x))
        return s.head(s.conv2(h) + torch.from_numpy(h.detach().cpu().numpy().copy()))

    with pytest.warns(UserWarning, match="out of PyTorch"):
        LRPZBeta(body(forward)).attribute(images(), 1)


def test_numpy_as_the_only_way_is_refused() -> None:
    model = body(lambda s, x: s.head(torch.from_numpy(F.relu(s.conv1(x)).detach().numpy())))
    with pytest.warns(UserWarning), pytest.raises(ModelStateError, match="does not depend on the inputs.*numpy"):
        LRPZBeta(model).attribute(images(), 1)


def test_quantised_models_are_refused_by_name() -> None:
    quantized = torch.quantize_per_tensor(torch.rand(4, 4), 0.1, 0, torch.qint8)
    model = body(
        lambda s, x: s.head(torch.quantize_per_tensor(s.conv1(x).float(), 0.1, 0, torch.quint8).dequantize().double())
    )
    assert quantized.is_quantized
    with pytest.raises(UnsupportedOperationError, match="quantize_per_tensor"):
        LRPZBeta(model).attribute(images(), 1)


# -- user hooks ----------------------------------------------------------------------------------------------------


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


# -- several inputs and outputs ------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = body(plain)
        self.table = nn.Linear(7, 5).double()
        self.out = nn.Linear(10, 3).double()

    def forward(self, image: Tensor, table: Tensor, scale: float = 1.0, *, shift: float = 0.0) -> Tensor:
        return self.out(torch.cat([self.image(image), F.relu(self.table(table))], 1)) * scale + shift


def test_several_inputs_share_the_score() -> None:
    model, x, table = TwoInputs().eval(), images(), torch.randn(2, 7).double()
    lrp = LRPZBeta(model, (0.0, -5.0), (1.0, 5.0), conserve=True)
    of_image, of_table = lrp.attribute((x, table), 2, additional_forward_args=2.0)
    assert of_image.shape == x.shape
    assert of_table.shape == table.shape
    score = model(x, table, 2.0)[:, 2]
    torch.testing.assert_close(of_image.sum((1, 2, 3)) + of_table.sum(1), score, **CLOSE)
    classes = lrp.attribute_classes((x, table), [0, 2], additional_forward_args=2.0)
    torch.testing.assert_close(classes[0][:, 1], of_image, **CLOSE)
    torch.testing.assert_close(classes[1][:, 1], of_table, **CLOSE)


def test_an_input_that_is_not_used_gets_zero() -> None:
    model = Operation(lambda image, other: net(image))
    net = body(plain)
    model.net = net
    first, second = LRPZBeta(model).attribute((images(), torch.rand(2, 4).double()), 1)
    assert first.abs().sum() > 0
    assert torch.equal(second, torch.zeros(2, 4).double())


def test_one_tensor_given_twice() -> None:
    model = Operation(lambda a, b: net(a) + net(b))
    net = body(plain)
    model.net = net
    x = images()
    first, second = LRPZBeta(model, conserve=True).attribute((x, x), 1)
    torch.testing.assert_close(first, second, **CLOSE)


@dataclasses.dataclass
class Result:
    logits: Tensor
    features: Tensor | None = None
    name: str = "result"


def tuple_of(s: Body, x: Tensor) -> Any:
    return plain(s, x), s.conv1(x)


def list_of(s: Body, x: Tensor) -> Any:
    return [plain(s, x), s.conv1(x)]


def dict_of(s: Body, x: Tensor) -> Any:
    return {"logits": plain(s, x), "features": s.conv1(x), "note": "text"}


def dataclass_of(s: Body, x: Tensor) -> Any:
    return Result(plain(s, x), s.conv1(x))


def dataclass_of_one(s: Body, x: Tensor) -> Any:
    return Result(plain(s, x))


def dict_of_one(s: Body, x: Tensor) -> Any:
    return {"logits": plain(s, x), "note": "text"}


@pytest.mark.parametrize(
    ("function", "target"),
    [
        (tuple_of, (0, 3)),
        (list_of, (0, 3)),
        (dict_of, ("logits", 3)),
        (dataclass_of, ("logits", 3)),
        (dataclass_of_one, 3),
        (dict_of_one, 3),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_one_of_several_outputs_is_chosen(function: Callable[..., Any], target: Any) -> None:
    x = images()
    for method in (LRPZBeta, ContrastiveLRP1, ContrastiveLRP2):
        expected = method(body(plain), conserve=True).attribute(x, 3)
        torch.testing.assert_close(method(body(function), conserve=True).attribute(x, target), expected, **CLOSE)


def test_the_other_output_has_its_own_targets() -> None:
    x = images()
    expected = LRPZBeta(body(lambda s, x: s.conv1(x))).attribute(x, (2, 3, 4))
    torch.testing.assert_close(LRPZBeta(body(dict_of)).attribute(x, ("features", 2, 3, 4)), expected, **CLOSE)


def test_initial_relevance_chooses_an_output() -> None:
    x = images()
    expected = LRPZBeta(body(plain)).attribute(x, initial_relevance=lambda output: output.abs())
    choices: list[tuple[Callable[..., Any], Any]] = [
        (dict_of, lambda output: {"logits": output["logits"].abs()}),
        (tuple_of, lambda output: (output[0].abs(), None)),
        (dataclass_of, lambda output: Result(output.logits.abs())),
    ]
    for function, initial in choices:
        torch.testing.assert_close(LRPZBeta(body(function)).attribute(x, initial_relevance=initial), expected, **CLOSE)


@pytest.mark.parametrize("function", [tuple_of, dict_of, dataclass_of], ids=lambda f: f.__name__)
@pytest.mark.parametrize("target", [3, None, ("nothing", 3), (0,)])
def test_a_target_that_names_no_output_says_which_there_are(function: Callable[..., Any], target: Any) -> None:
    if function is tuple_of and target == (0,):
        target = (7, 1)
    with pytest.raises(InvalidTargetError, match="which one to explain"):
        LRPZBeta(body(function)).attribute(images(), target)


def test_auxiliary_head_is_explained_on_request() -> None:
    class WithHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = body(tuple_of)
            self.aux = nn.Linear(4, 2).double()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits, features = self.net(x)
            return {"out": logits, "aux": self.aux(features.relu().amax((2, 3)))}

    model, x = WithHead().eval(), images()
    main = LRPZBeta(model, conserve=True).attribute(x, ("out", 3))
    torch.testing.assert_close(main, LRPZBeta(body(plain), conserve=True).attribute(x, 3), **CLOSE)
    side = LRPZBeta(model, conserve=True).attribute(x, ("aux", 1))
    torch.testing.assert_close(side.sum((1, 2, 3)), model(x)["aux"][:, 1], **CLOSE)
    assert ContrastiveLRP2(model).attribute(x, ("aux", 1)).sum() > 0


# -- output layers -------------------------------------------------------------------------------------------------


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


# -- memory layouts and modes of the input -------------------------------------------------------------------------


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


# -- reading in the middle -----------------------------------------------------------------------------------------


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
