"""Contrastive Layer-wise Relevance Propagation (Gu, Yang, Tresp, ACCV 2018) for Captum."""

from captum_clrp.attribution import ContrastiveLRP, ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.bounds import bounds_from_transform, normalized_bounds
from captum_clrp.contrast import (
    DualConcept,
    NegatedWeights,
    OtherClasses,
    OtherLogits,
    SoftmaxGradient,
    TheseClasses,
    class_scores,
)

__version__ = "0.1.0"

__all__ = [
    "ContrastiveLRP",
    "ContrastiveLRP1",
    "ContrastiveLRP2",
    "DualConcept",
    "LRPZBeta",
    "NegatedWeights",
    "OtherClasses",
    "OtherLogits",
    "SoftmaxGradient",
    "TheseClasses",
    "__version__",
    "bounds_from_transform",
    "class_scores",
    "normalized_bounds",
]
