"""The cases that Captum ships for its generic tests, over what the changes bring: each example alone, hooks, bad targets."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from captum.attr import LRP, ContrastiveLRP1, ContrastiveLRP2, LayerLRP, NoiseTunnel
from captum.testing.attr.helpers.gen_test_utils import get_target_layer, parse_test_config
from captum.testing.attr.helpers.test_config import config
from captum.testing.helpers.basic import set_all_random_seeds
from torch import Tensor

CASES = [
    pytest.param(entry, algorithm, id=f"{entry['name']}-{algorithm.__name__}")
    for entry in config
    for algorithm in (LRP, LayerLRP, ContrastiveLRP1, ContrastiveLRP2)
    if algorithm in entry["algorithms"]
]

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor . did not already require gradients")


def run(entry: dict[str, Any], algorithm: Any, model: Any = None, **changed: Any) -> tuple[Tensor, ...]:
    """Attributions of a case, as a tuple."""
    _, of_case, arguments, layer, noise, _ = parse_test_config(entry)
    model = copy.deepcopy(of_case) if model is None else model
    method = algorithm(model) if layer is None else algorithm(model, get_target_layer(model, layer))
    set_all_random_seeds(1)
    result = (NoiseTunnel(method) if noise else method).attribute(**{**arguments, **changed})
    return result if isinstance(result, tuple) else (result,)


def example(value: Any, index: int, count: int) -> Any:
    """What belongs to one example."""
    if isinstance(value, Tensor) and value.dim() and len(value) == count:
        return value[index : index + 1]
    if isinstance(value, list):
        return value[index : index + 1]
    if isinstance(value, tuple) and any(isinstance(part, Tensor) for part in value):
        return tuple(example(part, index, count) for part in value)
    return value


def test_the_new_classes_have_cases() -> None:
    counts = [
        sum(algorithm in entry["algorithms"] for entry in config) for algorithm in (ContrastiveLRP1, ContrastiveLRP2)
    ]
    assert counts == [13, 11]
    assert sum("initial_relevance" in entry["attribute_args"] for entry in config) == 2


@pytest.mark.parametrize(("entry", "algorithm"), [case for case in CASES if "_nt" not in str(case.id)])
def test_each_example_alone(entry: dict[str, Any], algorithm: Any) -> None:
    together = run(entry, algorithm)
    arguments = entry["attribute_args"]
    inputs = arguments["inputs"]
    count = len(inputs[0] if isinstance(inputs, tuple) else inputs)
    for index in range(count):
        alone = run(entry, algorithm, **{name: example(value, index, count) for name, value in arguments.items()})
        for one, several in zip(alone, together, strict=True):
            torch.testing.assert_close(one, several[index : index + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("entry", "algorithm"), CASES)
@pytest.mark.parametrize("bad_target", [False, True], ids=["", "bad_target"])
def test_no_hook_or_rule_is_left(entry: dict[str, Any], algorithm: Any, bad_target: bool) -> None:
    model = copy.deepcopy(entry["model"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if bad_target:
        with pytest.raises(AssertionError):
            run(entry, algorithm, model, target=(9999,) * 20)
    else:
        run(entry, algorithm, model)
    for module in model.modules():
        assert not [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
        assert getattr(module, "rule", None) is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
