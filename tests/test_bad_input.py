"""What cannot be explained: the message says what was given, what is accepted and what to do, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import Body, Snapshot, body, images
from helpers.nets import small_net, small_pictures
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP as Contrast
from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    ContrastiveLRPError,
    InvalidInputError,
    InvalidTargetError,
    LayerLRPZBeta,
    LRPZBeta,
    ModelStateError,
    TheseClasses,
    UnsupportedOperationError,
    check_conservation,
    explain_plan,
)
from captum_clrp.rules import Epsilon

N = 3
"""Examples in the batch."""


def refused(
    error: type[Exception], call: Callable[[nn.Module, Tensor], Any], *words: str, model: nn.Module | None = None
) -> str:
    """The message of the error that ``call`` raises, after a look at the model, which must be as it was."""
    model, x = small_net() if model is None else model, small_pictures(N)
    before = Snapshot(model, x)
    with pytest.raises(error) as caught:
        call(model, x)
    before.assert_unchanged()
    assert isinstance(caught.value, ContrastiveLRPError)
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
    return message


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_say_where(value: float) -> None:
    def call(model: nn.Module, x: Tensor) -> None:
        x = x.clone()
        x[1, 2, 3, 4] = x[2, 0, 0, 0] = value
        LRPZBeta(model).attribute(x, 1)

    refused(InvalidInputError, call, "input 0", "2 value(s)", "NaN or infinite", "(1, 2, 3, 4)")


def test_the_input_that_is_not_finite_is_named() -> None:
    def call(model: nn.Module, x: Tensor) -> None:
        LRPZBeta(model).attribute((x, x * torch.nan), 1)

    refused(InvalidInputError, call, "input 1")


@pytest.mark.parametrize("shift", [0.75, -0.5])
def test_inputs_outside_the_bounds_say_by_how_much(shift: float) -> None:
    def call(model: nn.Module, x: Tensor) -> None:
        x = (x - x.min()) / (x.max() - x.min())
        LRPZBeta(model, 0.0, 1.0).attribute(x + shift, 1)

    side = "0.75 above high=1" if shift > 0 else "0.5 below low=0"
    refused(InvalidInputError, call, "input 0", side, "normalized_bounds", "low=None")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_inputs_that_are_not_real_numbers(dtype: torch.dtype) -> None:
    message = refused(
        InvalidInputError, lambda m, x: LRPZBeta(m).attribute(x.to(dtype), 1), "input 0", str(dtype), "floating-point"
    )
    assert ".float()" in message


def test_rounding_does_not_put_an_input_outside_its_bounds() -> None:
    x = small_pictures(N)
    LRPZBeta(small_net(), float(x.min()) + 1e-7, float(x.max()) - 1e-7).attribute(x, 1)


# -- shapes --------------------------------------------------------------------------------------------------------


def test_an_image_without_batch_dimension() -> None:
    refused(
        InvalidInputError, lambda m, x: LRPZBeta(m).attribute(x[0], 1), "(3, 12, 12)", "counts examples", "unsqueeze(0)"
    )


def test_an_empty_batch() -> None:
    refused(InvalidInputError, lambda m, x: LRPZBeta(m).attribute(x[:0], 1), "(0, 3, 12, 12)", "empty", "at least 1")


def test_a_number_for_an_input() -> None:
    refused(InvalidInputError, lambda m, x: LRPZBeta(m).attribute(torch.tensor(1.0), 1), "input 0", "empty")


@pytest.mark.parametrize("in_parts", [{}, {"internal_batch_size": 1}], ids=["at once", "in parts"])
@pytest.mark.parametrize("given", [np.zeros((1, 3, 12, 12), dtype=np.float32), [1.0], "picture.png", None, 3])
def test_an_input_that_is_no_tensor(given: Any, in_parts: dict[str, int]) -> None:
    word = type(given).__name__ if given is not None else "no input"
    message = refused(
        InvalidInputError, lambda m, x: LRPZBeta(m).attribute(given, 1, **in_parts), word, "pass a tensor"
    )
    assert message.startswith(("inputs is a", "no input"))
    with pytest.raises(AssertionError):  # as Captum
        LRPZBeta(small_net()).attribute(given, 1, **in_parts)


@pytest.mark.parametrize(
    ("without_values", "kind"),
    [
        (lambda x: x.to("meta"), "a meta tensor"),
        (lambda x: x.to_sparse(), "a torch.sparse_coo tensor"),
        (lambda x: torch.nested.nested_tensor(list(x)), "a nested tensor"),
    ],
    ids=["meta", "sparse", "nested"],
)
def test_an_input_without_a_value_for_each_place(without_values: Callable[[Tensor], Tensor], kind: str) -> None:
    refused(InvalidInputError, lambda m, x: LRPZBeta(m).attribute(without_values(x), 1), f"input 0 is {kind}", "dense")


@pytest.mark.parametrize("call", [LRPZBeta, ContrastiveLRP2, check_conservation], ids=lambda c: c.__name__)
def test_an_output_that_is_one_number_for_all_examples(call: Any) -> None:
    class Sum(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x).sum()

    def explain(model: nn.Module, x: Tensor) -> None:
        call(model, x) if call is check_conservation else call(model).attribute(x)

    refused(ModelStateError, explain, "single number", "counts examples", model=Sum(small_net()).eval())


def test_no_inputs_at_all() -> None:
    refused(InvalidInputError, lambda m, x: LRPZBeta(m).attribute((), 1), "no input")


@pytest.mark.parametrize("shape", ["channels", "too small"])
def test_pytorch_s_own_words_for_inputs_that_do_not_fit_the_model(shape: str) -> None:
    model, x = small_net(), small_pictures(N)
    before = Snapshot(model, x)
    bad = x[:, :2] if shape == "channels" else x[:, :, :1, :1]
    with torch.no_grad(), pytest.raises(RuntimeError) as ordinary:
        model(bad)
    with pytest.raises(RuntimeError) as ours:
        LRPZBeta(model).attribute(bad, 1)
    assert str(ours.value).endswith(str(ordinary.value))  # behind the name of the operation and its module
    before.assert_unchanged()


# -- bounds --------------------------------------------------------------------------------------------------------

BOUNDS: dict[str, tuple[Any, Any, str]] = {
    "reversed": (3.0, -3.0, "low is above high"),
    "nan": (float("nan"), 3.0, "not finite"),
    "infinite": (-float("inf"), float("inf"), "not finite"),
    "shape": (torch.zeros(1, 5, 1, 1) - 3, 3.0, "does not broadcast"),
    "too many dimensions": (torch.zeros(1, 1, 3, 1, 1) - 3, 3.0, "does not broadcast"),
    "count": ((-3.0, -3.0), (3.0, 3.0), "2 bounds for 1 input"),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_that_cannot_be(name: str) -> None:
    low, high, words = BOUNDS[name]
    refused(InvalidInputError, lambda m, x: LRPZBeta(m, low, high).attribute(x, 1), words)


@pytest.mark.parametrize("bound", ["zero", [0.0], {}])
def test_bounds_that_are_no_numbers(bound: Any) -> None:
    model = small_net()
    with pytest.raises((InvalidInputError, TypeError)) as caught:
        LRPZBeta(model, bound, 3.0).attribute(small_pictures(N), 1)
    assert isinstance(caught.value, ContrastiveLRPError)
    assert "low" in str(caught.value)


# -- targets -------------------------------------------------------------------------------------------------------

METHODS = [LRPZBeta, ContrastiveLRP1, ContrastiveLRP2]

TARGETS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "too large": (5, ("5", "(3, 5)", "0 to 4")),
    "far too large": (10**12, ("out of range",)),
    "negative": (-1, ("-1", "0 to 4")),
    "one of a list": ([0, 1, 5], ("out of range", "0 to 4")),
    "one of a tensor": (torch.tensor([0, -2, 1]), ("out of range",)),
    "too few": ([0, 1], ("3",)),
    "too many": ([0, 1, 2, 3], ("3",)),
    "a tensor too long": (torch.tensor([0, 1, 2, 3]), ("3",)),
    "a matrix": (torch.tensor([[0, 1, 2]]), ()),
    "empty list": ([], ()),
    "none for several outputs": (None, ("5",)),
    "float": (1.0, ("1.0", "integers")),
    "floats": ([0.0, 1.0, 2.0], ("integers",)),
    "float tensor": (torch.tensor([0.0, 1.0, 2.0]), ("integers",)),
    "bool": (True, ("integers",)),
    "text": ("zebra", ("zebra",)),
    "too deep": ((1, 2), ("(3, 5)",)),
    "empty tuple": ((), ()),
}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", TARGETS)
def test_targets_that_do_not_fit(name: str, method: type[LRPZBeta]) -> None:
    target, words = TARGETS[name]
    message = refused(InvalidTargetError, lambda m, x: method(m).attribute(x, target), *words)
    assert "target" in message


def test_bad_targets_are_assertion_errors_as_captum_s() -> None:
    with pytest.raises(AssertionError):
        LRPZBeta(small_net()).attribute(small_pictures(N), 99)


DENSE: dict[str, Any] = {
    "class only": 1,
    "too few indices": (1, 2),
    "class out of range": (4, 0, 0),
    "row out of range": (0, 6, 0),
    "negative column": (0, 0, -1),
    "too many indices": (1, 2, 3, 4),
    "one tuple out of range": [(0, 0, 0), (0, 0, 6)],
    "too few tuples": [(0, 0, 0)],
}


@pytest.mark.parametrize("name", DENSE)
def test_targets_of_dense_outputs(name: str) -> None:
    model = body(lambda s, x: s.conv2(F.relu(s.conv1(x))))
    x = images()
    before = Snapshot(model, x)
    with pytest.raises(InvalidTargetError, match=r"target") as caught:
        LRPZBeta(model).attribute(x, DENSE[name])
    assert "(2, 4, 6, 6)" in str(caught.value)
    before.assert_unchanged()


@pytest.mark.parametrize("target", [0, 2, [0, 1, 2], (3,), torch.tensor(1), torch.tensor([0, 1, 2]), np.int64(2)])
def test_targets_in_all_of_captum_s_forms_work(target: Any) -> None:
    assert LRPZBeta(small_net()).attribute(small_pictures(N), target).shape == (N, 3, 12, 12)


CLASSES: dict[str, Any] = {
    "none": [],
    "out of range": [0, 5],
    "negative": torch.tensor([[0, -1]] * N),
    "examples": [[0, 1]] * (N - 1),
    "ragged": [[0], [1, 2], [3]],
    "floats": [0.0, 1.0],
    "float tensor": torch.tensor([0.0, 1.0]),
    "three dimensions": torch.zeros(N, 1, 1, dtype=torch.long),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_that_do_not_fit(name: str) -> None:
    refused(InvalidTargetError, lambda m, x: ContrastiveLRP1(m).attribute_classes(x, CLASSES[name]))


def test_dual_classes_that_do_not_fit() -> None:
    for classes in ([7], [-1], []):
        refused(
            InvalidTargetError,
            lambda m, x, c=classes: Contrast(m, dual=TheseClasses(c)).attribute(x, 1),
            "dual classes",
            "0 to 4",
        )
    refused(
        InvalidTargetError, lambda m, x: Contrast(m, dual=TheseClasses([1])).attribute(x, 1), "no other class is left"
    )


# -- initial relevance ---------------------------------------------------------------------------------------------

INITIAL: dict[str, tuple[Any, tuple[str, ...]]] = {
    "shape": (torch.ones(N, 4), ("(3, 4)", "(3, 5)")),
    "one example": (torch.ones(5), ("(5,)", "(3, 5)")),
    "number": (1.0, ("float", "(3, 5)")),
    "function of the wrong shape": (lambda output: output.sum(), ("()", "(3, 5)")),
    "function of nothing": (lambda output: None, ("NoneType",)),
    "nan": (torch.full((N, 5), torch.nan), ("NaN",)),
    "infinite": (lambda output: output / 0, ("infinite",)),
}


@pytest.mark.parametrize("name", INITIAL)
def test_initial_relevance_that_does_not_fit(name: str) -> None:
    initial, words = INITIAL[name]
    refused(InvalidTargetError, lambda m, x: LRPZBeta(m).attribute(x, initial_relevance=initial), *words)


def test_target_and_initial_relevance_contradict_each_other() -> None:
    """Which of the two is meant cannot be told; see whether it is one of them, always the same."""
    model, x = small_net(), small_pictures(N)
    initial = torch.ones(N, 5)
    try:
        both = LRPZBeta(model).attribute(x, 1, initial_relevance=initial)
    except InvalidTargetError as error:
        assert "initial_relevance" in str(error)
    else:
        assert torch.equal(both, LRPZBeta(model).attribute(x, initial_relevance=initial))


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("avg_pool", ["max", "Even", "", None, 1])
def test_unknown_average_pooling(avg_pool: Any) -> None:
    refused(
        InvalidInputError,
        lambda m, x: LRPZBeta(m, avg_pool=avg_pool),
        "avg_pool",
        repr(avg_pool),
        "'proportional'",
        "'even'",
    )


@pytest.mark.parametrize("model", [None, lambda x: x, "vgg16", nn.Linear])
def test_a_model_that_is_no_module(model: Any) -> None:
    with pytest.raises(TypeError, match=r"nn.Module"):
        LRPZBeta(model)


def test_a_rule_that_is_none() -> None:
    model = small_net()
    model.fc1.rule = "epsilon"
    with pytest.raises(TypeError, match=r"fc1|rule"):
        LRPZBeta(model).attribute(small_pictures(N), 1)


def test_epsilon_at_the_output_of_clrp2() -> None:
    model = small_net()
    model.fc2.rule = Epsilon()
    refused(
        UnsupportedOperationError,
        lambda m, x: ContrastiveLRP2(m).attribute(x, 1),
        "fc2",
        "Epsilon",
        "zero everywhere",
        "ZPlus",
        model=model,
    )


# -- models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["norm", "dropout", "dropout2d", "stochastic depth", "functional dropout"])
def test_training_mode(how: str) -> None:
    import torchvision

    layers = {
        "norm": nn.BatchNorm2d(4),
        "dropout": nn.Dropout(0.5),
        "dropout2d": nn.Dropout2d(0.1),
        "stochastic depth": torchvision.ops.StochasticDepth(0.3, "row"),
        "functional dropout": nn.Identity(),
    }

    def forward(s: Body, x: Tensor) -> Tensor:
        h = s.layer(s.conv1(x))
        return s.head(F.dropout(h) if how == "functional dropout" else h)

    model = body(forward)
    model.layer = layers[how].train()
    x = images()
    before = Snapshot(model, x)
    for call in (
        lambda: LRPZBeta(model).attribute(x, 1),
        lambda: ContrastiveLRP2(model).attribute_classes(x, [0, 1]),
        lambda: LayerLRPZBeta(model, model.conv1).attribute(x, 1),
        lambda: explain_plan(model, x),
        lambda: check_conservation(model, x, 1),
    ):
        with pytest.raises(ModelStateError, match=r"training.*model\.eval\(\)") as caught:
            call()
        assert "dropout" in str(caught.value) if how == "functional dropout" else "layer" in str(caught.value)
        before.assert_unchanged()


def test_training_mode_without_consequences_is_accepted() -> None:
    model = body(lambda s, x: s.head(F.relu(s.conv1(x))))
    expected = LRPZBeta(model).attribute(images(), 1)
    assert torch.equal(LRPZBeta(model.train()).attribute(images(), 1), expected)
    assert model.training


NOTHING_TO_EXPLAIN: dict[str, tuple[nn.Module, tuple[str, ...]]] = {
    "constant output": (body(lambda s, x: s.fc.weight.sum(0, keepdim=True).expand(len(x), 4)), ("does not depend",)),
    "integers": (body(lambda s, x: s.conv1(x).argmax(1).double()), ("does not depend",)),
    "no tensor": (body(lambda s, x: "text"), ("does not depend",)),
    "nothing returned": (body(lambda s, x: None), ("does not depend",)),
    "no weights": (body(lambda s, x: F.relu(x).mean((2, 3))), ("no weighted operation",)),
    "the input itself": (body(lambda s, x: x), ("no weighted operation",)),
    "a branch that is not used": (body(lambda s, x: (s.conv1(x), x.mean((2, 3)))[1]), ("no weighted operation",)),
}


@pytest.mark.parametrize("name", NOTHING_TO_EXPLAIN)
def test_models_with_nothing_to_explain(name: str) -> None:
    model, words = NOTHING_TO_EXPLAIN[name]
    x = images()
    before = Snapshot(model, x)
    with pytest.raises(ModelStateError) as caught:
        LRPZBeta(model).attribute(x, 1)
    for word in words:
        assert word in str(caught.value)
    before.assert_unchanged()


def test_outputs_that_are_not_finite() -> None:
    model = body(lambda s, x: s.head(s.conv1(x)) / 0)
    with pytest.raises(ModelStateError, match="output.*NaN or infinite.*finite inputs"):
        LRPZBeta(model).attribute(images(), 1)


def test_weights_that_are_not_finite_do_not_pass_as_zero_relevance() -> None:
    """A ReLU turns NaN into NaN, but a comparison into False: the map must not look as if nothing had happened."""
    model = body(lambda s, x: s.head(F.relu(s.conv1(x)).nan_to_num()))
    with torch.no_grad():
        model.conv1.weight[0] = torch.nan
    try:
        relevance = LRPZBeta(model).attribute(images(), 1)
    except ModelStateError:
        return
    assert relevance.isfinite().all()


def test_a_clrp2_model_without_output_layer() -> None:
    model = body(lambda s, x: s.conv1(x).mean((2, 3)) + x.mean((2, 3)).sum(1, keepdim=True))
    with pytest.raises(UnsupportedOperationError, match="goes around"):
        ContrastiveLRP2(model).attribute(images(), 1)


@pytest.mark.parametrize("target", [0, None])
def test_one_logit_has_no_other_class(target: int | None) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 1)).eval()
    refused(
        InvalidTargetError,
        lambda m, x: ContrastiveLRP1(m).attribute(x, target),
        "(3, 1)",
        "no other class",
        "ContrastiveLRP2",
        model=model,
    )
