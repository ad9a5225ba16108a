"""Relevance by name against our own classes one by one."""

import pytest
import torch
from helpers.concepts import CONCEPTS, IDS

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.evaluation import MethodSet


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
