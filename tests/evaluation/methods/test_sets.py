"""Methods together: what they share must not show."""

import copy
import dataclasses

import pytest
import torch
from captum.attr import InputXGradient
from helpers.concepts import CONCEPTS, IDS, close

from captum_clrp import ContrastiveLRP2
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import METHODS, MethodSet


def test_several_classes_are_explained_together(alexnet, inputs):
    """LRP of a set is the sum over its classes; gradients are those of the summed scores."""
    together = torch.tensor([[1, 3], [4, 5]])
    apart = [together[:, :1], together[:, 1:]]
    methods = MethodSet(alexnet, ["lrp", "input-x-gradient"], others={"captum": InputXGradient(alexnet.model)})
    one, two = methods.maps(inputs, [together], IDS), methods.maps(inputs, apart, IDS)
    for name in ("lrp", "input-x-gradient", "captum"):
        assert close(one[name][:, 0], two[name].sum(1))
    assert close(one["input-x-gradient"], one["captum"])


def test_the_contrast_of_several_classes_is_that_of_their_sum(alexnet, inputs):
    """In double precision: a contrast of a network with random weights is a small difference of nearly equal relevance."""
    together = torch.tensor([[1, 3], [4, 5]])
    double = dataclasses.replace(alexnet, model=copy.deepcopy(alexnet.model).double())
    low, high = (bound.double() for bound in alexnet.bounds)
    one = MethodSet(double, ["clrp2"]).maps(inputs.double(), [together], IDS)["clrp2"]
    explainer = ContrastiveLRP2(double.model, low, high)
    signed = explainer.attribute_classes(inputs.double(), together, relu_attributions=False)
    assert close(one[:, 0], signed.sum(1).clamp(min=0).sum(1), 1e-9)


def test_the_forward_pass_is_shared(alexnet, inputs):
    passes = []
    handle = alexnet.model.register_forward_hook(lambda *_: passes.append(1))
    try:
        MethodSet(alexnet, METHODS).maps(inputs, CONCEPTS, IDS)
    finally:
        handle.remove()
    assert len(passes) == 3  # gradients; guided backprop; LRP, CLRP1 and CLRP2


def test_the_model_is_as_before(alexnet, inputs):
    before = {k: v.clone() for k, v in alexnet.model.state_dict().items()}
    MethodSet(alexnet, METHODS).maps(inputs, CONCEPTS, IDS)
    assert all(torch.equal(v, before[k]) for k, v in alexnet.model.state_dict().items())
    for module in alexnet.model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(p.requires_grad and p.grad is None for p in alexnet.model.parameters())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["clrp3"], "clrp3"),
        (["gradcam"], r"unknown method 'gradcam'; did you mean grad-cam\? choose from"),
        (["lrp-odd"], "lrp-odd"),
        ([], "no method"),
        (["captum:Nothing"], "cannot be made"),
        (["captum:saliency"], "did you mean Saliency[?]"),
        (["no.such.module:x"], "cannot be made"),
        (["torch.nn:Identity"], "without attribute"),
    ],
)
def test_unknown_methods_are_refused(alexnet, names, words):
    with pytest.raises(InvalidInputError, match=words):
        MethodSet(alexnet, names)
