"""The methods that are compared, by name, and their maps for several classes of the same images.

Methods of one family share the forward pass: LRP with its contrasts, and the plain gradient methods. A map is
``(H, W)``: relevance is summed over the colour channels; gradients as ``methods/gradients.py``
says. To add a family, add a file here with a subclass of :class:`~captum_clrp.evaluation.methods.base.Family`.
"""

from captum_clrp.evaluation.methods.base import FAMILIES, Concept, Family, Setting, image_seed
from captum_clrp.evaluation.methods.sets import MethodSet, check_methods, takes_layer
from captum_clrp.evaluation.registry import import_all

__all__ = [
    "FAMILIES",
    "METHODS",
    "Concept",
    "Family",
    "MethodSet",
    "Setting",
    "check_methods",
    "image_seed",
    "takes_layer",
]

import_all(__name__)

METHODS: tuple[str, ...] = tuple(name for family in FAMILIES for name in family.offers)
"""All methods that need no further word. ``lrp``, ``clrp1`` and ``clrp2`` also take a composite (``-paper``, ``-gamma``, ...),
then ``-even`` (the paper's average pooling), ``-conserve`` and ``-bfloat16``; ``captum:NAME`` is an attribution of Captum,
``PACKAGE.MODULE:NAME`` a function (or class) from the model to any object with Captum's ``attribute``."""
