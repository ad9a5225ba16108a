"""Compared methods that come from elsewhere and need a word more than their name."""

from __future__ import annotations

from typing import Any

import torch
from captum import attr
from torch import Tensor, nn

__all__ = ["IntegratedGradients", "SmoothGrad", "ZennitEpsilonPlus"]


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
