"""The methods that are compared, by name, and their maps for several classes of the same images.

Methods of one family share the forward pass: LRP with its contrasts, and the plain gradient methods. A map is
``(H, W)``: relevance is summed over the colour channels; gradients as :mod:`captum_clrp.evaluation.methods.gradients` says.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from captum_clrp.attribution import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.classifiers import Classifier
from captum_clrp.composites import COMPOSITES
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods.gradients import gradient_maps, guided_maps
from captum_clrp.targets import Given

__all__ = ["METHODS", "Concept", "MethodSet", "check_methods", "image_seed"]

METHODS = ("random", "centre", "gradient", "guided-backprop", "input-x-gradient", "grad-cam", "lrp", "clrp1", "clrp2")
"""All methods that need no further word. ``lrp``, ``clrp1`` and ``clrp2`` also take a composite (``-paper``, ``-gamma``, ...),
then ``-even`` (the paper's average pooling) and ``-conserve``; ``captum:NAME`` is an attribution of Captum,
``PACKAGE.MODULE:NAME`` a function (or class) from the model to any object with Captum's ``attribute``."""

_RULES = "|".join(sorted(COMPOSITES, key=len, reverse=True))  # the longer of two that begin alike comes first
_RELEVANCE = re.compile(rf"(lrp|clrp1|clrp2)(-(?:{_RULES}))?((?:-even|-conserve)*)$")
_CLASSES: dict[str, type[LRPZBeta]] = {"lrp": LRPZBeta, "clrp1": ContrastiveLRP1, "clrp2": ContrastiveLRP2}

Concept = Tensor
"""Classes ``(N, M)`` that are explained together; usually M is 1."""


class Family(Protocol):
    """Methods that share their computation.

    Attributes:
        names: What it computes.
    """

    names: Sequence[str]

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        """Maps ``(N, K, H, W)`` of each method for K concepts of N images."""
        ...


def image_seed(*parts: object) -> int:
    """A seed that depends on what it is for (image, method, ...) and not on the order of work."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:7], "big")


class _Random:
    """Uniform noise."""

    names: Sequence[str] = ("random",)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        size = (len(concepts), *inputs.shape[2:])
        drawn = [
            torch.rand(size, generator=torch.Generator().manual_seed(image_seed(self.seed, "random", id_)))
            for id_ in ids
        ]
        return {"random": torch.stack(drawn)}


class _Centre:
    """A cone: largest at the pixel in the middle, falling evenly to 0 at the farthest corner."""

    names: Sequence[str] = ("centre",)

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        height, width = inputs.shape[2:]
        rows = torch.arange(height).float()[:, None] - height // 2
        columns = torch.arange(width).float()[None, :] - width // 2
        distance = (rows**2 + columns**2).sqrt()
        return {"centre": (distance.max() - distance).expand(len(inputs), len(concepts), height, width)}


class _Gradients:
    def __init__(self, model: nn.Module, names: Sequence[str], layer: nn.Module | None) -> None:
        self.model, self.names, self.layer = model, names, layer

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        return gradient_maps(self.model, inputs, concepts, self.names, self.layer)


class _Guided:
    names: Sequence[str] = ("guided-backprop",)

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        return {"guided-backprop": guided_maps(self.model, inputs, concepts)}


class _Scores:
    """Initial relevance of the classes of a concept, different for each image: the magnitudes of their logits.

    A contrast compares amounts, and what is compared with it starts with the same amount: a map of LRP for a class with a
    negative logit would be negative throughout, and every measure of where it is positive would find nothing.
    """

    def __init__(self, concept: Concept) -> None:
        self.concept = concept

    def __call__(self, output: Tensor) -> Tensor:
        chosen = torch.zeros_like(output).scatter_(1, self.concept.to(output.device), 1.0)
        return chosen * output.abs()


class _Relevance:
    """LRP and its contrasts with the same settings: one forward pass, one backward pass for each class and method.

    Where all methods explain single classes, each goes through its own public ``attribute_classes``'s steps on the
    shared pass.
    """

    def __init__(self, explainers: dict[str, LRPZBeta]) -> None:
        self.explainers = explainers
        self.names: Sequence[str] = tuple(explainers)

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        first = next(iter(self.explainers.values()))
        maps: dict[str, list[Tensor]] = {name: [] for name in self.explainers}
        with first.explanation.run(inputs) as passed:
            seeds = [
                (name, passed.contrasting(Given(_Scores(concept)), explainer.dual))
                for name, explainer in self.explainers.items()
                for concept in concepts
            ]
            relevance = passed.relevance([seed for _, seed in seeds])
            for (name, _), ((at_input,),) in zip(seeds, relevance, strict=True):
                contrast = self.explainers[name].dual is not None
                maps[name].append((at_input.clamp(min=0) if contrast else at_input).sum(1))
        return {name: torch.stack(of_concepts, dim=1) for name, of_concepts in maps.items()}


class _Captum:
    """Anything with Captum's ``attribute(inputs, target=...)``; for several classes together, the sum over them."""

    def __init__(self, name: str, attribution: Any) -> None:
        self.name, self.attribution = name, attribution
        self.names: Sequence[str] = (name,)

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        of_concepts = []
        for concept in concepts:
            parts = [self._one(inputs, labels) for labels in concept.to(inputs.device).unbind(1)]
            of_concepts.append(torch.stack(parts).sum(0))
        return {self.name: torch.stack(of_concepts, dim=1)}

    def _one(self, inputs: Tensor, labels: Tensor) -> Tensor:
        attribute = self.attribution.attribute
        try:
            attributed = attribute(inputs.detach().clone(), target=labels, **_arguments(attribute, inputs))
        except InvalidInputError:
            raise
        except Exception as error:  # it is not ours: anything may come
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InvalidInputError(f"the method {self.name} failed on this network ({reason})") from error
        attributed = attributed[0] if isinstance(attributed, tuple) else attributed
        if not isinstance(attributed, Tensor) or attributed.dim() != 4 or len(attributed) != len(inputs):
            raise InvalidInputError(
                f"the method {self.name} returned {type(attributed).__name__} "
                f"{tuple(getattr(attributed, 'shape', ()))} for inputs {tuple(inputs.shape)}; a map (N, C, H, "
                f"W) is needed"
            )
        summed = attributed.detach().sum(1)
        if summed.shape[1:] != inputs.shape[2:]:
            size = (int(inputs.shape[2]), int(inputs.shape[3]))
            summed = nn.functional.interpolate(summed[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        return summed


def check_methods(names: Iterable[str]) -> list[str]:
    """The names, each once.

    Raises:
        InvalidInputError: for a name that is not known.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in METHODS and not _RELEVANCE.match(name) and ":" not in name:
            raise InvalidInputError(
                f"unknown method {name!r}; choose from {', '.join(METHODS)}, the last three also with the "
                f"name of a composite (-{', -'.join(COMPOSITES)}), then -even or -conserve; or captum:NAME, or "
                "PACKAGE.MODULE:NAME"
            )
    if not chosen:
        raise InvalidInputError("no method was named; choose from " + ", ".join(METHODS))
    return chosen


class MethodSet:
    """Several methods on one network.

    Args:
        network: The network.
        names: As ``METHODS`` says.
        seed: Of the random method.
        layer: Of Grad-CAM. Default: the last module whose output is a feature map of more than one position.
        others: Further methods: objects with Captum's ``attribute``, by name.

    Raises:
        InvalidInputError: for a name that is not known.
    """

    def __init__(
        self,
        network: Classifier,
        names: Sequence[str],
        *,
        seed: int = 0,
        layer: nn.Module | None = None,
        others: dict[str, Any] | None = None,
    ) -> None:
        others = others or {}
        self.names = [*check_methods([*names])] if names or not others else []
        self.names += [name for name in others if name not in self.names]
        model, (low, high) = network.model, network.bounds
        self._layer = next((name for name, module in model.named_modules() if module is layer), None)
        families: list[Family] = []
        relevance: dict[tuple[str, bool, bool], dict[str, LRPZBeta]] = {}
        for name in self.names:
            if name in others:
                families.append(_Captum(name, others[name]))
            elif match := _RELEVANCE.match(name):
                rules, even, conserve = (match[2] or "-auto")[1:], "-even" in match[3], "-conserve" in match[3]
                explainer = _CLASSES[match[1]](
                    model, low, high, avg_pool="even" if even else "proportional", conserve=conserve, rules=rules
                )
                relevance.setdefault((rules, even, conserve), {})[name] = explainer
            elif ":" in name:
                families.append(_Captum(name, _made(name, model, layer)))
        plain = [n for n in self.names if n in ("gradient", "input-x-gradient", "grad-cam")]
        families += [_Gradients(model, plain, layer)] if plain else []
        families += [_Guided(model)] if "guided-backprop" in self.names else []
        families += [_Random(seed)] if "random" in self.names else []
        families += [_Centre()] if "centre" in self.names else []
        self._families = families + [_Relevance(explainers) for explainers in relevance.values()]

    def settings(self) -> dict[str, Any]:
        """What decides about the maps besides the names: the layer, and the source of methods from elsewhere."""
        elsewhere = {name for name in self.names if ":" in name and not name.startswith("captum")}
        return {"cam_layer": self._layer} | {name: _source_checksum(name) for name in sorted(elsewhere)}

    def maps(
        self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Maps of all methods.

        Args:
            inputs: ``(N, C, H, W)``, as the model takes it.
            concepts: K concepts.
            ids: The images' names, which seed the random method.
            only: The methods that are wanted. Default: all.

        Returns:
            For each method ``(N, K, H, W)``, in the order of ``names``, on the CPU.
        """
        wanted = set(self.names if only is None else only)
        found: dict[str, Tensor] = {}
        for family in self._families:
            if wanted.intersection(family.names):
                found |= family.maps(inputs, concepts, ids)
        return {name: found[name].detach().cpu() for name in self.names if name in wanted}


def _source_checksum(name: str) -> str | None:
    """Of the file that a method ``PACKAGE.MODULE:NAME`` comes from, if it is one that can be read."""
    file = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else None
    except OSError:
        return None


def _made(name: str, model: nn.Module, layer: nn.Module | None) -> Any:
    """A method from elsewhere; one that explains a layer gets the one that was chosen."""
    place, _, attribute = name.rpartition(":")
    try:
        maker = getattr(importlib.import_module("captum.attr" if place == "captum" else place), attribute)
        wants_layer = "layer" in _parameters(maker)
        if wants_layer and layer is None:
            raise InvalidInputError(f"the method {name} explains a layer; name one (the layer of grad-cam)")
        made = maker(model, layer) if wants_layer else maker(model)
    except (ImportError, AttributeError, TypeError, AssertionError) as error:
        raise InvalidInputError(
            f"the method {name} cannot be made ({error}); PACKAGE.MODULE:NAME must name a function or class that takes the "
            "model alone, or the model and a layer, and returns an object with attribute(inputs, target=...)"
        ) from error
    if not callable(getattr(made, "attribute", None)):
        raise InvalidInputError(f"the method {name} made a {type(made).__name__} without attribute(inputs, target=...)")
    return made


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


_PATCHES = 8
"""Patches a side that methods of Captum which replace parts of the image work with."""


def _arguments(attribute: Any, inputs: Tensor) -> dict[str, Any]:
    """What some attributions of Captum need besides inputs and target: patches, and black images to start from."""
    parameters, (channels, height, width) = _parameters(attribute), inputs.shape[1:]
    side = max(1, height // _PATCHES), max(1, width // _PATCHES)
    found: dict[str, Any] = {}
    if "sliding_window_shapes" in parameters:
        found |= {"sliding_window_shapes": (channels, *side), "strides": (channels, *side)}
    elif "feature_mask" in parameters:
        rows, columns = (torch.arange(n, device=inputs.device) // s for n, s in zip((height, width), side, strict=True))
        patches = rows[:, None] * (int(columns[-1]) + 1) + columns
        found["feature_mask"] = patches.repeat(1, channels, 1, 1)
    baselines = parameters.get("baselines")
    if baselines is not None and baselines.default is baselines.empty:
        found["baselines"] = torch.zeros_like(inputs[:1]).repeat(2, 1, 1, 1)  # DeepLiftShap wants more than one
    return found
