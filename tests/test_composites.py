"""Which rule goes where: composites by name, the choice by structure, and what others mean by the same names."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from helpers.nets import distance, pictures, zennit_map
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_clrp import (
    ContrastiveLRP1,
    ContrastiveLRP2,
    InvalidInputError,
    LayerLRPZBeta,
    LRPZBeta,
    NeuronLRPZBeta,
    check_conservation,
    explain_plan,
)
from captum_clrp.composites import COMPOSITES, Composite
from captum_clrp.rules import Epsilon, Flat, Gamma, RelevanceRule, ZPlus


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 20),
        nn.ReLU(),
        nn.Linear(20, 5),
    ).eval()


def small_vit() -> nn.Module:
    torch.manual_seed(1)
    model = torchvision.models.VisionTransformer(
        image_size=12, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=5
    )
    return stirred(model)


def small_swin() -> nn.Module:
    torch.manual_seed(2)
    model = torchvision.models.SwinTransformer(
        patch_size=[1, 1],
        embed_dim=8,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=[3, 3],
        mlp_ratio=2.0,
        num_classes=5,
    )
    return stirred(model)


def small_mean_vit() -> nn.Module:
    torch.manual_seed(3)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=12,
        patch_size=4,
        num_classes=5,
        embed_dim=8,
        depth=2,
        num_heads=2,
        class_token=False,
        global_pool="avg",
    )
    return stirred(model)


def small_convnext() -> nn.Module:
    torch.manual_seed(4)
    setting = torchvision.models.convnext.CNBlockConfig
    model = torchvision.models.ConvNeXt([setting(8, 12, 1), setting(12, None, 1)], layer_scale=0.5, num_classes=5)
    return stirred(model)


def stirred(model: nn.Module) -> nn.Module:
    """Biases, affine terms and heads, which many networks start at zero or one, drawn at random."""
    for parameter in model.parameters():
        if parameter.dim() == 1 or float(parameter.detach().std()) < 0.03:
            nn.init.normal_(parameter, float(parameter.detach().mean()), 0.2)
    return model.eval()


TRANSFORMERS = {"vit": small_vit, "mean vit": small_mean_vit, "swin": small_swin}
NETWORKS: dict[str, Callable[[], nn.Module]] = {"cnn": small_cnn, **TRANSFORMERS, "convnext": small_convnext}


# --- names, settings, where they are accepted


def test_unknown_rules_say_which_are_known() -> None:
    with pytest.raises(InvalidInputError, match=r"rules='typo' is not known; choose 'auto', 'paper', 'gamma'"):
        LRPZBeta(small_cnn(), rules="typo")
    with pytest.raises(InvalidInputError, match="rules=3"):
        explain_plan(small_cnn(), pictures(1, 12), rules=3)  # type: ignore[arg-type]


def test_a_composite_is_frozen_and_may_be_changed_into_another() -> None:
    composite = dataclasses.replace(COMPOSITES["paper"], name="mine", linear=Epsilon(0.1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        composite.linear = ZPlus()  # type: ignore[misc]
    rules = [record.rule for record in explain_plan(small_cnn(), pictures(1, 12), rules=composite).records]
    assert "Epsilon(epsilon=0.1, bias=False)" in rules


def test_gamma_takes_one_value_for_each_kind() -> None:
    composite = Composite.gamma(0.2, convolution=0.3, sums=0.4)
    values = {kind: getattr(composite, kind).gamma for kind in ("linear", "convolution", "sums", "mixing", "centring")}
    assert values == {"linear": 0.2, "convolution": 0.3, "sums": 0.4, "mixing": 0.2, "centring": 0.2}
    with pytest.raises(InvalidInputError, match="above 0"):
        Composite.gamma(0)


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_composite_explains_layers_and_neurons_too(name: str) -> None:
    model, x = small_cnn(), pictures(1, 12)
    at_layer = LayerLRPZBeta(model, model[2], rules=name).attribute(x, target=1)
    assert at_layer.shape == (1, 8, 6, 6)
    assert at_layer.isfinite().all()
    assert NeuronLRPZBeta(model, model[6], rules=name).attribute(x, 2).isfinite().all()


@pytest.mark.filterwarnings("ignore:the sizes of relevance")
@pytest.mark.parametrize("name", COMPOSITES)
def test_the_plan_names_the_rules_that_plain_lrp_has_at_the_output_layer_too(name: str) -> None:
    for model in (small_cnn(), small_vit()):
        x, plain = pictures(1, 12), LRPZBeta(model, rules=name)
        plan = explain_plan(model, x, rules=name).records
        assert [r.rule for r in plan] == [r.rule for r in check_conservation(model, x, target=1, method=plain).layers]
    assert (plan[-1].rule, plan[-1].reason) == {
        "paper": ("ZPlus()", "weighted operation on activations"),
        "gamma": ("ZPlus()", "output layer"),
    }.get(name, (str(COMPOSITES[name].linear), "weighted operation on activations"))


def test_a_users_rule_wins_over_the_composite() -> None:
    model, x = small_cnn(), pictures(1, 12)
    model[2].rule = Flat()
    records = explain_plan(model, x, rules="gamma").records
    assert next(r.rule for r in records if r.module == "2") == "Flat()"


# --- the choice by structure


class GroupNormed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        )


def test_structure_decides_and_the_plan_says_why() -> None:
    x = pictures(1, 12)
    taken = {name: explain_plan(make(), x) for name, make in NETWORKS.items()}
    assert {name: plan.composite for name, plan in taken.items()} == {
        "cnn": "paper",
        "vit": "gamma",
        "mean vit": "gamma",
        "swin": "gamma",
        "convnext": "gamma",
    }
    assert "neither attention, nor" in taken["cnn"].why
    assert "layer_norm in 'features.0.1'" in taken["convnext"].why
    assert taken["convnext"].why in str(taken["convnext"])


def ended_by(*end: nn.Module, head: nn.Module | None = None) -> nn.Module:
    """Two convolutions, whatever follows them, a mean over all places, and the output layer."""
    torch.manual_seed(6)
    body = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    return nn.Sequential(*body, *end, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head or nn.Linear(8, 5)).eval()


class By(nn.Module):
    """A function of the signal as a module; with a convolution for those that need two signals."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.other = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.other, x)


