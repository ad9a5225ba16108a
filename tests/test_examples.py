"""The examples in docstrings run, and print what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import captum_clrp

# Exact but for white space; a tensor's digits are few enough to be the same on any machine.
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [m.name for m in pkgutil.walk_packages(captum_clrp.__path__, "captum_clrp.") if "__main__" not in m.name]
    for name in ["captum_clrp", *names]:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:  # an extra that is not installed
            if (error.name or "").startswith("captum_clrp"):
                raise
            continue
        yield from finder.find(module, name, module=module)


EXAMPLES = {example.name: example for example in examples() if example.examples}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_what_it_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    example, said = EXAMPLES[name], []
    example.globs = dict(example.globs)  # the names of its module, as --doctest-modules has it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    assert not failed, "".join(said)
