"""The only file that imports Captum's private modules: a new Captum release means one edit, here.

Captum ships no marker of types (``py.typed``), so that to type checkers all that comes from it is ``Any``. What stands in our
signatures is therefore said here once more.
"""

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex, TypeVar

from captum._utils.common import _format_additional_forward_args as format_additional_forward_args
from captum._utils.common import _format_output as format_output
from captum._utils.common import _is_tuple as is_tuple
from captum._utils.common import _select_targets as select_targets
from captum.attr._core.lrp import LRP
from captum.attr._utils.attribution import GradientAttribution, InternalAttribution, LayerAttribution, NeuronAttribution
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule, PropagationRule
from captum.log import log_usage as captums_log_usage
from torch import Tensor

__all__ = [
    "LRP",
    "Alpha1_Beta0_Rule",
    "EpsilonRule",
    "GammaRule",
    "GradientAttribution",
    "IdentityRule",
    "InternalAttribution",
    "LayerAttribution",
    "NeuronAttribution",
    "PropagationRule",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "format_additional_forward_args",
    "format_output",
    "is_tuple",
    "log_usage",
    "select_targets",
]

TensorOrTupleOfTensorsGeneric = TypeVar("TensorOrTupleOfTensorsGeneric", Tensor, tuple[Tensor, ...])
TargetType = SupportsIndex | tuple[Any, ...] | Sequence[SupportsIndex] | Sequence[tuple[SupportsIndex, ...]] | None
"""Tensors, and NumPy's integers and arrays, have an ``__index__``; a tuple may begin with names of outputs."""

Call = TypeVar("Call", bound=Callable[..., Any])


def log_usage(*, part_of_slo: bool = False) -> Callable[[Call], Call]:
    """Captum's decorator of public calls, which leaves their signature."""
    decorator: Callable[[Call], Call] = captums_log_usage(part_of_slo=part_of_slo)
    return decorator