RECTIFIED: dict[str, Callable[[], nn.Module]] = {
    **{
        kind.__name__: kind
        for kind in (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.ELU, nn.LeakyReLU)
    },
    "silu by hand": lambda: By(lambda _, x: x * x.sigmoid()),
    "silu in place": lambda: By(lambda _, x: x.mul_(torch.sigmoid(x))),
    "relu by hand": lambda: By(lambda _, x: torch.maximum(x, torch.zeros(()))),
    "a sum of activations": lambda: By(lambda other, x: F.silu(x) + F.silu(other(x))),
    "an activation behind a sum": lambda: By(lambda other, x: F.gelu(x + other(x))),
    "a gate on an activation": lambda: By(lambda other, x: F.gelu(x) * other(x).mean((2, 3), keepdim=True).sigmoid()),
    "a gate from a signed mean": lambda: By(
        lambda other, x: (x * x.mean((2, 3), keepdim=True).sigmoid().expand_as(x)).relu()
    ),
    "pooled and padded": lambda: nn.Sequential(
        nn.SiLU(), nn.MaxPool2d(2), nn.ZeroPad2d(1), nn.Dropout(), nn.AvgPool2d(2)
    ),
}
SIGNED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "nothing": (nn.Identity, "conv2d in '2'"),
    "tanh": (nn.Tanh, "conv2d in '2'"),
    "hardtanh": (nn.Hardtanh, "conv2d in '2'"),
    "batch norm": (lambda: nn.BatchNorm2d(8), "batch_norm in '3'"),
    "batch norm behind an activation": (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)), "batch_norm in '3.1'"),
    "a residual sum": (lambda: By(lambda other, x: F.gelu(x) + other(x)), "add in '3'"),
    "a difference of activations": (lambda: By(lambda other, x: F.relu(x) - F.relu(other(x))), "sub in '3'"),
    "a gated linear unit": (lambda: By(lambda other, x: x * other(x).sigmoid()), "conv2d in '2'"),
    "a gate that is broadcast": (lambda: By(lambda _, x: x * x.mean((2, 3), keepdim=True).sigmoid()), "conv2d in '2'"),
    "local pooling": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Dropout()), "conv2d in '2'"),
}


