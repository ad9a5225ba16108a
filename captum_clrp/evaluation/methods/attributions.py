"""Attributions of Captum, and whatever has their ``attribute``."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.errors import InvalidInputError, reason_of, suggestion
from captum_clrp.evaluation.methods.base import Concept, Family, Setting
from captum_clrp.evaluation.registry import imported


class Attribution(Family):
    """Anything with Captum's ``attribute(inputs, target=...)``; for several classes together, the sum over them."""

    usage = (
        "captum:NAME for an attribution of Captum, PACKAGE.MODULE:NAME for any function (or class) from the model to an "
        "object with Captum's attribute"
    )

    def __init__(self, name: str, attribution: Any) -> None:
        self.name, self.attribution = name, attribution
        self.names = (name,)

    @classmethod
    def accepts(cls, name: str) -> bool:
        return ":" in name

    @classmethod
    def takes_layer(cls, name: str) -> bool:
        return True

    @classmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        return [cls(name, _made(name, setting.network.model, setting.layer)) for name in names]

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        of_concepts = []
        for concept in concepts:
            parts = [self._one(inputs, labels) for labels in concept.to(inputs.device).unbind(1)]
            of_concepts.append(torch.stack(parts).sum(0))
        return {self.name: torch.stack(of_concepts, dim=1)}

    def _one(self, inputs: Tensor, labels: Tensor) -> Tensor:
        attribute = self.attribution.attribute
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", _CHATTER)
                attributed = attribute(inputs.detach().clone(), target=labels, **_arguments(attribute, inputs))
        except InvalidInputError:
            raise
        except Exception as error:  # it is not ours: anything may come
            raise InvalidInputError(f"the method {self.name} failed on this network ({reason_of(error)})") from error
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


_CHATTER = "Input Tensor 0 did not already require gradients|Setting (forward, )?backward hooks"
"""What Captum says of each of its calls, and nobody need act on."""


def _made(name: str, model: nn.Module, layer: nn.Module | None) -> Any:
    """A method from elsewhere; one that explains a layer gets the one that was chosen."""
    place, _, attribute = name.rpartition(":")
    place = "captum.attr" if place == "captum" else place
    try:
        maker = imported(place, attribute)
        wants_layer = "layer" in _parameters(maker)
        if wants_layer and layer is None:
            raise InvalidInputError(
                f"the method {name} explains a layer, and none is given; name one, as for grad-cam: --cam-layer NAME of "
                "the commands, layer= of MethodSet"
            )
        made = maker(model, layer) if wants_layer else maker(model)
    except InvalidInputError:
        raise
    except (ImportError, AttributeError, TypeError, AssertionError) as error:
        raise InvalidInputError(
            f"the method {name} cannot be made ({error}); {_meant(place, attribute)}PACKAGE.MODULE:NAME must name a "
            "function or class that takes the model alone, or the model and a layer, and returns an object with "
            "attribute(inputs, target=...)"
        ) from error
    if not callable(getattr(made, "attribute", None)):
        raise InvalidInputError(f"the method {name} made a {type(made).__name__} without attribute(inputs, target=...)")
    return made


def _meant(place: str, attribute: str) -> str:
    """What a name that a module lacks may have been."""
    offered = vars(sys.modules[place]) if place in sys.modules else {}
    return "" if attribute in offered else suggestion(attribute, (name for name in offered if not name.startswith("_")))


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
