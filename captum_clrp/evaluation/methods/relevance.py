"""LRP and its contrasts, named by what they are: ``clrp1-gamma-even-conserve``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from captum_clrp.attribution import ContrastiveLRP, LRPZBeta
from captum_clrp.classifiers import Classifier
from captum_clrp.composites import COMPOSITES
from captum_clrp.contrast import NAMES, DualConcept, contrast_named
from captum_clrp.evaluation.methods.base import Concept, Family, Setting
from captum_clrp.neuron import NeuronContrastiveLRP2, NeuronLRPZBeta
from captum_clrp.targets import Given


class Propagating(TypedDict):
    """Settings of a propagation that a name can hold."""

    avg_pool: Literal["proportional", "even"]
    conserve: bool
    rules: str
    precision: Literal["float32", "bfloat16"]


_RULES = "|".join(sorted(COMPOSITES, key=len, reverse=True))  # the longer of two that begin alike comes first
_NAME = re.compile(rf"(.+?)(?:-({_RULES}))?((?:-even|-conserve|-bfloat16)*)")


@dataclass(frozen=True)
class MethodName:
    """A method of relevance, as its name says.

    Attributes:
        dual: The dual concept; ``None`` for LRP.
        strength: How much of the dual's relevance is subtracted.
        rules: The composite.
        even: Whether average pooling shares evenly, as in the paper.
        conserve: Whether relevance without positive contributions is spread instead of absorbed.
        low_precision: Whether relevance is computed in bfloat16.
    """

    dual: DualConcept | None
    strength: float = 1.0
    rules: str = "auto"
    even: bool = False
    conserve: bool = False
    low_precision: bool = False

    @classmethod
    def parse(cls, name: str) -> MethodName | None:
        """What a ``name`` such as ``clrp1-gamma-even-conserve`` says; ``None`` for one of another kind."""
        match = _NAME.fullmatch(name)
        contrast = contrast_named(match[1]) if match else None
        if match is None or contrast is None:
            return None
        of_rules = ("-even" in match[3], "-conserve" in match[3], "-bfloat16" in match[3])
        return cls(*contrast, match[2] or "auto", *of_rules)

    def explainer(self, network: Classifier) -> LRPZBeta:
        """Explains classes of a ``network``."""
        low, high = network.bounds
        if self.dual is None:
            return LRPZBeta(network.model, low, high, **self.settings)
        return ContrastiveLRP(network.model, low, high, dual=self.dual, strength=self.strength, **self.settings)

    def neuron_explainer(self, network: Classifier, layer: nn.Module) -> NeuronLRPZBeta | NeuronContrastiveLRP2:
        """Explains neurons of a ``layer`` of a ``network``."""
        low, high = network.bounds
        if self.dual is None:
            return NeuronLRPZBeta(network.model, layer, low, high, **self.settings)
        return NeuronContrastiveLRP2(network.model, layer, low, high, strength=self.strength, **self.settings)

    @property
    def explains_neurons(self) -> bool:
        """Whether it has a meaning for neurons: LRP and CLRP2 do, the other duals need classes."""
        return self.dual is None or self.dual.negates_output_layer

    @property
    def settings(self) -> Propagating:
        """What the classes of this package take. Methods that agree in it share a forward pass."""
        return {
            "avg_pool": "even" if self.even else "proportional",
            "conserve": self.conserve,
            "rules": self.rules,
            "precision": "bfloat16" if self.low_precision else "float32",
        }


def _magnitudes(concept: Concept) -> Callable[[Tensor], Tensor]:
    """Initial relevance of the classes of a concept, different for each image: the magnitudes of their logits.

    A contrast compares amounts, and what is compared with it starts with the same amount: a map of LRP for a class with a
    negative logit would be negative throughout, and every measure of where it is positive would find nothing.
    """
    return lambda output: torch.zeros_like(output).scatter_(1, concept.to(output.device), 1.0) * output.abs()


class Relevance(Family):
    """LRP and its contrasts with the same settings: one forward pass, one backward pass for each class and method."""

    offers = ("lrp", "clrp1", "clrp2")
    usage = (
        f"{NAMES}; each also with a composite (-{', -'.join(COMPOSITES)}), then -even (the paper's average "
        "pooling), -conserve and -bfloat16"
    )

    def __init__(self, explainers: dict[str, LRPZBeta]) -> None:
        self.explainers = explainers
        self.names = tuple(explainers)

    @classmethod
    def accepts(cls, name: str) -> bool:
        return MethodName.parse(name) is not None

    @classmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        alike: dict[tuple[object, ...], dict[str, LRPZBeta]] = {}
        for name in names:
            if method := MethodName.parse(name):
                explainers = alike.setdefault(tuple(method.settings.values()), {})
                explainers[name] = method.explainer(setting.network)
        return [cls(explainers) for explainers in alike.values()]

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        first = next(iter(self.explainers.values()))
        maps: dict[str, list[Tensor]] = {name: [] for name in self.explainers}
        with first.explanation.run(inputs) as passed:
            self.logits = passed.propagation.output.detach()
            seeds = [
                (name, passed.contrasting(Given(_magnitudes(concept)), explainer.dual, explainer.strength))
                for name, explainer in self.explainers.items()
                for concept in concepts
            ]
            relevance = passed.relevance([seed for _, seed in seeds])
            for (name, _), ((at_input,),) in zip(seeds, relevance, strict=True):
                contrast = self.explainers[name].dual is not None
                maps[name].append((at_input.clamp(min=0) if contrast else at_input).sum(1))
        return {name: torch.stack(of_concepts, dim=1) for name, of_concepts in maps.items()}
