"""Baselines that need to know about attention: gradient times attention, and LXT's rules.

LXT is no dependency of the benchmarks, for its releases up to 2.1 need a ``transformers`` below 5 and several larger packages:
``pip install lxt "transformers<5"``. Without it, its rows are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.digits.scores import GRID, PATCH


def gradient_x_attention(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Attention weights times their positive gradient, rolled out (Chefer et al. 2021, "Generic Attention-model Explainability").

    In each layer the weights A of all heads become the mean over heads of max(0, A dy/dA), and R, which starts as the identity,
    becomes R + A R. What the class token has of each token in the end is the map. Without a class token it is the mean over all
    rows; the identity that R started with is taken off, for it would give the same to all tokens.

    Args:
        network: one whose attention mixes the 4x4 tokens of the image, with or without a class token in front, by
            ``scaled_dot_product_attention``.
        images: shape (M, 1, 16, 16).
        targets: shape (M,).

    Returns:
        Maps of shape (M, 1, 16, 16), one value in each patch.
    """
    images = images.detach().requires_grad_()
    with _recorded_attention() as layers:
        scores = network(images).gather(1, targets[:, None])
    tokens = layers[0].shape[-1]  # each layer: (M, heads, tokens, tokens)
    identity = torch.eye(tokens, dtype=images.dtype)
    rollout = identity.expand(len(images), -1, -1)
    for weights, gradient in zip(layers, torch.autograd.grad(scores.sum(), layers), strict=True):
        mixed = (weights * gradient).clamp(min=0).mean(1).detach()
        rollout = rollout + mixed @ rollout
    learned = rollout - identity
    extra = tokens - GRID**2  # a class token
    of_tokens = learned[:, 0, extra:] if extra else learned.mean(1)
    maps = of_tokens.reshape(-1, 1, GRID, GRID)
    return maps.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)


@contextmanager
def _recorded_attention() -> Iterator[list[Tensor]]:
    """Collect the attention weights of each ``scaled_dot_product_attention`` that runs, in order."""
    found: list[Tensor] = []

    def explicit(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
    ) -> Tensor:
        if attn_mask is not None or dropout_p or is_causal:
            raise NotImplementedError("gradient times attention is written for attention without masks and dropout")
        weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
        found.append(weights)
        return weights @ value

    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = explicit
    try:
        yield found
    finally:
        F.scaled_dot_product_attention = fused


def lxt(rules: Literal["cp-lrp", "attnlrp"]) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """LRP by LXT's own functions, for torchvision's ViT: gradient times input of a network whose modules LXT patches.

    For ``"cp-lrp"`` they are those of LXT's ``vit_torch.cp_LRP``. For ``"attnlrp"`` relevance reaches the query and the key as
    well: a quarter each of what attention gets and half for the values, which is how LXT patches attention of ``transformers``.

    Returns:
        A function from a network, images (M, C, H, W) and targets (M,) to maps (M, C, H, W).
    """

    def explain(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        scores = _patched_by_lxt(network, rules)(images).gather(1, targets[:, None])
        return images * torch.autograd.grad(scores.sum(), images)[0]

    return explain


def _patched_by_lxt(network: nn.Module, rules: str) -> nn.Module:
    """A copy; LXT itself would patch the classes, and with them every other network of the process."""
    from lxt.efficient import patches
    from lxt.efficient.rules import divide_gradient

    def attention(
        self: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: object, **options: object
    ) -> object:
        return self.original_forward(
            divide_gradient(query, 4), divide_gradient(key, 4), divide_gradient(value, 2), *args, **options
        )

    by_class = {
        nn.GELU: patches.non_linear_forward,
        nn.LayerNorm: patches.layer_norm_forward,
        nn.MultiheadAttention: patches.cp_multi_head_attention_forward if rules == "cp-lrp" else attention,
    }
    network = copy.deepcopy(network)
    for module in network.modules():
        for kind, forward in by_class.items():
            if isinstance(module, kind):
                module.original_forward = module.forward
                module.forward = MethodType(forward, module)
    return network
