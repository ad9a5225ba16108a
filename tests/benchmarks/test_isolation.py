"""A worker that fails, hangs or dies costs its own argument and nothing else."""

import os
import time

import pytest

from benchmarks.isolation import TimeLimitError, isolated, one_line, time_limit


def misbehave(argument):
    if argument == "fail":
        raise ValueError("said so")
    if argument == "die":
        os._exit(3)
    if argument == "hang":
        time.sleep(60)
    return argument, os.getpid()


def test_each_argument_gets_its_outcome():
    arguments = ["a", "fail", "die", "hang", "b"]
    outcomes = {o.argument: o for o in isolated(misbehave, arguments, workers=1, limit=10)}
    assert set(outcomes) == set(arguments)
    assert outcomes["a"].value[0] == "a"
    assert outcomes["b"].value[0] == "b"
    assert outcomes["fail"].error.startswith("ValueError: said so")
    assert outcomes["die"].error == "the process ended with code 3"
    assert outcomes["hang"].error == "no result within 10 s"


def test_processes_are_reused_or_not():
    pids = [{o.value[1] for o in isolated(misbehave, "abc", reuse=reuse)} for reuse in (True, False)]
    assert [len(p) for p in pids] == [1, 3]
    assert os.getpid() not in pids[0] | pids[1]


def test_time_limit_ends_the_body_and_is_lifted_after_it():
    with pytest.raises(TimeLimitError, match=r"more than 0\.05 s"), time_limit(0.05):
        time.sleep(5)
    with time_limit(0.05):
        pass
    time.sleep(0.1)


def test_one_line():
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("x" * 500))) < 200
