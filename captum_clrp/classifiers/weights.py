"""Weights: random ones, and those of files, which are found, fetched once and kept, and read without running any code they may carry."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pickle
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_clrp.errors import ClassifierError, warn

DEFAULT, RANDOM = "DEFAULT", "random"

_SUFFIXES = {".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar"}
_PATIENCE = 20.0
"""Seconds to wait for an answer from a server before saying that there is no network."""


def local_file(weights: str | None) -> Path | None:
    """The file that ``weights`` names, or ``None`` where it can only be a name of published weights.

    Raises:
        ClassifierError: if it is a path but no file is there.
    """
    if weights is None:
        return None
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ClassifierError(
            f"the weights {weights} are a folder; give the file in it that holds the state dict", "weights"
        )
    if path.suffix.lower() in _SUFFIXES or os.sep in weights:
        raise ClassifierError(
            f"there is no weights file {weights}; check the path (current folder: {Path.cwd()})", "weights"
        )
    return None


def fetch(url: str, what: str, saved_as: str | None = None) -> Path:
    """The published file behind ``url``, from torch's own cache or downloaded into it.

    The cache is the one of torchvision (``TORCH_HOME``), so that nothing is downloaded twice.

    Raises:
        ClassifierError: if it is not there and cannot be downloaded, with the way to go on without network.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / (saved_as or url.rpartition("/")[2])
    if path.is_file():
        return path
    digest = re.search(r"-([a-f0-9]{8,})\.[a-z]+$", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _patience(_PATIENCE):
            torch.hub.download_url_to_file(url, str(path), digest.group(1) if digest else None)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise ClassifierError(
            f"the weights {what} are not on this machine and could not be fetched ({reason}); without network, "
            f"download {url} elsewhere and give the path of the file instead",
            "weights",
        ) from error
    return path


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before if before is not None else seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of one that ``torch.save`` wrote, on the CPU, by name.

    What training scripts wrap around the state dict (``state_dict``, ``model_state_dict``, ``model``, ...) is taken
    off; of prefixes of its names see :func:`fitted`.

    Args:
        path: The file. No code that it holds is run, whatever it is.

    Raises:
        ClassifierError: if the file is damaged, or holds anything else than tensors and plain values.
    """
    try:
        content: Any
        if path.suffix.lower() == ".safetensors":
            content = _read_safetensors(path)
        else:
            with torch.serialization.safe_globals(_HARMLESS):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        refused = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
        what = f"it holds {refused[1]}, and reading that could run code" if refused else type(error).__name__
        raise ClassifierError(
            f"the weights file {path} cannot be read as plain tensors ({what}); it may be damaged, or "
            "hold a whole pickled model: save the weights alone with torch.save(model.state_dict(), FILE)",
            "weights",
        ) from error
    for _ in range(3):  # what is wrapped once more is no file of weights
        content = _wrapped(content) or content
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ClassifierError(
            f"the weights file {path} holds no state dict; save one with torch.save(model.state_dict(), FILE)",
            "weights",
        )
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _wrapped(content: Any) -> dict[str, Any] | None:
    """What a training script keeps beside its own state, such as that of the optimiser."""
    keys = _WRAPPERS if isinstance(content, dict) else ()
    return next((content[key] for key in keys if content.get(key) and isinstance(content[key], dict)), None)


_WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model_state", "model"),
    *("net_state_dict", "net", "network", "weights", "params"),
)
# What training scripts keep beside the weights: their options, paths, and numbers of numpy. Reading these runs nothing.
_NUMBERS = (np.float32(0), np.float64(0), np.int64(0))
_HARMLESS: list[Any] = [
    *(argparse.Namespace, type(Path()), np.dtype, np.float64(0).__reduce__()[0]),
    *(type(number.dtype) for number in _NUMBERS),
]


def fitted(state: dict[str, Tensor], own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A state dict under the names of the network that it is for.

    Wrappers put a prefix before every name (``module.``, ``model.`` of Lightning, ``_orig_mod.`` of ``torch.compile``),
    beside which there may be tensors that are not the network's (a loss, a second network). The network itself may be
    wrapped where the file is not.

    Args:
        state: As the file has it.
        own: The state dict of the network.
        path: The file, for what is said about it.

    Returns:
        With the network's prefix instead of the file's, and without what lies outside that; ``state`` as it is where no
        prefix makes all names fit.
    """
    spelled = {name.replace(_COMPILED, ""): name for name in own}
    needed = _needed(spelled)
    if not needed or {spelled[name] for name in needed} <= set(state):
        return state
    for read, before in itertools.product((state, _uncompiled(state)), _leading(needed)):
        found = _prefixes(read, {name.removeprefix(before) for name in needed})
        whole = [prefix for prefix, count in found.items() if count == len(needed)]
        if len(whole) > 1:
            warn(f"{path} holds the network {len(whole)} times, as {', '.join(whole)}; {whole[0]} is taken")
        if whole:
            common = _leading(needed)[-1]
            inside = _inside(read, whole[0] + common.removeprefix(before))
            return {spelled.get(common + name, common + name): value for name, value in inside.items()}
    return _inside(state, "module.") or state


_COMPILED = "_orig_mod."
"""What ``torch.compile`` puts into names, wherever the module lies that it compiled."""


def _uncompiled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(_COMPILED, ""): value for name, value in state.items()}


