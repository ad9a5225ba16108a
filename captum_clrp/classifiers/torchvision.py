"""Classifiers of torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torchvision
from torch import nn
from torchvision.models import get_model

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

# Builders whose published weights need other arguments than the builder's own defaults.
_BUILT_WITH: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


def names() -> list[str]:
    """All classifiers of torchvision."""
    return list(torchvision.models.list_models(module=torchvision.models))


def has(name: str) -> bool:
    """Whether torchvision has a classifier of this ``name``."""
    return name in names()


def load(name: str, weights: str | None) -> Found:
    """A classifier of torchvision, on the CPU; see :func:`captum_clrp.classifiers.load_classifier`."""
    published = torchvision.models.get_model_weights(name)
    entry = published.DEFAULT
    build = partial(get_model, name, weights=None, **_BUILT_WITH.get(name, {}))
    if weights == RANDOM:
        model, source = seeded(build), RANDOM
    else:
        path = local_file(weights)
        if path is None:
            entry = _published_entry(published, name, weights)
            path, source = fetch(entry.url, what=str(entry)), str(entry)
        else:
            source = str(path)
            # A file that kept its published name says which of several preprocessings belongs to it.
            entry = next((e for e in published if e.url.rpartition("/")[2] == path.name), entry)
        model = _fill(build, path, name)
    return Found(name, model, source, _preprocessing(entry), tuple(entry.meta["categories"]))


def preprocessing(name: str) -> Preprocessing:
    """What pictures go through for a network's recommended weights."""
    return _preprocessing(torchvision.models.get_model_weights(name).DEFAULT)


def _preprocessing(entry: Any) -> Preprocessing:
    preset = entry.transforms()
    plain = entry.transforms(mean=(0.0,) * 3, std=(1.0,) * 3)
    return Preprocessing(plain, tuple(preset.mean), tuple(preset.std))


def _published_entry(published: Any, name: str, weights: str | None) -> Any:
    wanted = (weights or DEFAULT).rpartition(".")[2]
    if wanted == DEFAULT:
        return published.DEFAULT
    known = {entry.name: entry for entry in published}
    if wanted in known:
        return known[wanted]
    raise no_such_weights(name, weights, known)


def _fill(build: Callable[..., nn.Module], path: Path, name: str) -> nn.Module:
    """Build a network and load the weights of a file into it, with as many outputs as these have."""
    model = build()
    own = model.state_dict()
    # The published files of DenseNet still spell layer names with a dot.
    spelled = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", k): v for k, v in read_state_dict(path).items()}
    state = fitted(spelled, own, path)
    resized = {k for k, v in state.items() if k in own and v.shape != own[k].shape}
    sizes = {state[k].shape[0] for k in resized if state[k].dim() and state[k].shape[1:] == own[k].shape[1:]}
    try:
        if len(sizes) == 1:  # only the output layer differs: the network was trained on other classes
            model = build(num_classes=sizes.pop())
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise misfit(path, name, spelled, own, error) from error
    return model
