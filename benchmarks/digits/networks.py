"""The networks of this benchmark, by name: small, with one input channel, 16x16 pixels and ten outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from timm.models.mobilevit import MobileVitBlock
from timm.models.vision_transformer import Block
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn
from torchvision.models import MobileNetV2, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.ops import Permute

from benchmarks.digits.collages import CLASSES, SIZE


def build(name: str) -> nn.Module:
    """A network with random weights.

    Raises:
        ValueError: for a name that is not in :data:`NETWORKS`.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]()


def _convolutions(
    normalisation: Callable[[int], nn.Module],
    activation: Callable[[], nn.Module] = nn.ReLU,
    widths: tuple[int, ...] = (1, 32, 32, 64, 64, 128),
    last: nn.Module | None = None,
) -> nn.Sequential:
    """3x3 convolutions, each with normalisation and activation, and a maximum over 2x2 pixels after each two of them.

    ``last`` stands in place of the last activation, in front of the mean.
    """
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        if i in (2, 4):
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(before, after, 3, padding=1), normalisation(after), activation()]
    if last is not None:
        layers[-1] = last
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES))


def _channels_first(width: int) -> nn.Module:
    """Layer norm over the channels of an image."""
    return nn.Sequential(Permute([0, 2, 3, 1]), nn.LayerNorm(width), Permute([0, 3, 1, 2]))


def _layer_norm_first() -> nn.Module:
    """A layer norm between the first convolution and a plain network of convolutions and ReLU."""
    body = _convolutions(lambda _: nn.Identity(), widths=(32, 32, 32, 64, 64, 128))
    return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), _channels_first(32), body)


def _convnext() -> nn.Module:
    network = ConvNeXt([CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)], layer_scale=0.1, num_classes=CLASSES)
    network.features[0][0] = nn.Conv2d(1, 32, 2, 2)
    return network


def _convnext_rectified() -> nn.Module:
    """ConvNeXt with an activation in front of the mean, and no layer norm behind it."""
    network = _convnext()
    network.features.append(nn.Sequential(nn.BatchNorm2d(64), nn.ReLU()))
    network.classifier[0] = nn.Identity()
    return network


class _ConvNeXtBlock(nn.Module):
    """ConvNeXt's block with a batch norm in place of the layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 4 * width, 1),
            nn.GELU(),
            nn.Conv2d(4 * width, width, 1),
        )
        self.scale = nn.Parameter(torch.full((1, width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.branch(x)


def _convnext_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 2, 2),
        nn.BatchNorm2d(32),
        _ConvNeXtBlock(32),
        _ConvNeXtBlock(32),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 64, 2, 2),
        _ConvNeXtBlock(64),
        _ConvNeXtBlock(64),
        nn.AdaptiveAvgPool2d(1),
        nn.BatchNorm2d(64),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


class _PreActivationBlock(nn.Module):
    """He et al. 2016: normalisation and ReLU before each convolution, so that the residual stream has both signs."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
        )
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if stride > 1 or before != after else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(x)
        return self.branch(active) + (x if self.shortcut is None else self.shortcut(active))


def _pre_activation_resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        _PreActivationBlock(32, 32, 1),
        _PreActivationBlock(32, 64, 2),
        _PreActivationBlock(64, 64, 1),
        _PreActivationBlock(64, 96, 2),
        nn.BatchNorm2d(96),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, CLASSES),
    )


class _Hybrid(nn.Module):
    """Convolutions with batch norm, then transformer blocks on 4x4 tokens and their mean."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*[Block(width, num_heads=4, mlp_ratio=2.0, qkv_bias=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2) + self.position  # (N, 16, C)
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def _mobilevit() -> nn.Module:
    def convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]

    return nn.Sequential(
        *convolution(1, 32),
        *convolution(32, 48, 2),
        MobileVitBlock(48, patch_size=2, transformer_dim=64, transformer_depth=2, num_heads=4),
        *convolution(48, 64, 2),
        MobileVitBlock(64, patch_size=2, transformer_dim=64, transformer_depth=2, num_heads=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def _linear_bottlenecks() -> nn.Module:
    """Torchvision's MobileNetV2: a residual stream of both signs, then a convolution with ReLU6 in front of the mean."""
    network = MobileNetV2(CLASSES, inverted_residual_setting=[[1, 16, 1, 1], [4, 32, 2, 2], [4, 48, 3, 2]], dropout=0.0)
    network.features[0][0] = nn.Conv2d(1, 32, 3, padding=1, bias=False)
    last = network.features[-1]
    last[0], last[1] = nn.Conv2d(48, 128, 1, bias=False), nn.BatchNorm2d(128)
    network.classifier[1] = nn.Linear(128, CLASSES)
    return network


def _vit() -> nn.Module:
    """Torchvision's, with a class token."""
    network = VisionTransformer(
        image_size=SIZE, patch_size=4, num_layers=6, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=CLASSES
    )
    network.conv_proj = nn.Conv2d(1, 64, 4, 4)
    nn.init.trunc_normal_(network.conv_proj.weight, std=0.25)  # a patch has 16 values
    nn.init.trunc_normal_(network.heads.head.weight, std=0.05)  # torchvision starts with zeros
    return network


def _vit_mean() -> nn.Module:
    """timm's, without a class token: the mean over the tokens goes to the output layer."""
    return TimmVisionTransformer(
        img_size=SIZE,
        patch_size=4,
        in_chans=1,
        num_classes=CLASSES,
        embed_dim=64,
        depth=6,
        num_heads=4,
        mlp_ratio=2.0,
        class_token=False,
        global_pool="avg",
    )


def _swin() -> nn.Module:
    network = SwinTransformer(
        patch_size=[2, 2],
        embed_dim=48,
        depths=[2, 4],
        num_heads=[3, 6],
        window_size=[4, 4],
        mlp_ratio=2.0,
        num_classes=CLASSES,
        stochastic_depth_prob=0.0,
    )
    network.features[0][0] = nn.Conv2d(1, 48, 2, 2)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cnn-relu": lambda: _convolutions(nn.BatchNorm2d),
    "cnn-gelu": lambda: _convolutions(nn.BatchNorm2d, nn.GELU),
    "cnn-silu": lambda: _convolutions(nn.BatchNorm2d, nn.SiLU),
    "cnn-hardswish": lambda: _convolutions(nn.BatchNorm2d, nn.Hardswish),
    "convnext": _convnext,
    "hybrid": _Hybrid,
    "vit": _vit,
    "vit-mean": _vit_mean,
    "swin": _swin,
    # Networks between those: what decides which rules they need?
    "cnn-groupnorm": lambda: _convolutions(lambda width: nn.GroupNorm(8, width)),
    "convnext-batchnorm": _convnext_batch_norm,
    "layernorm-first": _layer_norm_first,
    "preact-resnet": _pre_activation_resnet,
    "mobilevit": _mobilevit,
    "cnn-elu": lambda: _convolutions(nn.BatchNorm2d, nn.ELU),
    "cnn-tanh": lambda: _convolutions(nn.BatchNorm2d, nn.Tanh),
    "cnn-linear-end": lambda: _convolutions(nn.BatchNorm2d, last=nn.Identity()),
    "convnext-rectified": _convnext_rectified,
    "linear-bottlenecks": _linear_bottlenecks,
}
"""Builders by name."""
