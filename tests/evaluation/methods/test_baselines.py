"""Maps that look at no network."""

import pytest
import torch
from helpers.concepts import CONCEPTS

from captum_clrp.evaluation import MethodSet


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
