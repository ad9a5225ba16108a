"""Compared methods that come from elsewhere, or join two maps, and need a word more than their name."""

from __future__ import annotations

from typing import Any

import torch
from captum import attr
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP1, LRPZBeta

__all__ = ["Gated", "GeometricMean", "IntegratedGradients", "SmoothGrad", "ZennitEpsilonPlus"]


class _BothMaps:
    """What is made of LRP's map and the whole contrast's, without a strength that somebody has to choose."""

    def __init__(self, model: nn.Module) -> None:
        self.methods = LRPZBeta(model, -1.0, 1.0), ContrastiveLRP1(model, -1.0, 1.0)  # pixels of EfficientNet-Lite

    def of_places(self, inputs: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """Sizes of LRP and contrast at each place, ``(N, 1, H, W)``."""
        lrp, contrast = (m.attribute(inputs, target).sum(1, keepdim=True) for m in self.methods)
        return lrp.abs(), contrast.clamp(min=0)  # a negative score has a negative map of LRP


class Gated(_BothMaps):
    """LRP where the whole contrast is positive, nothing elsewhere: the contrast chooses, LRP says how much."""

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        lrp, contrast = self.of_places(inputs, target)
        return lrp * (contrast > 0)


class GeometricMean(_BothMaps):
    """The geometric mean of LRP and the whole contrast at each place."""

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        lrp, contrast = self.of_places(inputs, target)
        return (lrp * contrast).sqrt()


class IntegratedGradients:
    """Integrated gradients (Sundararajan et al. 2017) from black, by Captum; few images at a time, for scenes are large."""

    def __init__(self, model: nn.Module) -> None:
        self.gradients = attr.IntegratedGradients(model)

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        black = torch.full_like(inputs, float(inputs.min()))
        return self.gradients.attribute(inputs, black, target, n_steps=24, internal_batch_size=4)


class SmoothGrad:
    """Mean of gradients over noisy copies (Smilkov et al. 2017), by Captum; noise of 0.15 of the range of pixels."""

    def __init__(self, model: nn.Module) -> None:
        self.tunnel = attr.NoiseTunnel(attr.Saliency(model))

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            spread = 0.15 * float(inputs.max() - inputs.min())
            smooth = self.tunnel.attribute(
                inputs,
                nt_type="smoothgrad",
                nt_samples=16,
                nt_samples_batch_size=4,
                stdevs=spread,
                target=target,
                abs=False,
            )
        return smooth.abs()


class ZennitEpsilonPlus:
    """Zennit's composite EpsilonPlus as it comes: epsilon in fully connected layers, z+ in convolutions."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        from zennit.composites import EpsilonPlus

        x = inputs.detach().clone().requires_grad_()
        with EpsilonPlus().context(self.model) as model:
            output = model(x)
            chosen = torch.nn.functional.one_hot(torch.as_tensor(target), output.shape[1])
            (relevance,) = torch.autograd.grad(output, x, chosen * output.detach().abs())
        return relevance
