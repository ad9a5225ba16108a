"""Conservation on real architectures, and the reports that say which rule is used and what is absorbed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.nets import BOX, HIGH, LOW, pictures, row, small_net, small_pictures, torchvision_network, two_layer_net
from torch import Tensor, nn

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    InvalidInputError,
    InvalidTargetError,
    LRPZBeta,
    UnsupportedOperationError,
    check_conservation,
    class_scores,
    explain_plan,
)
from captum_clrp.inspection import Conservation, LayerConservation, Plan

# --- conservation

NETWORKS = [
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
    "resnet18",
    "resnet50",
    "squeezenet1_0",
    "mobilenet_v2",
]


def assert_conserves(model: nn.Module, x: Tensor, bounds: tuple[Any, Any], *, nothing_absorbed: bool) -> None:
    """What the promise says, in float32, for each example and for the batch."""
    with torch.no_grad():
        output = model(x)
    target = int(output[0].argmax())
    score = output[:, target]
    explain = LRPZBeta(model, *bounds)
    report = check_conservation(model, x, target, method=explain)
    assert abs(report.score - float(score.sum())) <= 1e-5 * abs(report.score)
    # The sum over what single operations absorbed: nothing vanishes between them.
    assert abs(report.at_input + report.absorbed - report.score) <= 1e-3 * abs(report.score)
    if nothing_absorbed:
        assert abs(report.absorbed) <= 1e-3 * abs(report.score)  # measured 1e-7
    kept = LRPZBeta(model, *bounds, conserve=True).attribute(x, target)
    torch.testing.assert_close(sums(kept), score, rtol=1e-2, atol=0)  # measured 1e-6
    for contrast in (ContrastiveLRP1, ContrastiveLRP2):
        method = contrast(model, *bounds, conserve=True)
        signed = method.attribute(x, target, relu_attributions=False)
        assert signed.count_nonzero() > 0
        assert (sums(signed).abs() <= 1e-4 * score.abs()).all()  # measured 3e-7


def sums(relevance: Tensor) -> Tensor:
    return relevance.flatten(1).sum(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_relevance_at_the_input_and_absorbed_sum_to_the_logit(name: str, request: pytest.FixtureRequest) -> None:
    """And with conserve=True the input alone does, the signed contrast sums to 0, VGG absorbs nothing."""
    shared = name in ("alexnet", "vgg11", "vgg16")
    model = request.getfixturevalue(name) if shared else torchvision_network(name)
    vgg = name.startswith("vgg")
    x = pictures(1 if vgg else 2, 64)
    assert_conserves(model, x, (LOW, HIGH), nothing_absorbed=vgg or name == "alexnet")


def test_efficientnet_lite0_with_its_imagenet_weights_conserves(lite0: Any) -> None:
    x = pictures(1, 224).clamp(-1, 1)
    assert_conserves(lite0.model, x, (lite0.low, lite0.high), nothing_absorbed=False)
    report = check_conservation(lite0.model, x, int(lite0.model(x).argmax()))
    assert report.absorbed / report.score > 0.5  # its depthwise layers absorb most of the relevance


def test_the_networks_have_weights_on_which_leaks_would_show() -> None:
    model = torchvision_network("resnet18")
    for name, parameter in model.named_parameters():
        assert name.endswith("weight") or parameter.std() > 0.05
    norm = model.layer1[0].bn1
    assert norm.weight.std() > 0.1
    assert norm.running_mean.abs().max() > 0.01


# --- check_conservation by hand


def test_conservation_of_two_layers_by_hand() -> None:
    model = two_layer_net()
    report = check_conservation(model, torch.ones(1, 2).double(), 0, method=LRPZBeta(model, *BOX))
    assert report.score == pytest.approx(1)
    assert report.at_input == pytest.approx(1)
    assert report.absorbed == pytest.approx(0)
    assert [x.module for x in report.layers] == ["0", "1", "2"]
    assert [x.arrived for x in report.layers] == pytest.approx([1, 1, 1])


def dead_output() -> nn.Sequential:
    """Two hidden units, the second active by its bias alone: of the score 8 it has 5."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    model[0].weight.data = torch.tensor([[1.0, 2.0], [-1.0, -1.0]]).double()
    model[0].bias.data = row(0, 7)[0]
    nn.init.ones_(model[2].weight)
    return model


