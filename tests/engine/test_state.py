"""What a model keeps from an explained call is a constant of the next one, and nothing piles up."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    UnsupportedOperationError,
    check_conservation,
    explain_plan,
)

# Float64 rounding.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


class Recurrent(nn.Module):
    """Keeps its hidden state, as it is or detached, as an attribute or in a buffer."""

    def __init__(self, keep: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner, self.state = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))
        self.keep, self.hidden, self.cached = keep, None, None

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x) if self.hidden is None else self.inner(x) + self.state(self.hidden)
        h = F.relu(h)
        if self.keep in ("detached", "as it is"):
            self.hidden = h.detach() if self.keep == "detached" else h
        if self.keep == "view":
            self.hidden = h[:, :, :]
        if self.keep == "buffer":
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * h.detach().mean((0, 2, 3)))
        if self.keep == "cached":
            if self.cached is None:
                self.cached = h.detach()
            return self.head((h + self.cached).mean((2, 3)))
        return self.head(h.mean((2, 3)) + (self.mean if self.keep == "buffer" else 0))


KEEPS = ["detached", "as it is", "view", "buffer", "cached"]


def pictures(seed: int) -> Tensor:
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("keep", KEEPS)
def test_it_makes_no_difference_whether_earlier_pictures_were_explained_or_run(keep: str) -> None:
    maps = []
    for explained in (False, True):
        model = Recurrent(keep).double().eval()
        if explained:
            LRPZBeta(model).attribute(pictures(0), target=1)
        else:
            with torch.no_grad():
                model(pictures(0))
        maps.append(LRPZBeta(model, conserve=True).attribute(pictures(1), target=1))
    torch.testing.assert_close(*maps, **CLOSE)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("kind", [LRPZBeta, ContrastiveLRP2])
def test_what_is_kept_has_no_graph_and_the_model_can_be_copied(keep: str, kind: type[LRPZBeta]) -> None:
    model = Recurrent(keep).double().eval()
    kind(model).attribute(pictures(0), target=1)
    for value in (model.hidden, model.cached, model.mean):
        assert value is None or (not value.requires_grad and value.grad_fn is None and not hasattr(value, "_clrp_mark"))
    copy.deepcopy(model)


def test_a_state_that_is_handed_in_comes_back_without_a_graph() -> None:
    class Updates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            h = F.relu(self.conv(x))
            state.mul_(0.5).add_(h.mean((2, 3)))
            return self.head(h.mean((2, 3)))

    model, state = Updates().eval(), torch.zeros(1, 4)
    LRPZBeta(model).attribute(pictures(0).float(), target=1, additional_forward_args=state)
    assert not state.requires_grad
    assert state.grad_fn is None
    assert state.abs().sum() > 0  # the model has written to it, as it does without us


def test_an_exception_leaves_nothing_behind_either() -> None:
    class Fails(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise ValueError("on purpose")

    model = Fails("as it is").double().eval()
    with pytest.raises(ValueError, match="on purpose"):
        LRPZBeta(model).attribute(pictures(0), target=1)
    assert not model.hidden.requires_grad


def live_tensors() -> int:
    gc.collect()
    return sum(isinstance(thing, Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("keep", KEEPS)
def test_nothing_piles_up_over_two_hundred_calls(keep: str) -> None:
    model = Recurrent(keep).double().eval()
    explain = LRPZBeta(model)
    for seed in range(10):
        explain.attribute(pictures(seed), target=1)
    before = live_tensors()
    for seed in range(200):
        explain.attribute(pictures(seed), target=1)
    assert live_tensors() <= before + 2  # of others' making


# --- refusals count where relevance would reach them


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, i):  # type: ignore[no-untyped-def]
        return i * torch.sigmoid(i)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g


class Branches(nn.Module):
    """A layer beside a branch with a custom function."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.layer, self.head = nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor, act=Swish.apply) -> Tensor:  # type: ignore[no-untyped-def]
        h = F.relu(self.first(x))
        branch = F.relu(act(h))
        return self.head((self.layer(self.second(h)) + branch).mean((2, 3)))


