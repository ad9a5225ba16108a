"""Models of several inputs and outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import CLOSE, Body, Operation, body, images, plain
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, InvalidTargetError, LRPZBeta


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = body(plain)
        self.table = nn.Linear(7, 5).double()
        self.out = nn.Linear(10, 3).double()

    def forward(self, image: Tensor, table: Tensor, scale: float = 1.0, *, shift: float = 0.0) -> Tensor:
        return self.out(torch.cat([self.image(image), F.relu(self.table(table))], 1)) * scale + shift


def test_several_inputs_share_the_score() -> None:
    model, x, table = TwoInputs().eval(), images(), torch.randn(2, 7).double()
    lrp = LRPZBeta(model, (0.0, -5.0), (1.0, 5.0), conserve=True)
    of_image, of_table = lrp.attribute((x, table), 2, additional_forward_args=2.0)
    assert of_image.shape == x.shape
    assert of_table.shape == table.shape
    score = model(x, table, 2.0)[:, 2]
    torch.testing.assert_close(of_image.sum((1, 2, 3)) + of_table.sum(1), score, **CLOSE)
    classes = lrp.attribute_classes((x, table), [0, 2], additional_forward_args=2.0)
    torch.testing.assert_close(classes[0][:, 1], of_image, **CLOSE)
    torch.testing.assert_close(classes[1][:, 1], of_table, **CLOSE)


def test_an_input_that_is_not_used_gets_zero() -> None:
    model = Operation(lambda image, other: net(image))
    net = body(plain)
    model.net = net
    first, second = LRPZBeta(model).attribute((images(), torch.rand(2, 4).double()), 1)
    assert first.abs().sum() > 0
    assert torch.equal(second, torch.zeros(2, 4).double())


def test_one_tensor_given_twice() -> None:
    model = Operation(lambda a, b: net(a) + net(b))
    net = body(plain)
    model.net = net
    x = images()
    first, second = LRPZBeta(model, conserve=True).attribute((x, x), 1)
    torch.testing.assert_close(first, second, **CLOSE)


@dataclasses.dataclass
class Result:
    logits: Tensor
    features: Tensor | None = None
    name: str = "result"


class Slotted:
    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def slots_of(s: Body, x: Tensor) -> Any:
    return Slotted(plain(s, x))


def tuple_of(s: Body, x: Tensor) -> Any:
    return plain(s, x), s.conv1(x)


def list_of(s: Body, x: Tensor) -> Any:
    return [plain(s, x), s.conv1(x)]


def dict_of(s: Body, x: Tensor) -> Any:
    return {"logits": plain(s, x), "features": s.conv1(x), "note": "text"}


def dataclass_of(s: Body, x: Tensor) -> Any:
    return Result(plain(s, x), s.conv1(x))


def dataclass_of_one(s: Body, x: Tensor) -> Any:
    return Result(plain(s, x))


def dict_of_one(s: Body, x: Tensor) -> Any:
    return {"logits": plain(s, x), "note": "text"}


@pytest.mark.parametrize(
    ("function", "target"),
    [
        (tuple_of, (0, 3)),
        (list_of, (0, 3)),
        (dict_of, ("logits", 3)),
        (dataclass_of, ("logits", 3)),
        (dataclass_of_one, 3),
        (dict_of_one, 3),
        (slots_of, 3),
        (slots_of, ("logits", 3)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_one_of_several_outputs_is_chosen(function: Callable[..., Any], target: Any) -> None:
    x = images()
    for method in (LRPZBeta, ContrastiveLRP1, ContrastiveLRP2):
        expected = method(body(plain), conserve=True).attribute(x, 3)
        torch.testing.assert_close(method(body(function), conserve=True).attribute(x, target), expected, **CLOSE)


def test_the_other_output_has_its_own_targets() -> None:
    x = images()
    expected = LRPZBeta(body(lambda s, x: s.conv1(x))).attribute(x, (2, 3, 4))
    torch.testing.assert_close(LRPZBeta(body(dict_of)).attribute(x, ("features", 2, 3, 4)), expected, **CLOSE)


def test_initial_relevance_chooses_an_output() -> None:
    x = images()
    expected = LRPZBeta(body(plain)).attribute(x, initial_relevance=lambda output: output.abs())
    choices: list[tuple[Callable[..., Any], Any]] = [
        (dict_of, lambda output: {"logits": output["logits"].abs()}),
        (tuple_of, lambda output: (output[0].abs(), None)),
        (dataclass_of, lambda output: Result(output.logits.abs())),
    ]
    for function, initial in choices:
        torch.testing.assert_close(LRPZBeta(body(function)).attribute(x, initial_relevance=initial), expected, **CLOSE)


@pytest.mark.parametrize("function", [tuple_of, dict_of, dataclass_of], ids=lambda f: f.__name__)
@pytest.mark.parametrize("target", [3, None, ("nothing", 3), (0,)])
def test_a_target_that_names_no_output_says_which_there_are(function: Callable[..., Any], target: Any) -> None:
    if function is tuple_of and target == (0,):
        target = (7, 1)
    with pytest.raises(InvalidTargetError, match="which one to explain"):
        LRPZBeta(body(function)).attribute(images(), target)


def test_auxiliary_head_is_explained_on_request() -> None:
    class WithHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = body(tuple_of)
            self.aux = nn.Linear(4, 2).double()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits, features = self.net(x)
            return {"out": logits, "aux": self.aux(features.relu().amax((2, 3)))}

    model, x = WithHead().eval(), images()
    main = LRPZBeta(model, conserve=True).attribute(x, ("out", 3))
    torch.testing.assert_close(main, LRPZBeta(body(plain), conserve=True).attribute(x, 3), **CLOSE)
    side = LRPZBeta(model, conserve=True).attribute(x, ("aux", 1))
    torch.testing.assert_close(side.sum((1, 2, 3)), model(x)["aux"][:, 1], **CLOSE)
    assert ContrastiveLRP2(model).attribute(x, ("aux", 1)).sum() > 0
