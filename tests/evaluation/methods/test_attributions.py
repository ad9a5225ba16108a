"""Attributions of Captum and from elsewhere."""

import pytest
import torch
from helpers.concepts import CONCEPTS, IDS, SIZE, close
from torch import nn

from captum_clrp.classifiers import Classifier
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import Geometry, MethodSet


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
    with pytest.raises(InvalidInputError, match="^the method captum:LayerGradCam explains a layer.*--cam-layer"):
        MethodSet(alexnet, ["captum:LayerGradCam"])
    with pytest.raises(InvalidInputError, match="captum:NoiseTunnel cannot be made"):
        MethodSet(alexnet, ["captum:NoiseTunnel"])
