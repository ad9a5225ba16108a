"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from captum_clrp.cli.errors import CommandError
from captum_clrp.errors import ClassifierError

if TYPE_CHECKING:
    from captum_clrp.classifiers import Classifier

__all__ = ["DEFAULT_MODEL", "add_model_options", "asked_classifier", "default_device"]

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


_OPTIONS = {"name": "--model", "weights": "--weights", "device": "--device"}
"""Which option gives which argument of :func:`captum_clrp.classifiers.load_classifier`."""


def asked_classifier(options: argparse.Namespace, device: str) -> Classifier:
    """The classifier that the options ask for.

    Raises:
        CommandError: if it cannot be had; it names the option.
    """
    from captum_clrp.classifiers import load_classifier

    try:
        return load_classifier(options.model, options.weights, device)
    except ClassifierError as error:
        raise CommandError(f"{_OPTIONS[error.argument]}: {error}") from error
