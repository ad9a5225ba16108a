"""The methods that are compared."""

from captum_clrp.evaluation.methods.base import METHODS, Concept, MethodSet, check_methods, image_seed

__all__ = ["METHODS", "Concept", "MethodSet", "check_methods", "image_seed"]