@pytest.mark.parametrize("end", RECTIFIED)
def test_a_mean_of_what_an_activation_rectified_has_the_papers_rules(end: str) -> None:
    assert explain_plan(ended_by(RECTIFIED[end]()), pictures(1, 12)).composite == "paper"


@pytest.mark.parametrize("end", SIGNED)
def test_a_mean_of_values_of_both_signs_has_the_gamma_composite_and_the_plan_says_what_made_them(end: str) -> None:
    make, made_by = SIGNED[end]
    plan = explain_plan(ended_by(make()), pictures(1, 12))
    assert plan.composite == "gamma"
    assert plan.why == f"by rules=\"auto\", since there is adaptive_avg_pool2d in '4' of what {made_by} gives"


def test_a_mean_behind_the_output_layer_or_of_single_channels_does_not_count() -> None:
    x = pictures(1, 12)
    classes_by_place = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert explain_plan(classes_by_place, x).composite == "paper"
    of_channels = ended_by(By(lambda _, x: x.mean(1, keepdim=True).expand(-1, 8, -1, -1)), nn.ReLU())
    assert explain_plan(of_channels, x).composite == "paper"
    local = ended_by(nn.AvgPool2d(3), nn.Conv2d(8, 8, 1), nn.ReLU())  # as between the blocks of DenseNet
    assert explain_plan(local, x).composite == "paper"


def test_a_mean_of_tokens_counts_whatever_the_head() -> None:
    head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))
    tokens = By(lambda other, x: (x + other(x)).flatten(2).mean(2)[..., None, None])
    plan = explain_plan(ended_by(tokens, head=head), pictures(1, 12))
    assert "mean in '3' of what add in '3' gives" in plan.why


TORCHVISION = {
    "paper": "alexnet vgg11 vgg16_bn resnet18 resnext50_32x4d wide_resnet50_2 squeezenet1_1 densenet121 inception_v3 googlenet "
    "shufflenet_v2_x0_5 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 efficientnet_b0 efficientnet_v2_s "
    "regnet_x_400mf regnet_y_400mf",
    "gamma": "convnext_tiny swin_t swin_v2_t vit_b_32 maxvit_t",
}
QUICK = {"resnet18", "squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small", "mnasnet0_5", "regnet_y_400mf"}


@pytest.mark.parametrize(
    ("network", "composite"),
    [
        pytest.param(name, composite, marks=[] if name in QUICK else pytest.mark.slow)
        for composite, names in TORCHVISION.items()
        for name in names.split()
    ],
)
def test_what_each_family_of_torchvision_gets(network: str, composite: str) -> None:
    unset = {"init_weights": False} if network in ("inception_v3", "googlenet") else {}
    model = torchvision.models.get_model(network, weights=None, **unset).eval()
    size = 224 if composite == "gamma" else 96
    assert explain_plan(model, pictures(1, size)).composite == composite


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2", "efficientnet_b0", "mobilenet_v3_small", "alexnet"])
def test_networks_with_batch_norm_have_the_papers_rules_to_the_bit(network: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(network, weights=None).eval()
    x = pictures(1, 64)
    automatic = ContrastiveLRP1(model).attribute(x, target=3, relu_attributions=False)
    paper = ContrastiveLRP1(model, rules="paper").attribute(x, target=3, relu_attributions=False)
    assert torch.equal(automatic, paper)


def test_the_image_does_not_decide() -> None:
    model = small_convnext()
    for x in (torch.zeros(1, 3, 12, 12), pictures(2, 12), -pictures(1, 12).abs()):
        assert explain_plan(model, x).composite == "gamma"
        assert explain_plan(ended_by(nn.GELU()), x).composite == "paper"
        assert explain_plan(ended_by(nn.Tanh()), x).composite == "gamma"


# --- what holds for every composite


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["paper", "gamma"])
def test_relevance_is_conserved_where_the_rules_promise_it(network: str, name: str) -> None:
    model, x = NETWORKS[network]().double(), pictures(2, 12).double()
    score = model(x)[:, 1].detach()
    relevance = LRPZBeta(model, rules=name, conserve=True).attribute(x, target=1)
    torch.testing.assert_close(relevance.flatten(1).sum(1), score, rtol=1e-7, atol=1e-9)
    report = check_conservation(model, x, target=1, method=LRPZBeta(model, rules=name))
    assert abs(report.unaccounted) < 1e-9 * max(abs(report.score), 1.0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", COMPOSITES)
def test_contrasts_of_every_composite_are_differences_of_two_passes(network: str, name: str) -> None:
    model, x = NETWORKS[network]().double(), pictures(2, 12).double()
    score = model(x)[:, 1].detach().abs()
    target, others = torch.zeros(2, 5).double(), torch.ones(2, 5).double()
    target[:, 1], others[:, 1] = 1.0, 0.0
    # z+ at the output layer, which contrasts have whatever the composite says.
    plain = LRPZBeta(model, rules=dataclasses.replace(COMPOSITES[name], output=ZPlus()))
    concept = plain.attribute(x, initial_relevance=score[:, None] * target)
    dual = plain.attribute(x, initial_relevance=score[:, None] * others / 4)
    signed = ContrastiveLRP1(model, rules=name).attribute(x, target=1, relu_attributions=False)
    assert distance(signed, concept - dual) < 1e-8
    both = ContrastiveLRP2(model, rules=name).attribute_classes(x, [1, 3], relu_attributions=False)
    single = ContrastiveLRP2(model, rules=name).attribute(x, target=3, relu_attributions=False)
    assert distance(both[:, 1], single) < 1e-10
    assert single.abs().sum() > 0


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["paper", "gamma"])  # the others are not bounded: they amplify rounding without limit
def test_half_precision_stays_near(network: str, name: str) -> None:
    model, x = NETWORKS[network](), pictures(1, 12)
    expected = LRPZBeta(model.float(), rules=name).attribute(x, target=1)
    actual = LRPZBeta(copy.deepcopy(model).bfloat16(), rules=name).attribute(x.bfloat16(), target=1)
    assert actual.isfinite().all()
    assert float(F.cosine_similarity(actual.float().flatten(), expected.flatten(), dim=0)) > 0.5


