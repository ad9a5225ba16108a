"""The model is borrowed: whatever happens during a call, it is afterwards as it was before."""

from __future__ import annotations

import gc
import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import Body, SmallUNet, Snapshot, body, images
from helpers.nets import small_net, small_pictures
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    ContrastiveLRPError,
    InvalidInputError,
    InvalidTargetError,
    LayerContrastiveLRP1,
    LayerContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    ModelStateError,
    NeuronContrastiveLRP2,
    NeuronLRPZBeta,
    UnsupportedOperationError,
    check_conservation,
    explain_plan,
)
from captum_clrp.engine._captum import EpsilonRule, GammaRule
from captum_clrp.engine.nodes import PassThrough
from captum_clrp.rules import Epsilon


def user_s_model() -> nn.Module:
    """With everything on it that a user may have left there."""
    model = small_net()
    model.conv1.rule = EpsilonRule()
    model.fc1.rule = Epsilon(1e-3)
    model.conv2.rule = GammaRule()
    model.conv1.register_forward_hook(lambda module, inputs, output: output * 1.0)
    model.fc2.register_forward_pre_hook(lambda module, inputs: None)
    model.norm.register_full_backward_hook(lambda module, grad_in, grad_out: None)
    model.norm.weight.register_hook(lambda grad: grad)
    model.conv2.weight.requires_grad_(False)
    model.fc1.weight.grad = torch.ones_like(model.fc1.weight)
    model.note = {"mine": [1, 2]}
    model.pool.train()  # has nothing that would act differently
    return model


def plain_model() -> nn.Module:
    return small_net()


def all_methods(model: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    layer = model.conv2
    return {
        "lrp": lambda: LRPZBeta(model).attribute(x, 1),
        "lrp, everything": lambda: LRPZBeta(model, -3.0, 3.0, avg_pool="even", conserve=True).attribute(
            x, 1, return_convergence_delta=True, initial_relevance=None
        ),
        "verbose": lambda: LRPZBeta(model).attribute(x, 1, verbose=True),
        "clrp1": lambda: ContrastiveLRP1(model).attribute(x, [0, 1]),
        "clrp2": lambda: ContrastiveLRP2(model).attribute(x, torch.tensor([0, 1]), relu_attributions=False),
        "classes": lambda: ContrastiveLRP2(model).attribute_classes(x, [0, 1, 2]),
        "initial relevance": lambda: LRPZBeta(model).attribute(x, initial_relevance=torch.ones_like),
        "layer": lambda: LayerLRPZBeta(model, layer).attribute(x, 1),
        "layer input": lambda: LayerContrastiveLRP1(model, layer).attribute(x, 1, attribute_to_layer_input=True),
        "layer 2": lambda: LayerContrastiveLRP2(model, layer).attribute(x, 1),
        "neuron": lambda: NeuronLRPZBeta(model, layer).attribute(x, (1, 2, 2)),
        "neuron 2": lambda: NeuronContrastiveLRP2(model, layer).attribute(x, (1, 2, 2)),
        "plan": lambda: explain_plan(model, x),
        "conservation": lambda: check_conservation(model, x, 1),
    }


METHODS = list(all_methods(plain_model(), small_pictures()))


@pytest.mark.parametrize("make", [plain_model, user_s_model])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:the contrast of example")
def test_after_success(make: Callable[[], nn.Module], method: str) -> None:
    model, x = make(), small_pictures().requires_grad_()
    x.grad = torch.ones_like(x)
    before = Snapshot(model, x)
    call = all_methods(model, x)[method]
    try:
        call()
    except UnsupportedOperationError:
        assert make is user_s_model
        assert method in ("neuron 2",)
    before.assert_unchanged()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda m: m.__name__)
def test_after_success_inside_a_mode(mode: Any) -> None:
    model, x = user_s_model(), small_pictures()
    with mode():
        before = Snapshot(model, x)
        LRPZBeta(model).attribute(x, 1)
        before.assert_unchanged()


def test_random_numbers_are_not_drawn() -> None:
    model, x = SmallUNet().eval(), torch.rand(1, 3, 16, 16)
    state = torch.get_rng_state()
    ContrastiveLRP2(model).attribute(x, (1, 4, 4))
    assert torch.equal(state, torch.get_rng_state())


