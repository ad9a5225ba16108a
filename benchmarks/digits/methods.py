"""The maps that are compared: this package's with each set of rules, and baselines."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from captum.attr import InputXGradient, IntegratedGradients, Occlusion, Saliency
from torch import Tensor, nn

from benchmarks.digits import attention
from benchmarks.digits.collages import BACKGROUND, INK
from benchmarks.digits.scores import PATCH
from captum_clrp import ContrastiveLRP, ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.composites import COMPOSITES, Composite
from captum_clrp.rules import Epsilon, Gamma, ZPlus

OURS: dict[str, type[LRPZBeta]] = {"LRP": LRPZBeta, "CLRP1": ContrastiveLRP1, "CLRP2": ContrastiveLRP2}

RULES = ("auto", *COMPOSITES)

EARLY = "gamma, z+ in early layers"
TRIED: dict[str, Composite] = {
    "paper, means by sign": dataclasses.replace(COMPOSITES["paper"], means=Gamma(0.1)),
    "gamma 0.05 throughout": Composite.gamma(0.05, convolution=0.05),
    "gamma 0.1 throughout": Composite.gamma(0.1, convolution=0.1),
    "gamma 0.25 throughout": Composite.gamma(0.25),
    **{
        f"gamma, {kind} 0.25": Composite.gamma(**{kind: 0.25})
        for kind in ("linear", "mixing", "sums", "means", "centring")
    },
    **{f"gamma, {kind} 1": Composite.gamma(**{kind: 1.0}) for kind in ("sums", "means")},
    "gamma, sums and means 1": Composite.gamma(sums=1.0, means=1.0),
    "gamma, batch norm and position take their share": dataclasses.replace(
        COMPOSITES["gamma"], shifts=Epsilon(1e-9, bias=True)
    ),
    "gamma, Taylor softmax": dataclasses.replace(COMPOSITES["gamma"], softmax="taylor"),
    EARLY: COMPOSITES["gamma"],
}
"""What was tried besides the composites that have a name."""


def _with_early_zplus(network: nn.Module) -> nn.Module:
    """A copy that has z+ in the first half of its weighted modules, whatever the composite."""
    network = copy.deepcopy(network)
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for module in weighted[1 : len(weighted) // 2]:  # the first one keeps z^beta
        module.rule = ZPlus()
    return network


def relevance(method: str, rules: str, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Signed maps of one of :data:`OURS`, shape (M, 16, 16), for images of shape (M, 1, 16, 16) and targets of shape (M,).

    The contrastive maps are not cut off at zero, so that a patch can weigh what speaks for the target against what speaks for its
    rivals. Cut off at zero, their pixels are the maps of the paper.
    """
    if rules == EARLY:
        network = _with_early_zplus(network)
    explainer = OURS[method](network, BACKGROUND, INK, rules=TRIED.get(rules, rules))
    signed = {"relu_attributions": False} if isinstance(explainer, ContrastiveLRP) else {}
    return explainer.attribute(images, target=targets, **signed)[:, 0]


Baseline = Callable[[nn.Module, Tensor, Tensor], Tensor]


def _random(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return torch.rand(images.shape, generator=torch.Generator().manual_seed(0))


def _saliency(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return Saliency(network).attribute(images.requires_grad_(), target=targets)


def _input_x_gradient(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return InputXGradient(network).attribute(images.requires_grad_(), target=targets)


def _integrated_gradients(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return IntegratedGradients(network).attribute(images, BACKGROUND, targets, n_steps=32, internal_batch_size=640)


def _occlusion(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    window = (1, PATCH, PATCH)
    return Occlusion(network).attribute(images, window, window, BACKGROUND, targets, perturbations_per_eval=4)


BASELINES: dict[str, Baseline] = {
    "random": _random,
    "saliency": _saliency,
    "input x gradient": _input_x_gradient,
    "integrated gradients": _integrated_gradients,
    "occlusion of patches": _occlusion,
    "gradient x attention": attention.gradient_x_attention,
    "LXT CP-LRP": attention.lxt("cp-lrp"),
    "LXT AttnLRP": attention.lxt("attnlrp"),
}

ONLY_FOR = {"gradient x attention": ("hybrid", "vit", "vit-mean"), "LXT CP-LRP": ("vit",), "LXT AttnLRP": ("vit",)}
"""Networks of baselines that are not for all of them."""

UNDEFINED = {"gradient x attention": ("swin", "mobilevit")}
"""Networks that have attention, but in windows or patches, so that there is no matrix from all tokens to all."""


def baseline(name: str, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Maps of one of :data:`BASELINES`, shape (M, 16, 16); arguments as those of :func:`relevance`."""
    return BASELINES[name](network, images.detach().clone(), targets).detach()[:, 0].float()
