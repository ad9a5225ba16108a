"""Methods against Captum and against our own classes one by one; what they share must not show."""

import pytest
import torch
import torchvision
from captum.attr import GuidedBackprop, InputXGradient, LayerGradCam, Saliency
from torch import nn
from torch.nn import functional as F

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.classifiers import Classifier
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import METHODS, Geometry, MethodSet
from captum_clrp.evaluation.methods.gradients import GuidedRectifiers, gradient_maps, guided_maps

SIZE = 64


@pytest.fixture(scope="module")
def alexnet():
    torch.manual_seed(0)
    model = torchvision.models.alexnet(num_classes=7).eval()
    return Classifier("alexnet", model, Geometry(SIZE, (SIZE, SIZE)), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def inputs(alexnet):
    return alexnet.inputs(torch.randint(0, 256, (2, 3, SIZE, SIZE)))


def test_methods_take_a_composite_by_name(alexnet, inputs):
    maps = MethodSet(alexnet, ["clrp1", "clrp1-gamma", "clrp1-epsilon-plus-flat-conserve"]).maps(inputs, CONCEPTS, IDS)
    low, high = alexnet.bounds
    classes = torch.cat(CONCEPTS, 1)
    for name, settings in {
        "clrp1": {},
        "clrp1-gamma": {"rules": "gamma"},
        "clrp1-epsilon-plus-flat-conserve": {"rules": "epsilon-plus-flat", "conserve": True},
    }.items():
        explainer = ContrastiveLRP1(alexnet.model, low, high, **settings)
        assert torch.equal(maps[name], explainer.attribute_classes(inputs, classes).sum(2))
    assert not torch.equal(maps["clrp1"], maps["clrp1-gamma"])


CONCEPTS = [torch.tensor([[1], [4]]), torch.tensor([[0], [6]])]
IDS = ["a", "b"]


def close(first, second, tolerance=1e-5):
    return float((first - second).abs().max()) <= tolerance * float(second.abs().max())


def test_gradients_are_captums(alexnet, inputs):
    maps = MethodSet(alexnet, ["gradient", "input-x-gradient", "grad-cam", "guided-backprop"]).maps(
        inputs, CONCEPTS, IDS
    )
    cam = LayerGradCam(alexnet.model, alexnet.model.avgpool)
    for k, concept in enumerate(CONCEPTS):
        x, target = inputs.clone().requires_grad_(), concept[:, 0]
        assert close(maps["gradient"][:, k], Saliency(alexnet.model).attribute(x, target).amax(1))
        assert close(maps["input-x-gradient"][:, k], InputXGradient(alexnet.model).attribute(x, target).sum(1).detach())
        coarse = cam.attribute(x, target, relu_attributions=True).detach()
        expected = F.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
        assert close(maps["grad-cam"][:, k], expected)
    copy = torchvision.models.alexnet(num_classes=7).eval()
    copy.load_state_dict(alexnet.model.state_dict())
    for module in copy.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # Captum's hooks cannot stand it
    guided = GuidedBackprop(copy)
    for k, concept in enumerate(CONCEPTS):
        expected = guided.attribute(inputs.clone().requires_grad_(), concept[:, 0]).abs().amax(1)
        assert close(maps["guided-backprop"][:, k], expected)


def test_relevance_is_that_of_the_public_classes(alexnet, inputs):
    low, high = alexnet.bounds
    classes = torch.cat(CONCEPTS, 1)
    names = ["clrp2", "lrp", "clrp1", "lrp-even-conserve", "clrp2-even-conserve"]
    maps = MethodSet(alexnet, names).maps(inputs, CONCEPTS, IDS)
    assert list(maps) == names
    # In comparisons LRP starts with the magnitude of the score, as the contrasts do.
    signs = alexnet.model(inputs).gather(1, classes).sign()[:, :, None, None].detach()
    assert (signs < 0).any()
    for name, kind in (("lrp", LRPZBeta), ("clrp1", ContrastiveLRP1), ("clrp2", ContrastiveLRP2)):
        expected = kind(alexnet.model, low, high).attribute_classes(inputs, classes).sum(2)
        assert torch.equal(maps[name], expected * signs if kind is LRPZBeta else expected), name
    for name, kind in (("lrp", LRPZBeta), ("clrp2", ContrastiveLRP2)):
        explainer = kind(alexnet.model, low, high, avg_pool="even", conserve=True)
        expected = explainer.attribute_classes(inputs, classes).sum(2)
        assert torch.equal(maps[f"{name}-even-conserve"], expected * signs if kind is LRPZBeta else expected)


@pytest.mark.filterwarnings("ignore:precision=.bfloat16")
def test_relevance_in_bfloat16_by_name(alexnet, inputs):
    low, high = alexnet.bounds
    maps = MethodSet(alexnet, ["clrp1", "clrp1-even-bfloat16"]).maps(inputs, CONCEPTS, IDS)
    explainer = ContrastiveLRP1(alexnet.model, low, high, avg_pool="even", precision="bfloat16")
    expected = explainer.attribute_classes(inputs, torch.cat(CONCEPTS, 1)).sum(2)
    assert torch.equal(maps["clrp1-even-bfloat16"], expected)
    assert not torch.equal(maps["clrp1"], expected)


def test_several_classes_are_explained_together(alexnet, inputs):
    """LRP of a set is the sum over its classes; gradients are those of the summed scores."""
    together = torch.tensor([[1, 3], [4, 5]])
    apart = [together[:, :1], together[:, 1:]]
    methods = MethodSet(alexnet, ["lrp", "input-x-gradient", "clrp2"], others={"captum": InputXGradient(alexnet.model)})
    one, two = methods.maps(inputs, [together], IDS), methods.maps(inputs, apart, IDS)
    for name in ("lrp", "input-x-gradient", "captum"):
        assert close(one[name][:, 0], two[name].sum(1))
    assert close(one["input-x-gradient"], one["captum"])
    low, high = alexnet.bounds
    signed = ContrastiveLRP2(alexnet.model, low, high).attribute_classes(inputs, together, relu_attributions=False)
    # The contrast is a difference of nearly equal relevance: in single precision it keeps about four digits.
    assert close(one["clrp2"][:, 0], signed.sum(1).clamp(min=0).sum(1), 1e-3)


def test_the_forward_pass_is_shared(alexnet, inputs):
    passes = []
    handle = alexnet.model.register_forward_hook(lambda *_: passes.append(1))
    try:
        MethodSet(alexnet, METHODS).maps(inputs, CONCEPTS, IDS)
    finally:
        handle.remove()
    assert len(passes) == 3  # gradients; guided backprop; LRP, CLRP1 and CLRP2


def test_random_maps_depend_on_the_image_and_the_seed_alone(alexnet, inputs):
    methods = MethodSet(alexnet, ["random"])
    first = methods.maps(inputs, CONCEPTS, ["a", "b"])["random"]
    turned = methods.maps(inputs, CONCEPTS, ["b", "a"])["random"]
    assert torch.equal(first, turned.flip(0))
    assert not torch.equal(first, MethodSet(alexnet, ["random"], seed=1).maps(inputs, CONCEPTS, ["a", "b"])["random"])
    assert not torch.equal(first[:, 0], first[:, 1])


@pytest.mark.parametrize("size", [(4, 6), (5, 5)])
def test_the_centre_is_one_pixel(alexnet, size):
    heat = MethodSet(alexnet, ["centre"]).maps(torch.zeros(1, 3, *size), CONCEPTS[:1], ["a"])["centre"][0, 0]
    assert (heat == heat.max()).nonzero().tolist() == [[size[0] // 2, size[1] // 2]]
    assert heat.min() == 0


def test_the_model_is_as_before(alexnet, inputs):
    before = {k: v.clone() for k, v in alexnet.model.state_dict().items()}
    MethodSet(alexnet, METHODS).maps(inputs, CONCEPTS, IDS)
    assert all(torch.equal(v, before[k]) for k, v in alexnet.model.state_dict().items())
    for module in alexnet.model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(p.requires_grad and p.grad is None for p in alexnet.model.parameters())


class Rectified(nn.Module):
    """The same rectifier in six spellings; the loss is the sum of squares through negative weights."""

    def __init__(self, spelling):
        super().__init__()
        self.spelling = spelling

    def forward(self, x):
        y = self.spelling(x * 1.0).flatten(1)
        return torch.stack([(y * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum(1), y.sum(1)], 1)


def ignoring_the_result(x):
    F.relu_(x)
    return x


@pytest.mark.parametrize(
    "spelling",
    [
        F.relu,
        F.relu6,
        torch.relu,
        nn.ReLU(inplace=True),
        nn.ReLU6(inplace=True),
        ignoring_the_result,
        lambda x: x.relu(),
        lambda x: x.clone().relu_(),
        lambda x: F.leaky_relu(x, 0.0),
        lambda x: F.hardtanh(x, 0.0, 6.0),
    ],
)
def test_every_rectifier_is_guided(spelling):
    x = torch.tensor([1.0, 2.0, -3.0, -4.0]).reshape(1, 1, 2, 2)
    model = Rectified(spelling)
    # Gradients at the rectifier's output are 1, -1, 1, -1: the negative ones stop; inputs 3 and 4 are switched off.
    assert guided_maps(model, x, [torch.tensor([[0]])]).flatten().tolist() == [1, 0, 0, 0]
    assert gradient_maps(model, x, [torch.tensor([[0]])], ["gradient"])["gradient"].flatten().tolist() == [1, 1, 0, 0]


def test_captums_guided_backprop_leaves_relu6_alone():
    """Why ours is not Captum's: on ReLU6, as in EfficientNet-Lite, Captum returns the plain gradient."""
    x = torch.tensor([1.0, 2.0, -3.0, -4.0]).reshape(1, 1, 2, 2).requires_grad_()
    theirs = GuidedBackprop(Rectified(nn.ReLU6())).attribute(x, 0)
    assert theirs.flatten().tolist() == [1, -1, 0, 0]


def test_guided_backprop_without_rectifier_is_refused():
    with pytest.raises(InvalidInputError, match="no rectifier"):
        guided_maps(Rectified(torch.tanh), torch.zeros(1, 1, 2, 2), [torch.tensor([[0]])])
    with GuidedRectifiers() as mode:
        F.relu(torch.zeros(1))
    assert mode.count == 0  # nothing with a gradient


def test_grad_cam_without_feature_map_is_refused():
    with pytest.raises(InvalidInputError, match="Grad-CAM"):
        gradient_maps(Rectified(torch.tanh), torch.zeros(1, 1, 2, 2), [torch.tensor([[0]])], ["grad-cam"])


def test_methods_by_import(alexnet, inputs):
    maps = MethodSet(alexnet, ["captum:Saliency", "captum.attr:InputXGradient"]).maps(inputs, CONCEPTS, IDS)
    assert close(
        maps["captum.attr:InputXGradient"],
        MethodSet(alexnet, ["input-x-gradient"]).maps(inputs, CONCEPTS, IDS)["input-x-gradient"],
    )
    assert maps["captum:Saliency"].shape == (2, 2, SIZE, SIZE)


def test_coarse_maps_are_enlarged(alexnet, inputs):
    class Coarse:
        def attribute(self, inputs, target):
            return torch.ones(len(inputs), 1, 4, 4) * target.reshape(-1, 1, 1, 1)

    maps = MethodSet(alexnet, [], others={"coarse": Coarse()}).maps(inputs, CONCEPTS, IDS)["coarse"]
    assert maps.shape == (2, 2, SIZE, SIZE)
    assert maps[:, :, 0, 0].tolist() == [[1, 0], [4, 6]]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["clrp3"], "clrp3"),
        (["lrp-odd"], "lrp-odd"),
        ([], "no method"),
        (["captum:Nothing"], "cannot be made"),
        (["no.such.module:x"], "cannot be made"),
        (["torch.nn:Identity"], "without attribute"),
    ],
)
def test_unknown_methods_are_refused(alexnet, names, words):
    with pytest.raises(InvalidInputError, match=words):
        MethodSet(alexnet, names)


def test_a_method_that_returns_no_map_is_refused(alexnet, inputs):
    class Wrong:
        def attribute(self, inputs, target):
            return torch.zeros(3)

    with pytest.raises(InvalidInputError, match=r"wrong returned Tensor \(3,\)"):
        MethodSet(alexnet, [], others={"wrong": Wrong()}).maps(inputs, CONCEPTS, IDS)


@pytest.mark.parametrize(
    "name",
    ["Occlusion", "FeatureAblation", "DeepLiftShap", "GradientShap", "KernelShap", "Lime", "ShapleyValueSampling"],
)
@pytest.mark.filterwarnings("ignore")
def test_attributions_of_captum_get_what_they_need(name, alexnet, inputs):
    torch.manual_seed(0)
    small = Classifier(
        "small",
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 7)).eval(),
        Geometry(16, (16, 16)),
        (0.5,) * 3,
        (0.5,) * 3,
    )
    (found,) = MethodSet(small, [f"captum:{name}"]).maps(inputs[:, :, :16, :16], CONCEPTS, IDS).values()
    assert found.shape == (2, 2, 16, 16)
    assert found.isfinite().all()


def test_an_attribution_of_a_layer_takes_the_layer_and_failures_are_one_line(alexnet, inputs):
    (found,) = (
        MethodSet(alexnet, ["captum:LayerGradCam"], layer=alexnet.model.avgpool).maps(inputs, CONCEPTS, IDS).values()
    )
    assert found.shape == (2, 2, SIZE, SIZE)
    with pytest.raises(InvalidInputError, match="explains a layer.*--cam-layer"):
        MethodSet(alexnet, ["captum:LayerGradCam"])
    with pytest.raises(InvalidInputError, match="captum:NoiseTunnel cannot be made"):
        MethodSet(alexnet, ["captum:NoiseTunnel"])