# --- gradient times input: an oracle without rules


@contextmanager
def linearised() -> Iterator[None]:
    """``torch`` in which attention weights, scales of layer norm and ``gelu(x) / x`` are constants of the gradient."""
    softmax, gelu, norm, attention = F.softmax, F.gelu, F.layer_norm, F.scaled_dot_product_attention

    def constant_scale(x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        dims = tuple(range(-len(shape), 0))
        variance = x.var(dims, unbiased=False, keepdim=True).detach()
        normed = (x - x.mean(dims, keepdim=True)) / (variance + eps).sqrt()
        return normed * weight + bias

    def constant_weights(q: Tensor, k: Tensor, v: Tensor, *_: Any, **options: Any) -> Tensor:
        return (q @ k.mT * (options.get("scale") or q.size(-1) ** -0.5)).softmax(-1).detach() @ v

    F.softmax = lambda x, dim=None, **options: softmax(x, dim=dim, **options).detach()
    F.gelu = lambda x, approximate="none": x * (gelu(x, approximate=approximate) / x).detach()
    F.layer_norm, F.scaled_dot_product_attention = constant_scale, constant_weights
    try:
        yield
    finally:
        F.softmax, F.gelu, F.layer_norm, F.scaled_dot_product_attention = softmax, gelu, norm, attention


@pytest.mark.parametrize("network", TRANSFORMERS)
def test_cp_lrp_is_gradient_times_input_of_the_linearised_network(network: str) -> None:
    model, x = TRANSFORMERS[network]().double(), pictures(3, 12).double()
    with linearised():
        variable = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(variable)[:, 2].sum(), variable)
    ours = LRPZBeta(model, rules="cp-lrp").attribute(x, target=2)
    cosine = F.cosine_similarity(ours.flatten(1), (x * gradient).flatten(1))
    torch.testing.assert_close(cosine, torch.ones(3).double(), rtol=1e-5, atol=0)
    assert distance(ours, x * gradient) < 1e-4  # stabilizers


