"""The cases that Captum ships for its own generic tests, over our classes: hooks, targets, wrappers for many devices."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import LRP, LayerGradientXActivation, LayerLRP, NeuronGradient, NoiseTunnel
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    LayerContrastiveLRP1,
    LayerContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    NeuronContrastiveLRP2,
    NeuronLRPZBeta,
)

cases = pytest.importorskip("captum.testing.attr.helpers.test_config", reason="captum 0.8 ships no cases")
helpers = pytest.importorskip("captum.testing.attr.helpers.gen_test_utils")

# A case of one of Captum's classes is run with these of ours.
IN_PLACE_OF = {
    LRP: (LRPZBeta, ContrastiveLRP1, ContrastiveLRP2),
    LayerLRP: (LayerLRPZBeta, LayerContrastiveLRP1, LayerContrastiveLRP2),
    LayerGradientXActivation: (LayerLRPZBeta, LayerContrastiveLRP1, LayerContrastiveLRP2),
    NeuronGradient: (NeuronLRPZBeta, NeuronContrastiveLRP2),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Input Tensor . did not already require gradients"),
    pytest.mark.filterwarnings("ignore:the contrast of example"),
    pytest.mark.filterwarnings("ignore:the contrasts? of"),
]


class Case:
    """One entry of Captum's configuration with one of our classes in place of Captum's."""

    def __init__(self, entry: dict[str, Any], method: Any) -> None:
        _, self.model, self.arguments, self.layer, self.noise, _ = helpers.parse_test_config(entry)
        self.name, self.method = f"{entry['name']} {method.__name__}", method

    def run(self, model: nn.Module | None = None, **changed: Any) -> Any:
        """Attributions on a copy of the case's model, or on a given one made of that."""
        model = copy.deepcopy(self.model) if model is None else model
        inside = getattr(model, "module", model)
        if self.layer is None:
            explain = self.method(model)
        else:
            explain = self.method(model, helpers.get_target_layer(inside, self.layer))
        arguments = {**self.arguments, **changed}
        if self.noise:
            explain = NoiseTunnel(explain)
        if "neuron_selector" in arguments:
            return explain.attribute(arguments.pop("inputs"), arguments.pop("neuron_selector"), **arguments)
        return explain.attribute(**arguments)


CASES = [
    Case(entry, ours)
    for entry in cases.config
    for theirs, several in IN_PLACE_OF.items()
    if theirs in entry["algorithms"]
    for ours in several
]


def flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in flat(part)]


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def test_the_wheel_still_holds_the_cases() -> None:
    assert {case.method for case in CASES} == {method for several in IN_PLACE_OF.values() for method in several}
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_hook_stays(case: Case) -> None:
    model = copy.deepcopy(case.model)
    case.run(model)
    assert hooks(model) == 0


@pytest.mark.parametrize("case", [c for c in CASES if "target" in c.arguments], ids=lambda case: case.name)
def test_no_hook_stays_after_a_bad_target(case: Case) -> None:
    model = copy.deepcopy(case.model)
    with pytest.raises((AssertionError, IndexError)):
        case.run(model, target=10000)
    assert hooks(model) == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_hook_stays_after_a_failure_in_forward(case: Case) -> None:
    model = copy.deepcopy(case.model)

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    first = next(module for module in model.modules() if not list(module.children()))
    handles = [module.register_forward_hook(fail) for module in {first, last}]
    with pytest.raises(RuntimeError, match="on purpose"):
        case.run(model)
    assert hooks(model) == len(handles)


def one_example(value: Any, i: int, count: int) -> Any:
    """What belongs to example ``i`` of ``count``, of inputs, further arguments and targets alike."""
    if isinstance(value, Tensor) and value.dim() and len(value) == count:
        return value[i : i + 1]
    if isinstance(value, list) and len(value) == count:
        return value[i : i + 1]
    if isinstance(value, tuple):
        return tuple(one_example(v, i, count) for v in value)
    return value


@pytest.mark.parametrize("case", [c for c in CASES if "target" in c.arguments], ids=lambda case: case.name)
def test_each_example_has_its_own_target(case: Case) -> None:
    """A batch is explained as its examples are, one by one; single and per-example targets of every type."""
    inputs = case.arguments["inputs"]
    count = len(inputs[0] if isinstance(inputs, tuple) else inputs)
    together = flat(case.run())
    changing = {k: v for k, v in case.arguments.items() if k in ("inputs", "target", "additional_forward_args")}
    for i in range(count):
        alone = flat(case.run(**{k: one_example(v, i, count) for k, v in changing.items()}))
        for batch, single in zip(together, alone, strict=True):
            # float32; numbers of the size of 1 to 100, in another order of sums at most
            torch.testing.assert_close(batch[i : i + 1], single, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store: Path = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.parallel.DistributedDataParallel], ids=lambda w: w.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrappers_for_many_devices_make_no_difference(process_group: None, case: Case, wrap: Any) -> None:
    for wrapped, plain in zip(flat(case.run(wrap(copy.deepcopy(case.model)))), flat(case.run()), strict=True):
        torch.testing.assert_close(wrapped, plain)
