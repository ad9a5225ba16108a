"""What a type checker knows of public calls: tensors in, tensors out, and closed sets of words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CALLS = """
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import assert_type

from captum_clrp import ContrastiveLRP1, LayerLRPZBeta, LRPZBeta, NeuronContrastiveLRP2, check_conservation, explain_plan
from captum_clrp.inspection import Conservation, Plan

model: nn.Module = nn.Linear(3, 2)
x = torch.rand(2, 3)
assert_type(LRPZBeta(model).attribute(x, 1), Tensor)
assert_type(LRPZBeta(model).attribute((x, x), 1), tuple[Tensor, ...])
assert_type(LRPZBeta(model).attribute(x, 1, return_convergence_delta=True), tuple[Tensor, Tensor])
assert_type(ContrastiveLRP1(model).attribute(x, 1, relu_attributions=False), Tensor)
assert_type(ContrastiveLRP1(model).attribute_classes(x, [0, 1]), Tensor)
assert_type(NeuronContrastiveLRP2(model, model).attribute(x, (1,)), Tensor)
assert_type(NeuronContrastiveLRP2(model, model).attribute_neurons((x, x), [0, 1]), tuple[Tensor, ...])
assert_type(explain_plan(model, x), Plan)
assert_type(check_conservation(model, x, 1), Conservation)
for target in (None, 1, [0, 1], (0, 1), ("out", 1), [(0, 1), (1, 1)], torch.tensor([0, 1]), np.int64(1), np.array([0, 1])):
    LRPZBeta(model).attribute(x, target)
LayerLRPZBeta(model, [model]).attribute(x, 1, attribute_to_layer_input=True)
LRPZBeta(model, outside="clip", avg_pool="even", rules="paper", precision="auto")
"""

MISTAKES = {
    "LRPZBeta(model).attribute(3.0, 1)": "call-overload",
    "LRPZBeta(model).attribute_classes(x, 1)": "arg-type",
    "LRPZBeta(model).attribute(x, 1, relu_attributions=False)": "call-overload",
    "LRPZBeta(model, avg_pool='evn')": "arg-type",
    "LRPZBeta(model, outside='clop')": "arg-type",
    "LRPZBeta(model, precision='float16')": "arg-type",
}


@pytest.mark.slow
def test_public_calls_are_typed(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    file = tmp_path / "calls.py"
    file.write_text(CALLS + "\n".join(MISTAKES) + "\n")
    options = ["--strict", "--ignore-missing-imports", f"--cache-dir={tmp_path / 'cache'}"]
    said, _, _ = api.run([*options, str(file)])
    errors = dict(re.findall(r"calls\.py:(\d+): error: .*\[([\w-]+)\]$", said, re.MULTILINE))
    first = len(CALLS.splitlines()) + 1
    assert errors == {str(first + i): kind for i, kind in enumerate(MISTAKES.values())}, said
