"""The only file that imports Captum's private modules: a new Captum release means one edit, here."""

from captum._utils.common import _format_additional_forward_args as format_additional_forward_args
from captum._utils.common import _format_output as format_output
from captum._utils.common import _format_tensor_into_tuples as format_tensor_into_tuples
from captum._utils.common import _is_tuple as is_tuple
from captum._utils.common import _select_targets as select_targets
from captum._utils.typing import TargetType, TensorOrTupleOfTensorsGeneric
from captum.attr._core.lrp import LRP
from captum.attr._utils.attribution import GradientAttribution, InternalAttribution, LayerAttribution, NeuronAttribution
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule, PropagationRule
from captum.log import log_usage

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
    "format_tensor_into_tuples",
    "is_tuple",
    "log_usage",
    "select_targets",
]