def test_a_branch_that_was_refused_in_front_of_a_layer_is_no_constant_behind_it() -> None:
    model = Branches().double().eval()
    with pytest.raises(UnsupportedOperationError, match=r"custom torch\.autograd\.Function"):
        LRPZBeta(model).attribute(pictures(0), target=1)
    received = LayerLRPZBeta(model, model.layer).attribute(pictures(0), target=1)
    followed = LayerLRPZBeta(model, model.layer).attribute(pictures(0), target=1, additional_forward_args=F.silu)
    torch.testing.assert_close(received, followed, **CLOSE)


def test_a_custom_function_behind_a_layer_is_refused_there_too() -> None:
    class Behind(Branches):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            h = self.layer(self.first(x))
            return self.head((self.second(h) + F.relu(Swish.apply(h))).mean((2, 3)))

    model = Behind().double().eval()
    with pytest.raises(UnsupportedOperationError, match=r"custom torch\.autograd\.Function"):
        LayerLRPZBeta(model, model.layer).attribute(pictures(0), target=1)


class WithLoss(nn.Module):
    """Returns logits and, beside them, a loss that no rule is known for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.head(F.relu(self.conv(x)).mean((2, 3)))
        return {
            "logits": logits,
            "loss": F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long))[None].cumsum(0),
        }


def test_operations_off_the_explained_path_do_not_refuse() -> None:
    model, x = WithLoss().double().eval(), pictures(0)
    received = LRPZBeta(model, conserve=True).attribute(x, target=("logits", 1))
    torch.testing.assert_close(received.sum(), model(x)["logits"][0, 1].detach(), **CLOSE)
    with pytest.raises(UnsupportedOperationError, match="cumsum|cross_entropy"):
        LRPZBeta(model).attribute(x, target=("loss",))
    assert check_conservation(model, x, target=("logits", 1)).score != 0
    with pytest.raises(UnsupportedOperationError):
        explain_plan(model, x)


# --- two outputs, hooks


class Supervised(nn.Module):
    """One output behind the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.aux, self.out = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        aux = self.aux(F.relu(self.conv(x)).mean((2, 3)))
        return {"aux": aux, "out": self.out(F.relu(aux))}


@pytest.mark.parametrize("kind", [LRPZBeta, ContrastiveLRP1, ContrastiveLRP2])
def test_classes_of_two_outputs_equal_separate_calls(kind: type[LRPZBeta]) -> None:
    model, x = Supervised().double().eval(), pictures(0)
    signed = {} if kind is LRPZBeta else {"relu_attributions": False}
    explain, classes = kind(model, conserve=True), [("aux", 1), ("out", 2), ("aux", 0)]
    together = explain.attribute_classes(x, classes, **signed)
    for k, target in enumerate(classes):
        torch.testing.assert_close(together[:, k], explain.attribute(x, target=target, **signed), **CLOSE)


def test_a_models_own_gradient_hooks_do_not_touch_relevance() -> None:
    class Hooked(Supervised):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            h = F.relu(self.conv(x))
            if h.requires_grad:
                h.register_hook(lambda g: g * 0.1).remove()
                h.register_hook(lambda g: g * 0.1)
                h.retain_grad()
            return self.aux(h.mean((2, 3)))

    model, x = Hooked().double().eval(), pictures(0)
    received = LRPZBeta(model, conserve=True).attribute(x, target=1)
    torch.testing.assert_close(received.sum(), model(x)[0, 1].detach(), **CLOSE)


@pytest.mark.parametrize("kind", ["backward", "of the graph", "in front of the graph"])
@pytest.mark.filterwarnings("ignore")
def test_hooks_of_modules_that_scale_gradients_do_not_scale_relevance(kind: str) -> None:
    def smaller(*grads: object) -> tuple[Tensor, ...]:
        return tuple(g * 0.1 for g in grads[-1])  # type: ignore[attr-defined]

    def hook_graph(module: nn.Module, args: object, output: Tensor) -> None:
        if output.grad_fn is not None:
            before = kind == "in front of the graph"
            (output.grad_fn.register_prehook if before else output.grad_fn.register_hook)(smaller)

    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).double(), pictures(0)
    expected = LRPZBeta(model).attribute(x, target=1)
    if kind == "backward":
        model[1].register_backward_hook(smaller)
    else:
        model[1].register_forward_hook(hook_graph)
    torch.testing.assert_close(LRPZBeta(model).attribute(x, target=1), expected, **CLOSE)