def test_what_a_bias_made_is_absorbed_and_named() -> None:
    model, x = dead_output(), row(1, 1)  # hidden 3 and 5
    method = LRPZBeta(model, 0.0, 1.0)
    assert model(x).item() == 8
    # z^beta of the second unit: (x - h) w- = 0 at both inputs.
    report = check_conservation(model, x, method=method)
    assert report.at_input == pytest.approx(3)
    assert report.absorbed == pytest.approx(5)
    assert report.unaccounted == pytest.approx(0)
    by_layer = {layer.module: layer.absorbed for layer in report.layers}
    assert by_layer == pytest.approx({"0": 5, "1": 0, "2": 0})
    printed = str(report)
    assert printed.startswith("score 8 = 3 at the input + 5 absorbed (0 unaccounted)")
    table = printed.splitlines()
    assert table[1].split() == ["operation", "module", "rule", "arrived", "absorbed", "of", "score"]
    assert table[3].split() == ["linear", "0", "ZBeta()", "8", "5", "62.5%"]
    assert len(table) == 4  # operations that absorb nothing are left out
    kept = check_conservation(model, x, method=LRPZBeta(model, 0.0, 1.0, conserve=True))
    assert kept.at_input == pytest.approx(8)
    assert "no operation absorbs relevance" in str(kept)


def test_the_delta_is_what_the_report_calls_absorbed() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    report = check_conservation(model, x, 1)
    _, delta = LRPZBeta(model).attribute(x, 1, return_convergence_delta=True)
    assert delta.shape == (3,)
    assert float(delta.sum()) == pytest.approx(report.absorbed)


def test_conservation_takes_batches_arguments_and_initial_relevance() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(3, torch.float64)
    report = check_conservation(model, x, [0, 1, 2])
    singles = [check_conservation(model, x[i : i + 1], i) for i in range(3)]
    assert report.score == pytest.approx(sum(s.score for s in singles))
    assert report.absorbed == pytest.approx(sum(s.absorbed for s in singles))
    both = check_conservation(model, x, initial_relevance=class_scores([0, 1]))
    parts = [check_conservation(model, x, k) for k in (0, 1)]
    assert both.at_input == pytest.approx(sum(p.at_input for p in parts))
    with pytest.raises(InvalidTargetError, match="out of range"):
        check_conservation(model, x, 9)


def test_conservation_of_a_contrast_starts_from_nothing() -> None:
    model, x = small_net(dtype=torch.float64), small_pictures(2, torch.float64)
    for contrast in (ContrastiveLRP1, ContrastiveLRP2):
        report = check_conservation(model, x, 1, method=contrast(model))
        assert report.score == pytest.approx(0)
        assert report.at_input + report.absorbed == pytest.approx(0)
        assert isinstance(str(report), str)


def test_a_method_of_another_model_is_refused() -> None:
    model, other, x = small_net(), small_net(), small_pictures(2)
    with pytest.raises(InvalidInputError, match="method explains another model"):
        check_conservation(model, x, 1, method=LRPZBeta(other))
    assert check_conservation(nn.DataParallel(model), x, 1, method=LRPZBeta(model)).layers


def test_a_report_of_a_score_of_zero_prints() -> None:
    assert "score 0" in str(Conservation(0.0, 0.0, 0.0, ()))