# -- refused -------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Callable[[nn.Module, Tensor], Any], type[Exception]]] = {
    "target out of range": (lambda m, x: LRPZBeta(m).attribute(x, 99), InvalidTargetError),
    "nan": (lambda m, x: LRPZBeta(m).attribute(x * torch.nan, 1), InvalidInputError),
    "outside bounds": (lambda m, x: LRPZBeta(m, 0.0, 0.1).attribute(x, 1), InvalidInputError),
    "initial relevance": (lambda m, x: LRPZBeta(m).attribute(x, initial_relevance=torch.ones(3)), InvalidTargetError),
    "initial relevance that fails": (
        lambda m, x: LRPZBeta(m).attribute(x, initial_relevance=lambda output: 1 / 0),
        ZeroDivisionError,
    ),
    "unknown pooling": (lambda m, x: LRPZBeta(m, avg_pool="max").attribute(x, 1), InvalidInputError),
    "wrong size": (lambda m, x: LRPZBeta(m).attribute(x[:, :2], 1), RuntimeError),
    "layer that does not run": (lambda m, x: LayerLRPZBeta(m, nn.Identity()).attribute(x, 1), ModelStateError),
    "selector": (lambda m, x: NeuronLRPZBeta(m, m.conv2).attribute(x, 77), InvalidTargetError),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_after_a_refused_call(refusal: str) -> None:
    model, x = user_s_model(), small_pictures()
    before = Snapshot(model, x)
    call, error = REFUSALS[refusal]
    with pytest.raises(error):
        call(model, x)
    before.assert_unchanged()


def test_after_refused_operations() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.LSTM(6, 3)).eval()
    x = torch.rand(2, 4, 6)
    before = Snapshot(model, x)
    with pytest.raises(UnsupportedOperationError):
        LRPZBeta(model).attribute(x, initial_relevance=torch.zeros_like)
    before.assert_unchanged()


@pytest.mark.parametrize("part", ["all", "norm only"])
def test_batch_statistics_are_never_touched(part: str) -> None:
    model, x = small_net(), small_pictures()
    (model if part == "all" else model.norm).train()
    before = Snapshot(model, x)
    for call in all_methods(model, x).values():
        with pytest.raises(ModelStateError, match=r"norm.*call model.eval\(\) first"):
            call()
    before.assert_unchanged()


def test_functional_batch_norm_in_training_is_refused_before_it_counts() -> None:
    def forward(s: Body, x: Tensor) -> Tensor:
        return s.head(F.batch_norm(s.conv1(x), s.mean, s.var, training=True))

    model = body(forward)
    model.register_buffer("mean", torch.zeros(4).double())
    model.register_buffer("var", torch.ones(4).double())
    before = Snapshot(model)
    with pytest.raises(ModelStateError, match="training"):
        LRPZBeta(model).attribute(images(), 1)
    before.assert_unchanged()


