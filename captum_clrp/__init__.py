"""Contrastive Layer-wise Relevance Propagation (Gu, Yang, Tresp, ACCV 2018) for Captum."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_clrp.attribution import ContrastiveLRP, ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
    from captum_clrp.bounds import bounds_from_transform, normalized_bounds
    from captum_clrp.composites import Composite
    from captum_clrp.contrast import (
        DualConcept,
        NearestRivals,
        NegatedWeights,
        OtherClasses,
        OtherLogits,
        SoftmaxGradient,
        TheseClasses,
    )
    from captum_clrp.engine.weight_cache import weights_at_rest
    from captum_clrp.errors import (
        ClassifierError,
        ContrastiveLRPError,
        InvalidInputError,
        InvalidTargetError,
        ModelStateError,
        UnsupportedOperationError,
    )
    from captum_clrp.inspection import check_conservation, explain_plan
    from captum_clrp.layer import LayerContrastiveLRP, LayerContrastiveLRP1, LayerContrastiveLRP2, LayerLRPZBeta
    from captum_clrp.neuron import NeuronContrastiveLRP2, NeuronLRPZBeta
    from captum_clrp.targets import class_scores

__version__ = "0.1.0"

__all__ = [
    "ClassifierError",
    "Composite",
    "ContrastiveLRP",
    "ContrastiveLRP1",
    "ContrastiveLRP2",
    "ContrastiveLRPError",
    "DualConcept",
    "InvalidInputError",
    "InvalidTargetError",
    "LRPZBeta",
    "LayerContrastiveLRP",
    "LayerContrastiveLRP1",
    "LayerContrastiveLRP2",
    "LayerLRPZBeta",
    "ModelStateError",
    "NearestRivals",
    "NegatedWeights",
    "NeuronContrastiveLRP2",
    "NeuronLRPZBeta",
    "OtherClasses",
    "OtherLogits",
    "SoftmaxGradient",
    "TheseClasses",
    "UnsupportedOperationError",
    "__version__",
    "bounds_from_transform",
    "check_conservation",
    "class_scores",
    "explain_plan",
    "normalized_bounds",
    "weights_at_rest",
]

_HOMES = {
    "attribution": "ContrastiveLRP ContrastiveLRP1 ContrastiveLRP2 LRPZBeta",
    "bounds": "bounds_from_transform normalized_bounds",
    "composites": "Composite",
    "contrast": "DualConcept NearestRivals NegatedWeights OtherClasses OtherLogits SoftmaxGradient TheseClasses",
    "engine.weight_cache": "weights_at_rest",
    "errors": "ClassifierError ContrastiveLRPError InvalidInputError InvalidTargetError ModelStateError UnsupportedOperationError",
    "inspection": "check_conservation explain_plan",
    "layer": "LayerContrastiveLRP LayerContrastiveLRP1 LayerContrastiveLRP2 LayerLRPZBeta",
    "neuron": "NeuronContrastiveLRP2 NeuronLRPZBeta",
    "targets": "class_scores",
}
"""The module of each public name. It is imported when the name is first used: the command answers ``--help`` without torch."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    if name in (*_HOMES, "rules"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
