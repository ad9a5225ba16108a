"""LRP and its contrasts, named by what they are: ``clrp1-gamma-even-conserve``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from captum_clrp.attribution import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.classifiers import Classifier
from captum_clrp.composites import COMPOSITES
from captum_clrp.evaluation.methods.base import Concept, Family, Setting
from captum_clrp.neuron import NeuronContrastiveLRP2, NeuronLRPZBeta
from captum_clrp.targets import Given

__all__ = ["MethodName", "Relevance"]

Kind = Literal["lrp", "clrp1", "clrp2"]
_CLASSES: dict[Kind, type[LRPZBeta]] = {"lrp": LRPZBeta, "clrp1": ContrastiveLRP1, "clrp2": ContrastiveLRP2}
_RULES = "|".join(sorted(COMPOSITES, key=len, reverse=True))  # the longer of two that begin alike comes first
_NAME = re.compile(rf"(lrp|clrp1|clrp2)(?:-({_RULES}))?((?:-even|-conserve)*)")


@dataclass(frozen=True)
class MethodName:
    """A method of relevance, as its name says.

    Attributes:
        kind: The dual: none, the other classes, or negated weights.
        rules: The composite.
        even: Whether average pooling shares evenly, as in the paper.
        conserve: Whether relevance without positive contributions is spread instead of absorbed.
    """

    kind: Kind
    rules: str = "auto"
    even: bool = False
    conserve: bool = False

    @classmethod
    def parse(cls, name: str) -> MethodName | None:
        """What a ``name`` such as ``clrp1-gamma-even-conserve`` says; ``None`` for one of another kind."""
        match = _NAME.fullmatch(name)
        if not match:
            return None
        return cls(cast(Kind, match[1]), match[2] or "auto", "-even" in match[3], "-conserve" in match[3])

    def explainer(self, network: Classifier) -> LRPZBeta:
        """Explains classes of a ``network``."""
        low, high = network.bounds
        return _CLASSES[self.kind](
            network.model, low, high, avg_pool=self._avg_pool, conserve=self.conserve, rules=self.rules
        )

    def neuron_explainer(self, network: Classifier, layer: nn.Module) -> NeuronLRPZBeta | NeuronContrastiveLRP2:
        """Explains neurons of a ``layer`` of a ``network``."""
        low, high = network.bounds
        kind = NeuronContrastiveLRP2 if self.kind == "clrp2" else NeuronLRPZBeta
        return kind(network.model, layer, low, high, avg_pool=self._avg_pool, conserve=self.conserve, rules=self.rules)

    @property
    def _avg_pool(self) -> Literal["even", "proportional"]:
        return "even" if self.even else "proportional"


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


class Relevance(Family):
    """LRP and its contrasts with the same settings: one forward pass, one backward pass for each class and method."""

    offers = tuple(_CLASSES)
    usage = (
        f"{', '.join(_CLASSES)} also with a composite (-{', -'.join(COMPOSITES)}), then -even (the paper's average "
        "pooling) and -conserve"
    )

    def __init__(self, explainers: dict[str, LRPZBeta]) -> None:
        self.explainers = explainers
        self.names = tuple(explainers)

    @classmethod
    def accepts(cls, name: str) -> bool:
        return MethodName.parse(name) is not None

    @classmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        alike: dict[tuple[str, bool, bool], dict[str, LRPZBeta]] = {}
        for name in names:
            if method := MethodName.parse(name):
                explainers = alike.setdefault((method.rules, method.even, method.conserve), {})
                explainers[name] = method.explainer(setting.network)
        return [cls(explainers) for explainers in alike.values()]

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