def test_group_norm_under_cp_lrp_is_gradient_times_input_with_a_constant_scale() -> None:
    torch.manual_seed(3)
    model, x = GroupNormed().double(), pictures(2, 12).double()
    nn.init.normal_(model[1].weight)
    nn.init.normal_(model[1].bias)

    def with_constant_scale(x: Tensor) -> Tensor:
        h = model[0](x).unflatten(1, (2, 4))
        scale = (h.var((2, 3, 4), unbiased=False, keepdim=True).detach() + model[1].eps).sqrt()
        normed = ((h - h.mean((2, 3, 4), keepdim=True)) / scale).flatten(1, 2)
        return nn.Sequential(*list(model)[2:])(normed * model[1].weight[:, None, None] + model[1].bias[:, None, None])

    variable = x.clone().requires_grad_()
    torch.testing.assert_close(with_constant_scale(variable), model(x))
    (gradient,) = torch.autograd.grad(with_constant_scale(variable)[:, 2].sum(), variable)
    assert distance(LRPZBeta(model, rules="cp-lrp").attribute(x, target=2), x * gradient) < 1e-4  # stabilizers


# --- Zennit's composites of the same names


@pytest.mark.parametrize("name", ["epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box"])
def test_composites_are_zennits(name: str) -> None:
    composites = pytest.importorskip("zennit.composites")
    model, x = small_cnn().double(), pictures(2, 12).double()
    options = {"epsilon": 1e-6, "stabilizer": 1e-12, "zero_params": "bias"}
    theirs = {
        "epsilon-plus": lambda: composites.EpsilonPlus(**options),
        "epsilon-plus-flat": lambda: composites.EpsilonPlusFlat(**options),
        "epsilon-gamma-box": lambda: composites.EpsilonGammaBox(low=-3.0, high=3.0, gamma=0.25, **options),
    }[name]()
    ours = LRPZBeta(model, -3.0, 3.0, rules=name).attribute(x, target=3)
    assert distance(ours, zennit_map(theirs, model, x, 3)) < 1e-8


def test_gamma_is_zennits_on_features_of_both_signs() -> None:
    rules = pytest.importorskip("zennit.rules")
    types, composites = pytest.importorskip("zennit.types"), pytest.importorskip("zennit.composites")
    torch.manual_seed(5)
    layers = [
        nn.Linear(6, 8, bias=False),
        nn.Tanh(),
        nn.Linear(8, 9, bias=False),
        nn.Tanh(),
        nn.Linear(9, 4, bias=False),
    ]
    model = nn.Sequential(*layers).double()  # Zennit counts the bias where it asks for the sign of an output
    x = torch.randn(3, 6).double()
    rules_of = [(types.Linear, rules.Gamma(0.2, stabilizer=1e-14, zero_params="bias")), (nn.Tanh, rules.Pass())]
    expected = zennit_map(composites.LayerMapComposite(layer_map=rules_of), model, x, 1)
    ours = Composite(name="mine", linear=Gamma(0.2), first=None, output=None)
    assert distance(LRPZBeta(model, rules=ours).attribute(x, target=1), expected) < 1e-8


class Products(TorchDispatchMode):
    """Counts matrix products with weights."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
        return func(*args, **(kwargs or {}))


def test_gamma_costs_four_products_for_each_layer_of_a_transformer() -> None:
    model, x = small_vit(), pictures(1, 12)
    with Products() as forward:  # with gradients, and so without the fused kernel of evaluation
        model(x)
    with Products() as gamma:
        LRPZBeta(model, rules="auto").attribute(x, target=1)
    # The forward pass, |W| |x| and two transposed ones: twice what a gradient costs. The output layer has z+.
    assert forward.count == 9  # two blocks of four, and the head
    assert gamma.count <= 4 * forward.count


@pytest.mark.parametrize(
    ("rule", "remedy"), [(Gamma(0.01), "a larger gamma bounds it"), (Epsilon(1e-9), "rules='gamma' bounds it")]
)
def test_relevance_that_becomes_huge_is_a_warning_that_names_the_operation(rule: RelevanceRule, remedy: str) -> None:
    # 1 and -0.9999 leave 0.0001: a small gamma hands on a hundred times what it got, with both signs, in each layer.
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    model[0].weight.data = torch.tensor([[1.0, -0.9999], [-0.9999, 1.0]]).double()
    model[1].weight.data = torch.tensor([[1.0, -0.9999]]).double()
    composite = Composite(name="mine", linear=rule, first=None, output=None)
    with pytest.warns(
        UserWarning, match=rf"times the score.*linear in module '[01]' \({rule.__class__.__name__}\(.*\); {remedy}"
    ):
        LRPZBeta(model, rules=composite).attribute(torch.ones(1, 2).double(), target=0)
