"""Rounds are interleaved, failures set aside, and peak memory is the peak."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.timing import interleaved


def test_rounds_are_interleaved_and_start_with_another_call_each_time():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = interleaved(calls, rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(t.seconds) for t in timings.values()] == [3, 3, 3]


def test_a_failing_call_is_reported_and_left_out():
    def fail():
        raise RuntimeError("not here")

    timings = interleaved({"bad": fail, "good": lambda: None}, rounds=2)
    assert timings["bad"].error == "RuntimeError: not here"
    assert timings["bad"].seconds == []
    assert len(timings["good"].seconds) == 2


def test_the_budget_stops_after_the_least_rounds():
    timings = interleaved({"a": lambda: None}, rounds=50, budget=0, least_rounds=4)
    assert len(timings["a"].seconds) == 4


PEAK = """
import json, torch
from benchmarks.memory import peak_of

def prepare():
    kept = torch.ones(16 * 2**20 // 4)  # 16 MiB
    return lambda: float((kept.repeat(8) + 1).sum())  # 128 MiB twice, freed

float(torch.ones(600 * 2**20 // 4).sum())  # an earlier peak does not count
print(json.dumps(peak_of(prepare)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_counts_what_is_freed_before_the_end():
    """In a process of its own: memory that earlier tests gave back would hide some of it."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=root, check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert 14 < found["prepared"] / 2**20 < 40
    assert 250 < found["peak"] / 2**20 < 330
