"""Options that several commands share."""

from __future__ import annotations

import argparse

__all__ = ["DEFAULT_MODEL", "add_model_options", "default_device"]

DEFAULT_MODEL = "tf_efficientnet_lite0"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which network explains or is evaluated, for every command that needs one."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="a classifier of torchvision or timm, if need be as timm/NAME (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        metavar="NAME|FILE",
        help="published weights by name (DEFAULT, IMAGENET1K_V1, a timm tag), a state dict file (.pth, .safetensors), "
        "or random (default: the library's DEFAULT)",
    )
    group.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def default_device() -> str:
    """The device to compute on when none is asked for."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