def _needed(own: Iterable[str]) -> set[str]:
    """The names that a file must have; files of old lack counters of batches, which change nothing."""
    return {name for name in own if not name.endswith("num_batches_tracked")}


def _leading(names: Iterable[str]) -> list[str]:
    """The prefixes that all names have, none of them being the first."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    parts = [level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels)]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts) + 1)]


def _prefixes(state: Iterable[str], names: set[str]) -> Counter[str]:
    """How many of ``names`` a file has behind each prefix."""
    places = ((name, place) for name in state for place in (0, *(m.end() for m in re.finditer(r"\.", name))))
    return Counter(name[:place] for name, place in places if name[place:] in names)


def _inside(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ClassifierError(
            f"reading {path} needs the package safetensors; run: pip install safetensors", "weights"
        ) from error
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` returns with the same random weights at every call; torch's generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def no_such_weights(name: str, weights: str | None, known: Iterable[str]) -> ClassifierError:
    """That ``weights`` is neither a file nor one of the ``known`` names."""
    return ClassifierError(
        f"{name} has no weights named {weights!r} and there is no such file; give the path of a file or one of: "
        + ", ".join([*known, DEFAULT, RANDOM]),
        "weights",
    )


def misfit(
    path: Path, name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor], error: Exception
) -> ClassifierError:
    """That the file's tensors are not those of the network, and how they differ.

    Args:
        path: The file.
        name: The network's name.
        state: As the file has it.
        own: The state dict of the network, as far as it could be made.
        error: What was said when the file was loaded, for what names and sizes do not show.
    """
    reason = _difference(state, own) or " ".join(str(error).split())[:200]
    return ClassifierError(
        f"{path} does not hold the weights of {name}: {reason}; give the file that belongs to this network, the name of the "
        "network that it belongs to, or save its tensors under the names that are expected: torch.save(STATE_DICT, FILE)",
        "weights",
    )


def _difference(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Which names a file lacks and has besides, or whose sizes differ; nothing if neither is the reason."""
    state, own = _uncompiled(state), _uncompiled(own)
    needed = _needed(own)
    # Of all ways to take off a prefix of the network's and one of the file's, the one by which most names fit.
    ways = [
        (count, before, prefix)
        for before in _leading(needed)
        for prefix, count in _prefixes(state, {name.removeprefix(before) for name in needed}).items()
    ]
    fitting, before, prefix = max(ways, key=lambda way: way[0], default=(0, "", ""))
    if not fitting:
        return f"it has none of the names that are expected ({_some(list(own))}), but {_some(list(state))}"
    inside = {before + name: value for name, value in _inside(state, prefix).items()}
    missing = [name for name in own if name in needed and name not in inside]
    others = [prefix + name.removeprefix(before) for name in inside if name not in own]
    outside = [name for name in state if not name.startswith(prefix)] if missing else []
    if missing or others:
        behind = f" behind the prefix {prefix!r}" if prefix else ""
        behind += f" without the prefix {before!r}" if before else ""
        told = [f"{fitting} of the {len(needed)} names that are expected are in it{behind}"]
        told += [f"missing: {_some(missing)}"] if missing else []
        told += [f"not of this network: {_some([*others, *outside])}"] if others or outside else []
        return "; ".join(told)
    # The output layer is made as large as the file's; what differs besides is the reason.
    unlike = [name for name in own if name in needed and inside[name].shape != own[name].shape]
    unlike = [name for name in unlike if inside[name].shape[1:] != own[name].shape[1:]] or unlike
    return ", ".join(f"{name} is {tuple(inside[name].shape)}, not {tuple(own[name].shape)}" for name in unlike[:3])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
