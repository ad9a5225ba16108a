"""Rounds are interleaved, failures set aside, and peak memory is the peak."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import timing
from benchmarks.timing import interleaved


def test_rounds_are_interleaved_and_start_with_another_call_each_time():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = interleaved(calls, rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(t.seconds) for t in timings.values()] == [3, 3, 3]


def test_short_calls_are_repeated_in_their_turn_and_the_fastest_counts(monkeypatch):
    monkeypatch.setattr(timing, "_seconds_of", lambda call, synchronize: call())
    quick, slow = iter([0.0, 0.3, 0.2, 0.4, 0.3, 0.3, 0.1, 9.0]), iter([0.0, 2.0, 1.0])
    timings = interleaved({"quick": lambda: next(quick), "slow": lambda: next(slow)}, rounds=2, turn=0.8)
    assert timings["quick"].seconds == [0.2, 0.1]  # 0.3 + 0.2 + 0.4, then 0.3 + 0.3 + 0.1 + 9
    assert timings["slow"].seconds == [2.0, 1.0]


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
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=root, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert 14 < found["prepared"] / 2**20 < 40
    assert 250 < found["peak"] / 2**20 < 330
