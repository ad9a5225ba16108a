"""The maps that are compared. Every contrast of one setting comes from one forward pass.

Relevance is linear: where ``R`` is what the concept has and ``C = R - R_dual`` the whole contrast, the contrast of strength
``s`` is ``(1 - s) R + s C``. So a whole curve of strengths costs one backward pass for each dual concept, and one for ``R``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp import ContrastiveLRP
from captum_clrp.classifiers import Classifier
from captum_clrp.contrast import contrast_named
from captum_clrp.evaluation import MethodSet
from captum_clrp.targets import OfTarget

__all__ = [
    "CORE",
    "CORE_OTHERS",
    "CURVED",
    "OTHERS",
    "SETTINGS",
    "STRENGTHS",
    "Setting",
    "all_maps",
    "chosen",
    "maps_of_setting",
    "title",
]

STRENGTHS = (0.5, 0.8, 0.9, 0.95, 1.0)
"""Strengths of the curves, besides 0, which is LRP."""
CURVED = ("clrp1", "clrp2", "rivals5")
"""Duals whose strength is varied."""
_ENDS = ("rivals1", "other-logits", "sglrp")
"""Duals of which the whole contrast and a strength of 0.9 are measured."""


@dataclass(frozen=True)
class Setting:
    """How relevance is propagated, and which contrasts of it are measured.

    Attributes:
        suffix: What is appended to the names of methods.
        options: Of the explaining classes.
        strengths: Of each dual.
        signed: Duals whose signed maps are measured as well, with strength 1.
    """

    suffix: str
    options: dict[str, Any]
    strengths: dict[str, Sequence[float]]
    signed: Sequence[str] = ()


_FEW: dict[str, Sequence[float]] = {"clrp1": (0.9, 1.0), "clrp2": (0.9, 1.0)}
CORE = (Setting("", {}, dict.fromkeys(CURVED, STRENGTHS), ("clrp1",)),)
"""What answers the main question: the strengths of three duals."""
SETTINGS = (
    Setting("", {}, dict.fromkeys(CURVED, STRENGTHS) | dict.fromkeys(_ENDS, (0.9, 1.0)), ("clrp1", "clrp2", "rivals5")),
    Setting("-even", {"avg_pool": "even"}, _FEW),
    Setting("-conserve", {"conserve": True}, _FEW),
    Setting("-gamma", {"rules": "gamma"}, _FEW),
    Setting("-epsilon-plus", {"rules": "epsilon-plus"}, _FEW),
)
OTHERS = (
    "random",
    "centre",
    "gradient",
    "input-x-gradient",
    "guided-backprop",
    "grad-cam",
    "benchmarks.contrast.peers:IntegratedGradients",
    "benchmarks.contrast.peers:SmoothGrad",
    "benchmarks.contrast.peers:ZennitEpsilonPlus",
    "benchmarks.contrast.peers:Gated",
    "benchmarks.contrast.peers:GeometricMean",
)
CORE_OTHERS = ("random", "gradient", "input-x-gradient", "grad-cam")
"""Methods without a dual concept, as ``captum-clrp evaluate --methods`` takes them."""


def title(dual: str, strength: float, suffix: str = "", *, signed: bool = False) -> str:
    """What the tables call a contrast; of strength 0 it is LRP."""
    if strength == 0:
        return f"lrp{suffix}"
    return f"{dual}{'' if strength == 1 else f'-s{strength:g}'}{'-signed' if signed else ''}{suffix}"


def chosen(
    settings: Sequence[Setting], others: Sequence[str], methods: Sequence[str]
) -> tuple[tuple[Setting, ...], tuple[str, ...]]:
    """The settings and other methods without those that are not asked for. LRP of a setting comes with its contrasts.

    Args:
        settings: Settings to choose from.
        others: Other methods to choose from.
        methods: Names as in the tables.

    Raises:
        ValueError: for a name that is none of theirs, and where no contrast is left.
    """
    found, known = [], {s.rpartition(":")[2] for s in others}
    for setting in settings:
        strengths = {
            dual: tuple(s for s in of_dual if title(dual, s, setting.suffix) in methods)
            for dual, of_dual in setting.strengths.items()
        }
        strengths = {dual: of_dual for dual, of_dual in strengths.items() if of_dual}
        signed = tuple(
            d for d in strengths if d in setting.signed and title(d, 1, setting.suffix, signed=True) in methods
        )
        known |= {title(dual, s, setting.suffix) for dual, of in setting.strengths.items() for s in (0, *of)}
        known |= {title(dual, 1, setting.suffix, signed=True) for dual in setting.signed}
        if strengths:
            found.append(replace(setting, strengths=strengths, signed=signed))
    if unknown := sorted(set(methods) - known):
        raise ValueError(f"{', '.join(unknown)}: not among {', '.join(sorted(known))}")
    if not found:
        raise ValueError("no contrast is left; name one, clrp1 say")
    return tuple(found), tuple(name for name in others if name.rpartition(":")[2] in methods)


def maps_of_setting(
    network: Classifier, setting: Setting, inputs: Tensor, labels: Sequence[int]
) -> Iterator[tuple[str, Tensor]]:
    """Maps of one image for all contrasts of a setting.

    Args:
        network: The network.
        setting: The setting.
        inputs: ``(1, 3, H, W)``, as the model takes it.
        labels: K classes.

    Returns:
        Names, and maps ``(K, H, W)``.
    """
    low, high = network.bounds
    duals = {name: _dual(name) for name in setting.strengths}
    own = [name for name in duals if name == "sglrp"]  # weighs the concept anew, so that its R is another one
    plain = next(name for name in duals if name not in own)
    asked = [(plain, 0.0), *((name, 0.0) for name in own), *((name, 1.0) for name in duals)]
    explainer = ContrastiveLRP(network.model, low, high, dual=duals[plain], **setting.options)
    with explainer.explanation.run(inputs) as passed:
        seeds = [passed.seed(OfTarget(label), duals[name], strength) for name, strength in asked for label in labels]
        flat = [at_input[0] for ((at_input,),) in passed.relevance(seeds)]
    found = {one: torch.stack(flat[i * len(labels) : (i + 1) * len(labels)]) for i, one in enumerate(asked)}
    yield "lrp" + setting.suffix, found[plain, 0.0].sum(1)
    for name, strengths in setting.strengths.items():
        concept, whole = found.get((name, 0.0), found[plain, 0.0]), found[name, 1.0]
        for s in strengths:
            yield title(name, s, setting.suffix), ((1 - s) * concept + s * whole).clamp(min=0).sum(1)
        if name in setting.signed:
            yield title(name, 1, setting.suffix, signed=True), whole.sum(1)


def _dual(name: str) -> Any:
    named = contrast_named(name)
    assert named is not None
    return named[0]


def all_maps(
    network: Classifier, settings: Sequence[Setting], others: MethodSet, inputs: Tensor, labels: Sequence[int], id_: str
) -> dict[str, Tensor]:
    """Maps ``(K, H, W)`` of every method for K classes of one image, on the CPU."""
    found = {
        name: heat.cpu() for setting in settings for name, heat in maps_of_setting(network, setting, inputs, labels)
    }
    concepts = [torch.tensor([[label]]) for label in labels]
    of_others = others.maps(inputs, concepts, [id_])
    return found | {name.rpartition(":")[2]: heat[0] for name, heat in of_others.items()}


def other_methods(network: Classifier, names: Sequence[str], seed: int = 0) -> MethodSet:
    """Methods without a dual concept on a network; Grad-CAM looks at the last convolution."""
    convolutions = [m for m in network.model.modules() if isinstance(m, nn.Conv2d)]
    return MethodSet(network, names, seed=seed, layer=convolutions[-1])