@pytest.mark.parametrize("norm", ["parametrization", "hook"])
def test_spectral_norm_in_training_is_refused_before_it_iterates(norm: str) -> None:
    model = body(lambda s, x: s.head(F.relu(s.conv2(F.relu(s.conv1(x))))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add = nn.utils.parametrizations.spectral_norm if norm == "parametrization" else nn.utils.spectral_norm
        add(model.conv2)
    model.double().train()
    before = Snapshot(model)
    with pytest.raises(ModelStateError, match=r"conv2.*eval\(\)"):
        LRPZBeta(model).attribute(images(), 1)
    before.assert_unchanged()


def test_lazy_modules_are_refused_before_they_are_made() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(4)).eval()
    classes = [type(m) for m in model.modules()]
    with pytest.raises(ModelStateError, match="2.*run the model once"):
        LRPZBeta(model).attribute(torch.rand(2, 3, 6, 6), 1)
    assert [type(m) for m in model.modules()] == classes


# -- exceptions ----------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit, GeneratorExit], ids=lambda e: e.__name__)
@pytest.mark.parametrize("where", ["forward", "hook", "pre-hook"])
def test_after_an_exception_in_forward(error: type[BaseException], where: str) -> None:
    model, x = user_s_model(), small_pictures()
    armed = [True]

    def fail(*args: Any) -> None:
        if armed[0]:
            raise error("on purpose")

    if where == "forward":
        model.fc1.forward = fail  # type: ignore[method-assign]
    elif where == "hook":
        model.fc1.register_forward_hook(fail)
    else:
        model.fc1.register_forward_pre_hook(fail)
    before = Snapshot(model, x)
    for method, call in all_methods(model, x).items():
        if method.startswith("neuron"):
            continue  # they end in front of it
        with pytest.raises(error, match="on purpose"):
            call()
    before.assert_unchanged()
    armed[0] = False
    if where != "forward":
        LRPZBeta(model).attribute(x, 1)


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt], ids=lambda e: e.__name__)
def test_after_an_exception_in_backward(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = small_net(), small_pictures()

    def fail(*_: Any) -> None:
        raise error("on purpose")

    monkeypatch.setattr(PassThrough, "share", fail)
    before = Snapshot(model, x)
    for method in ("lrp", "clrp1", "clrp2", "classes", "conservation"):
        with pytest.raises(error, match="on purpose"):
            all_methods(model, x)[method]()
        before.assert_unchanged()
    monkeypatch.undo()
    assert torch.equal(LRPZBeta(model).attribute(x, 1), LRPZBeta(small_net()).attribute(x, 1))


def test_after_an_exception_in_a_rule() -> None:
    from captum_clrp.rules import ZPlus

    class Broken(ZPlus):
        def terms(self, layer: Any, activations: Tensor, nonnegative: bool) -> Any:
            raise Stop("in a rule")

    model, x = small_net(), small_pictures()
    model.fc1.rule = Broken()
    before = Snapshot(model, x)
    with pytest.raises(Stop):
        LRPZBeta(model).attribute(x, 1)
    before.assert_unchanged()


# -- again and again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("plan", "conservation", "verbose")])
@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:the contrast of example")
def test_two_calls_return_the_same_bytes(method: str) -> None:
    model, x = plain_model(), small_pictures()
    first, second = all_methods(model, x)[method](), all_methods(model, x)[method]()
    flat = [r if isinstance(r, tuple) else (r,) for r in (first, second)]
    for a, b in zip(*flat, strict=True):
        assert torch.equal(a, b)


def test_calls_of_other_methods_in_between_make_no_difference() -> None:
    model, x = small_net(), small_pictures()
    alone = LRPZBeta(small_net()).attribute(x, 1)
    lrp = LRPZBeta(model)
    for call in all_methods(model, x).values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
        assert torch.equal(lrp.attribute(x, 1), alone)


def test_results_belong_to_the_caller() -> None:
    """Writing to a map changes neither the model, the input, nor the next map."""
    model, x = small_net(), small_pictures()
    lrp = LRPZBeta(model)
    first = lrp.attribute(x, 1)
    kept, before = first.clone(), Snapshot(model, x)
    first.fill_(7.0)
    before.assert_unchanged()
    assert torch.equal(lrp.attribute(x, 1), kept)


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def living_tensors() -> int:
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(isinstance(thing, Tensor) for thing in gc.get_objects())


def interrupted(model: nn.Module, x: Tensor) -> None:
    with pytest.raises(InvalidTargetError):
        LRPZBeta(model).attribute(x, 99)


def new_weights(model: nn.Module, x: Tensor) -> None:
    model.fc1.weight = nn.Parameter(model.fc1.weight.detach().clone())
    LRPZBeta(model).attribute(x, 1)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory from Linux's /proc")
@pytest.mark.parametrize(
    ("calls", "call"),
    [
        (1000, lambda model, x: LRPZBeta(model).attribute(x, 1)),
        (200, lambda model, x: ContrastiveLRP2(model, conserve=True).attribute_classes(x, [0, 1])),
        (200, interrupted),
        (200, new_weights),
        (200, lambda model, x: LRPZBeta(small_net()).attribute(x, 1)),
    ],
    ids=["lrp", "classes", "refused", "new weights", "new models"],
)
def test_many_calls_do_not_grow_memory(calls: int, call: Callable[[nn.Module, Tensor], Any]) -> None:
    model, x = small_net(), small_pictures(1)
    for _ in range(20):
        call(model, x)
    tensors, memory = living_tensors(), resident()
    for _ in range(calls):
        call(model, x)
    assert living_tensors() <= tensors + 2
    # One call keeps about 60 kB on the way; what a thousand left behind would show.
    assert resident() - memory < 8 * 2**20


def test_a_call_leaves_no_garbage_for_the_collector() -> None:
    """Memory of a call is free as soon as it returns, not when Python happens to look for cycles."""
    model, x = small_net(), small_pictures(1)
    ContrastiveLRP2(model).attribute(x, 1, relu_attributions=False)
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(thing, Tensor) for thing in gc.get_objects())
        for _ in range(10):
            ContrastiveLRP2(model).attribute(x, 1, relu_attributions=False)
        assert sum(isinstance(thing, Tensor) for thing in gc.get_objects()) <= before
    finally:
        gc.enable()


def test_models_and_weights_are_not_kept_alive() -> None:
    model, x = small_net(), small_pictures(1)
    LRPZBeta(model).attribute(x, 1)
    watched = [weakref.ref(p) for p in model.parameters()]
    del model
    gc.collect()
    assert [w() for w in watched] == [None] * len(watched)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    assert torch.overrides._len_torch_function_stack() == 0
    assert torch.utils._python_dispatch._len_torch_dispatch_stack() == 0
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert torch.is_grad_enabled()


def test_all_errors_of_the_package_share_a_base() -> None:
    for error in (InvalidInputError, InvalidTargetError, ModelStateError, UnsupportedOperationError):
        assert issubclass(error, ContrastiveLRPError)