def test_rounding_does_not_print() -> None:
    layers = (
        LayerConservation("linear", "0", "ZPlus()", -200.0, -3e-5),
        LayerConservation("linear", "1", "ZPlus()", 2e-6, 0.5),
    )
    assert str(Conservation(100.0, 99.5, 0.5 + 3e-8, layers, 1e-4)).splitlines() == [
        "score 100 = 99.5 at the input + 0.5 absorbed (0 unaccounted)",
        "operation  module  rule     arrived  absorbed  of score",
        "---------  ------  -------  -------  --------  --------",
        "linear     1       ZPlus()  0        0.5       0.5%",
    ]
    assert str(Conservation(1e-6, 0.5, -0.5, layers[1:], 1e-4)).splitlines()[3].split() == [
        *("linear", "1", "ZPlus()", "0", "0.5", "-")
    ]


def test_of_a_contrast_in_single_precision_no_noise_is_printed(alexnet: nn.Module) -> None:
    """AlexNet absorbs nothing, and the contrast's parts cancel: what is left are rounding errors of float32."""
    for contrast in (ContrastiveLRP1, ContrastiveLRP2):
        report = check_conservation(alexnet, pictures(2, 64), 3, method=contrast(alexnet, LOW, HIGH))
        assert 0 < abs(report.at_input) < report.rounding
        assert str(report).startswith("score 0 = 0 at the input + 0 absorbed (0 unaccounted)")


# --- explain_plan


def test_the_plan_names_every_operation_with_its_rule_and_why() -> None:
    plan = explain_plan(small_net(), small_pictures())
    assert isinstance(plan, Plan)
    in_place = plan.records[4].operation
    assert in_place in ("add_", "__iadd__")  # the same, spelled by different releases of PyTorch
    listed = [(r.module, r.operation, r.rule.split("(")[0]) for r in plan.records]
    assert listed == [
        ("conv1", "conv2d", "ZBeta"),
        ("norm", "batch_norm", "pass"),
        ("relu", "relu", "pass"),
        ("conv2", "conv2d", "ZPlus"),
        ("(SmallNet)", in_place, "sum"),
        ("(SmallNet)", "relu", "pass"),
        ("(SmallNet)", "mean", "proportional"),
        ("fc1", "linear", "ZPlus"),
        ("(SmallNet)", "relu", "pass"),
        ("fc2", "linear", "ZPlus"),
    ]
    assert all(r.reason for r in plan.records)


def test_the_plan_prints_as_a_table() -> None:
    why, *lines = str(explain_plan(small_net(), small_pictures())).splitlines()
    assert why.startswith("composite: paper (")
    assert lines[0].split() == ["operation", "module", "rule", "why"]
    assert set(lines[1]) == {"-", " "}
    assert len(lines) == 2 + 10
    column = lines[0].index("rule")
    assert lines[2][column:].startswith("ZBeta")
    assert lines[5][column:].startswith("ZPlus")
    assert all(line == line.rstrip() for line in lines)


def test_the_plan_knows_settings_rules_of_the_user_and_further_arguments() -> None:
    model, x = small_net(), small_pictures()
    even = explain_plan(model, x, avg_pool="even")
    assert "even" in [r.rule for r in even.records if r.operation == "mean"]
    from captum_clrp.rules import Gamma

    model.conv2.rule = Gamma(0.5)
    (record,) = [r for r in explain_plan(model, x).records if r.module == "conv2"]
    assert record.rule == "Gamma(gamma=0.5)"
    assert "user" in record.reason

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor, factor: float) -> Tensor:
            return self.fc(x) * factor

    assert len(explain_plan(Scaled(), torch.rand(1, 4), 2.0).records) == 2


def test_the_plan_refuses_settings_that_do_not_exist() -> None:
    for unknown in ("typo", "sizes"):
        with pytest.raises(InvalidInputError, match="choose 'proportional' or 'even'"):
            explain_plan(small_net(), small_pictures(2), avg_pool=unknown)


def test_the_plan_of_what_cannot_be_explained_is_the_refusal() -> None:
    class Unruly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).cumsum(1)

    with pytest.raises(UnsupportedOperationError, match="cumsum"):
        explain_plan(Unruly(), torch.rand(1, 4))
