"""The gradient methods that the paper compares with, from one forward pass for any number of classes.

- *gradient* (Simonyan et al. 2014, "vanilla gradient"): largest magnitude over the channels of the gradient.
- *input x gradient*: sum over channels of their product, signed.
- *Grad-CAM* (Selvaraju et al. 2017): channels of the last feature map, weighted by their mean gradient; positive part.
- *guided backprop* (Springenberg et al. 2015): the gradient with negative values stopped at every rectifier.

Captum's ``GuidedBackprop`` hooks ``nn.ReLU`` modules and leaves other rectifiers (``F.relu``, ``ReLU6``) to their
gradients, silently. Here rectifiers are found as torch functions, so that none is missed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods.base import Concept, Family, Setting


class Gradients(Family):
    """The methods of this file: one forward pass for the plain gradient, and one for guided backprop."""

    offers = ("gradient", "guided-backprop", "input-x-gradient", "grad-cam")

    def __init__(self, model: nn.Module, names: Sequence[str], layer: nn.Module | None) -> None:
        self.model, self.names, self.layer = model, names, layer
        self._plain = [name for name in names if name != "guided-backprop"]

    @classmethod
    def takes_layer(cls, name: str) -> bool:
        return name == "grad-cam"

    @classmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        return [cls(setting.network.model, names, setting.layer)]

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if self._plain:
            found, self.logits = gradient_maps(self.model, inputs, concepts, self._plain, self.layer)
        if len(self._plain) < len(self.names):
            found["guided-backprop"] = guided_maps(self.model, inputs, concepts)
        return found


def gradient_maps(
    model: nn.Module, inputs: Tensor, concepts: Sequence[Tensor], wanted: Sequence[str], layer: nn.Module | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Maps of the methods that need the ordinary gradient.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, m)``; its parameters' gradients are not touched.
        inputs: ``(N, C, H, W)``.
        concepts: K tensors ``(N, M)`` of classes; the scores of a concept's M classes are added.
        wanted: Some of ``"gradient"``, ``"input-x-gradient"``, ``"grad-cam"``.
        layer: Of Grad-CAM. Default: the last module whose output is a feature map of more than one position.

    Returns:
        For each wanted method ``(N, K, H, W)``; and the logits, ``(N, m)``.
    """
    watched = ([layer] if layer is not None else list(model.modules())[1:]) if "grad-cam" in wanted else []
    variable = inputs.detach().clone().requires_grad_()
    with torch.enable_grad(), _last_feature_map(watched) as found:
        logits = model(variable)
        if "grad-cam" in wanted and not found:
            raise InvalidInputError(
                "no module returns a feature map of more than one position, which Grad-CAM needs; leave grad-cam out"
            )
        last = found[0] if found else None
        maps: dict[str, list[Tensor]] = {name: [] for name in wanted}
        receivers = [variable] if last is None else [variable, last]
        for k, concept in enumerate(concepts):
            score = logits.gather(1, concept.to(logits.device)).sum()
            gradient, *rest = torch.autograd.grad(score, receivers, retain_graph=k < len(concepts) - 1)
            if "gradient" in maps:
                maps["gradient"].append(gradient.abs().amax(1))
            if "input-x-gradient" in maps:
                maps["input-x-gradient"].append((gradient * variable.detach()).sum(1))
            if last is not None:
                weighted = (last.detach() * rest[0].mean((2, 3), keepdim=True)).sum(1, keepdim=True)
                size = (int(inputs.shape[2]), int(inputs.shape[3]))
                cam = F.interpolate(weighted.clamp(min=0), size, mode="bilinear", align_corners=False)
                maps["grad-cam"].append(cam[:, 0])
    return {name: torch.stack(of_concept, dim=1) for name, of_concept in maps.items()}, logits.detach()


def guided_maps(model: nn.Module, inputs: Tensor, concepts: Sequence[Tensor]) -> Tensor:
    """Guided backprop: largest magnitude over channels, ``(N, K, H, W)``; arguments as for :func:`gradient_maps`.

    Raises:
        InvalidInputError: if the model has no rectifier, for which alone the method is defined.
    """
    variable = inputs.detach().clone().requires_grad_()
    maps = []
    with torch.enable_grad():
        with GuidedRectifiers() as guided:
            logits = model(variable)
        if not guided.count:
            raise InvalidInputError(
                f"{type(model).__name__} runs no rectifier (ReLU, ReLU6, leaky ReLU), for which alone guided backprop is "
                "defined; leave the method guided-backprop out"
            )
        for k, concept in enumerate(concepts):
            score = logits.gather(1, concept.to(logits.device)).sum()
            (gradient,) = torch.autograd.grad(score, variable, retain_graph=k < len(concepts) - 1)
            maps.append(gradient.abs().amax(1))
    return torch.stack(maps, dim=1)


@contextlib.contextmanager
def _last_feature_map(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """The last map of more than one position that one of the modules returns while the model runs, if there is one."""
    last: list[Tensor] = []

    def see(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            last[:] = [output]

    with contextlib.ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_hook(see))
        yield last


class GuidedRectifiers(TorchFunctionMode):
    """While it is on, rectifiers pass on the positive part of the gradient that reaches them only.

    Attributes:
        count: How many rectifiers have run.
    """

    _NAMES = frozenset(
        ["relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "threshold", "threshold_"]
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in self._NAMES and isinstance(output, Tensor) and output.requires_grad:
            # The hook stays with this version of the tensor, also where the rectifier works in place.
            output.register_hook(lambda gradient: gradient.clamp(min=0))
            self.count += 1
        return output
