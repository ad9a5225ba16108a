"""Relevance at a hidden layer: the layer variants, after Captum's ``LayerLRP``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captum_clrp._captum import LayerAttribution, TargetType, TensorOrTupleOfTensorsGeneric, log_usage
from captum_clrp._propagation import Place
from captum_clrp.attribution import (
    ContrastiveLRP,
    ContrastiveLRP1,
    ContrastiveLRP2,
    InitialRelevance,
    LRPZBeta,
)
from captum_clrp.bounds import BoundType

__all__ = ["LayerContrastiveLRP1", "LayerContrastiveLRP2", "LayerLRPZBeta"]


class LayerLRPZBeta(LRPZBeta, LayerAttribution):
    """Relevance of a layer's output or input for the score of a target (see :class:`captum_clrp.LRPZBeta`).

    Args:
        model: As for :class:`captum_clrp.LRPZBeta`.
        layer: A module of ``model`` that runs once in its forward pass.
        low, high, avg_pool, conserve: As for :class:`captum_clrp.LRPZBeta`.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        low: BoundType = None,
        high: BoundType = None,
        *,
        avg_pool: str = "proportional",
        conserve: bool = False,
    ) -> None:
        super().__init__(model, low, high, avg_pool=avg_pool, conserve=conserve)
        self.layer = layer
        self._at_input = False
