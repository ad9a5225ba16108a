"""Memory of derived weights is used again; what is freed stays with the process."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_clrp import LRPZBeta
from captum_clrp.engine.linear_maps import FullyConnected
from captum_clrp.engine.memory import memory


@pytest.fixture(autouse=True)
def no_memory_yet() -> None:
    memory.clear()


LARGE = (512, 600)
"""More than a megabyte."""


def test_memory_is_used_again_when_nobody_needs_it() -> None:
    first = FullyConnected(torch.randn(LARGE)).positive
    place = first.data_ptr()
    del first
    again = FullyConnected(torch.randn(LARGE)).negative
    assert again.data_ptr() == place
    smaller = FullyConnected(torch.randn(500, 600)).absolute
    assert smaller.data_ptr() != place


@pytest.mark.parametrize("view", [lambda w: w[3:5], lambda w: w.t(), lambda w: w.flatten(1).view(-1)])
def test_memory_of_which_a_view_lives_is_not_used_again(view: Callable[[Tensor], Tensor]) -> None:
    part = view(FullyConnected(torch.ones(LARGE)).positive)
    gc.collect()
    other = FullyConnected(-torch.ones(LARGE)).negative
    assert bool((part == 1).all())
    assert bool((other == -1).all())


def test_no_more_than_two_pieces_of_memory_are_held() -> None:
    parts = [FullyConnected(torch.randn(LARGE)).positive for _ in range(5)]
    assert len(memory._blocks) == 2
    del parts
    FullyConnected(torch.randn(1000, 2000)).positive  # noqa: B018
    assert sorted(block.storage.nbytes() for block in memory._blocks) == [4 * 512 * 600, 8_000_000]
    memory.clear()
    assert not memory._blocks


def test_the_largest_pieces_are_held_whatever_comes_first() -> None:
    sizes = [(512, 600), (512, 700), (512, 900), (512, 800)]
    parts = [FullyConnected(torch.randn(size)).positive for size in sizes]
    held = sorted(block.storage.nbytes() for block in memory._blocks)
    assert held == [4 * 512 * 800, 4 * 512 * 900]
    del parts


def test_a_lasting_weight_leaves_larger_memory_to_others() -> None:
    large, small = FullyConnected(torch.randn(1000, 2000)), FullyConnected(torch.randn(LARGE))
    place = large.positive.data_ptr()
    small.retained = large.retained = True
    beside = small.positive
    assert beside.data_ptr() != place
    assert large.positive.data_ptr() == place


def test_weights_for_several_classes_find_the_memory_of_the_call_before(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layers = (nn.Linear(8, 900), nn.ReLU(), nn.Linear(900, 800), nn.ReLU(), nn.Linear(800, 600), nn.ReLU())
    explainer, x = LRPZBeta(nn.Sequential(*layers, nn.Linear(600, 500))), torch.rand(2, 8)
    explainer.attribute_classes(x, [0, 1])
    held = {block.storage.data_ptr() for block in memory._blocks}
    used: list[tuple[int, int]] = []
    empty = memory.empty

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        made = empty(*args, **kwargs)
        used.append((made.numel(), made.data_ptr()))
        return made

    monkeypatch.setattr(memory, "empty", watched)
    explainer.attribute_classes(x, [0, 1])
    assert {place for _, place in sorted(used)[-2:]} == held


def test_several_classes_do_not_share_memory() -> None:
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(30, 600), nn.ReLU(), nn.Linear(600, 500)).double(), torch.rand(2, 30).double()
    explainer = LRPZBeta(model, 0.0, 1.0)
    together = explainer.attribute_classes(x, [0, 1, 2])
    for k in range(3):
        torch.testing.assert_close(together[:, k], explainer.attribute(x, k), rtol=1e-9, atol=1e-11)


def test_threads_have_memory_of_their_own() -> None:
    weights = [nn.Parameter(torch.full(LARGE, float(i + 1))) for i in range(4)]
    wrong: list[int] = []

    def work(offset: int) -> None:
        for step in range(40):
            i = (step + offset) % 4
            positive = FullyConnected(weights[i]).positive
            if not bool((positive == i + 1).all()):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- what is freed -------------------------------------------------------------------------------------------------

PLACES = """
import torch, captum_clrp

def lies_in_heap(tensor):
    heap = next(line for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]")).split()[0]
    first, end = (int(address, 16) for address in heap.split("-"))
    return first <= tensor.data_ptr() < end

alive = torch.empty(7_000_000)
captum_clrp.LRPZBeta(torch.nn.Linear(2, 2)).attribute(torch.rand(1, 2), target=0)
print(lies_in_heap(alive), lies_in_heap(torch.empty(7_000_000)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide otherwise")
def test_large_tensors_come_from_memory_that_stays_with_the_process() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", PLACES], env=plain, text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["False", "True"], "28 MB, before and after an explanation"
