"""What the outputs of classifiers are called."""

from __future__ import annotations

import functools
from importlib import resources

from torchvision.models import VGG16_Weights

__all__ = ["imagenet_class_names", "imagenet_wnids"]


def imagenet_class_names() -> tuple[str, ...]:
    """The names of the 1000 ILSVRC2012 classes in the order of the networks' outputs."""
    return tuple(VGG16_Weights.DEFAULT.meta["categories"])


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet numbers of the 1000 ILSVRC2012 classes in the order of the networks' outputs."""
    return tuple((resources.files("captum_clrp") / "data" / "ilsvrc2012_wnids.txt").read_text().split())
