"""Several threads on one model: each gets what it would get alone, and ordinary inference beside it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from helpers.bodies import SmallUNet, Snapshot
from helpers.nets import small_net, small_pictures
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LayerLRPZBeta, LRPZBeta, ModelStateError
from captum_clrp.engine._captum import EpsilonRule

pytestmark = pytest.mark.filterwarnings("ignore:the contrast of example")

JOBS: list[Callable[[nn.Module, Tensor], Any]] = [
    lambda model, x: LRPZBeta(model).attribute(x, 0),
    lambda model, x: LRPZBeta(model, conserve=True).attribute(x, 1),
    lambda model, x: ContrastiveLRP1(model).attribute(x, 2),
    lambda model, x: ContrastiveLRP2(model).attribute(x, 3),
    lambda model, x: LRPZBeta(model, avg_pool="even").attribute(x, 4),
    lambda model, x: ContrastiveLRP2(model).attribute_classes(x, [4, 1]),
    lambda model, x: LayerLRPZBeta(model, model.conv2).attribute(x, 1),
    lambda model, x: LRPZBeta(model).attribute(x, initial_relevance=torch.ones_like),
]


def at_once(functions: list[Callable[[], Any]]) -> list[Any]:
    """Results of functions that start together, each in its own thread."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> Any:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(run, f) for f in functions]]


@pytest.mark.parametrize("fresh", [True, False], ids=["weights first seen by all at once", "weights seen before"])
def test_eight_threads_return_the_bytes_of_one(fresh: bool) -> None:
    inputs = [small_pictures(2) + 0.01 * k for k in range(8)]
    expected = [job(small_net(), x) for job, x in zip(JOBS, inputs, strict=True)]
    model = small_net()
    model.fc1.rule = EpsilonRule()  # shared by all calls
    reference = small_net()
    reference.fc1.rule = EpsilonRule()
    expected = [job(reference, x) for job, x in zip(JOBS, inputs, strict=True)]
    if not fresh:
        LRPZBeta(model).attribute(inputs[0], 1)
    before = Snapshot(model)
    for _ in range(5):
        found = at_once([lambda job=job, x=x: job(model, x) for job, x in zip(JOBS, inputs, strict=True)])
        for actual, wanted in zip(found, expected, strict=True):
            assert torch.equal(actual, wanted)
    before.assert_unchanged()


def test_one_explainer_shared_by_eight_threads() -> None:
    lrp = ContrastiveLRP2(small_net())
    inputs = [small_pictures(k % 3 + 1) for k in range(8)]
    expected = [ContrastiveLRP2(small_net()).attribute(x, k % 5) for k, x in enumerate(inputs)]
    for _ in range(5):
        found = at_once([lambda k=k, x=x: lrp.attribute(x, k % 5) for k, x in enumerate(inputs)])
        for actual, wanted in zip(found, expected, strict=True):
            assert torch.equal(actual, wanted)


def test_ordinary_inference_beside_it_is_unaffected() -> None:
    """No hook of ours runs there, no graph is recorded there, gradients are as that thread has them."""
    model = SmallUNet().eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = model(x)
    weight = model.out.weight
    (expected_gradient,) = torch.autograd.grad(model(x).sum(), weight)
    done = threading.Event()
    problems: list[str] = []

    def infer() -> None:
        while not done.is_set():
            with torch.no_grad():
                output = model(x)
            if not torch.equal(output, expected) or output.requires_grad or hasattr(output, "_clrp_mark"):
                problems.append("inference changed")
            output = model(x)
            (gradient,) = torch.autograd.grad(output.sum(), weight)
            if not torch.equal(gradient, expected_gradient) or hasattr(output, "_clrp_mark"):
                problems.append("training changed")

    beside = threading.Thread(target=infer)
    beside.start()
    try:
        maps = [LRPZBeta(model).attribute(x, (1, 4, 4)) for _ in range(20)]
    finally:
        done.set()
        beside.join()
    assert not problems
    assert all(torch.equal(m, maps[0]) for m in maps)


def test_an_error_in_one_thread_leaves_the_others_alone() -> None:
    model, x = small_net(), small_pictures()
    expected = LRPZBeta(small_net()).attribute(x, 1)
    broken = nn.Sequential(nn.Flatten()).eval()

    def fail() -> str:
        with pytest.raises(ModelStateError):
            LRPZBeta(broken).attribute(x, 1)
        return "failed"

    for _ in range(5):
        found = at_once([(lambda: LRPZBeta(model).attribute(x, 1)) if k % 2 else fail for k in range(8)])
        assert [f for f in found if isinstance(f, str)] == ["failed"] * 4
        assert all(torch.equal(f, expected) for f in found if isinstance(f, Tensor))


def test_models_that_use_threads_themselves_say_so() -> None:
    """Operations in a thread of the model's own cannot be seen from here; what they return is refused, not left out."""

    class Threaded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()
            self.side = nn.Conv2d(3, 5, 12)

        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                side = pool.submit(self.side, x).result()
            return self.net(x) + side.flatten(1)

    with pytest.raises(Exception, match="thread"):
        LRPZBeta(Threaded().eval()).attribute(small_pictures(), 1)
