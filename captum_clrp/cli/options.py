"""Options that several commands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from captum_clrp.cli.errors import CommandError
from captum_clrp.errors import ClassifierError, InvalidInputError, nearest

if TYPE_CHECKING:
    from torch import nn

    from captum_clrp.classifiers import Classifier

N = TypeVar("N", int, float)

DEFAULT_MODEL = "tf_efficientnet_lite0"
_LONGEST_SIDE = 4096


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which network explains or is evaluated, for every command that needs one."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="a classifier of torchvision or timm (timm/NAME if both have it), or PACKAGE.MODULE:NAME for your own: a "
        "torch.nn.Module or a function that returns one, installed or in the current folder (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        metavar="NAME|FILE",
        help="published weights by name (DEFAULT, IMAGENET1K_V1, a timm tag), a state dict or checkpoint file (.pth, .ckpt, "
        ".safetensors), or random (default: the library's DEFAULT, or what your own network has)",
    )
    group.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    group.add_argument("--labels", metavar="FILE", help="text file with the name of an output in each line")
    group.add_argument(
        "--preprocessing",
        metavar="NAME",
        help="prepare pictures as for this network of torchvision or timm (default: as for --model)",
    )
    for name, what in (("mean", "mean"), ("std", "standard deviation")):
        group.add_argument(
            f"--{name}",
            type=_numbers,
            metavar="A[,B,C]",
            help=f"{what} of each channel, for pixels in [0, 1] (default: of the preprocessing)",
        )
    group.add_argument(
        "--size",
        type=_sides,
        metavar="N[,M]",
        help="pixels of the shorter side, or height and width, after resizing (default: of the preprocessing)",
    )
    group.add_argument(
        "--crop",
        type=_sides,
        metavar="N[,M]",
        help="pixels of the square, or height and width, that is cut from the middle (default: of the preprocessing)",
    )


def add_cam_layer(parser: Any) -> None:
    """The option that names the layer of methods that look at one."""
    parser.add_argument(
        "--cam-layer",
        metavar="MODULE",
        help="grad-cam and attributions of layers: name of a module (default: the last feature map)",
    )


def check_cam_layer(name: str | None, methods: Sequence[str]) -> None:
    """Refuse ``--cam-layer`` where it makes no difference.

    Args:
        name: What was given.
        methods: Methods of :data:`captum_clrp.evaluation.METHODS` that were asked for.

    Raises:
        CommandError: if none of them looks at a layer.
    """
    if name is None:
        return
    if methods:  # explain without them runs without the extra eval
        from captum_clrp.evaluation.methods import takes_layer

        if any(map(takes_layer, methods)):
            return
    raise CommandError("--cam-layer is for grad-cam and attributions of layers, and none of the methods is one")


def module_named(network: Classifier, name: str) -> nn.Module:
    """The module that ``--cam-layer`` names.

    Raises:
        CommandError: if the network has none of that name.
    """
    modules = dict(network.model.named_modules())
    if name not in modules:
        close = nearest(name, modules) or list(modules)[-5:]
        raise CommandError(f"--cam-layer: {network.name} has no module {name!r}; it has {', '.join(close)} and others")
    return modules[name]


def default_device() -> str:
    """The device to compute on when none is asked for."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def asked_classifier(options: argparse.Namespace, device: str) -> Classifier:
    """The classifier that the options ask for.

    Raises:
        CommandError: if it cannot be had; it names the option.
    """
    from captum_clrp.classifiers import load_classifier, read_class_names

    try:
        return load_classifier(
            options.model,
            options.weights,
            device,
            class_names=None if options.labels is None else read_class_names(options.labels),
            preprocessing=options.preprocessing,
            mean=options.mean,
            std=options.std,
            size=options.size,
            crop=options.crop,
        )
    except ClassifierError as error:
        raise CommandError(f"--{_OPTIONS.get(error.argument, error.argument)}: {error}") from error


_OPTIONS = {"name": "model", "class_names": "labels"}
"""Arguments of :func:`captum_clrp.classifiers.load_classifier` whose options are called otherwise."""


def number(kind: Callable[[str], N], what: str, least: float, most: float = math.inf) -> Callable[[str], N]:
    """What reads a number within limits.

    Args:
        kind: ``int`` or ``float``.
        what: What another text is not, for the message.
        least: The smallest number.
        most: The largest.
    """

    def read(text: str) -> N:
        try:
            found = kind(text)
        except ValueError:
            found = kind("-1")
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is {what}")
        return found

    return read


def value_range(text: str) -> tuple[float, float]:
    """Two numbers, the first lower than the second."""
    from captum_clrp.images import read_range

    try:
        return read_range(text)
    except InvalidInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} holds something else than numbers, separated by commas")
    return values


def _sides(text: str) -> int | tuple[int, int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or min(values) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels (224) or height and width (224,320)")
    if max(values) > _LONGEST_SIDE:
        raise argparse.ArgumentTypeError(
            f"{text} pixels would fill the memory; networks see a few hundred a side, and {_LONGEST_SIDE} are the most"
        )
    return values[0] if len(values) == 1 else (values[0], values[1])
