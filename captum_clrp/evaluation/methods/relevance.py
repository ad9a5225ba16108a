"""LRP and its contrasts, named by what they are: ``clrp1-gamma-even-conserve``; see :mod:`captum_clrp.methods`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from captum_clrp.evaluation.methods.base import Concept, Family, Setting
from captum_clrp.methods import USAGE, AlikeMethods, Method
from captum_clrp.targets import Given


def _magnitudes(concept: Concept) -> Callable[[Tensor], Tensor]:
    """Initial relevance of the classes of a concept, different for each image: the magnitudes of their logits.

    A contrast compares amounts, and what is compared with it starts with the same amount: a map of LRP for a class with a
    negative logit would be negative throughout, and every measure of where it is positive would find nothing.
    """
    return lambda output: torch.zeros_like(output).scatter_(1, concept.to(output.device), 1.0) * output.abs()


class Relevance(Family):
    """LRP and its contrasts with the same settings: one forward pass, one backward pass for each class and method."""

    offers = ("lrp", "clrp1", "clrp2")
    usage = USAGE

    def __init__(self, alike: AlikeMethods) -> None:
        self._alike = alike
        self.names = tuple(alike.methods)

    @classmethod
    def accepts(cls, name: str) -> bool:
        return Method.named(name) is not None

    @classmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        methods = {name: method for name in names if (method := Method.named(name))}
        network = setting.network
        return [cls(alike) for alike in AlikeMethods.groups(methods, network.model, *network.bounds)]

    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        with self._alike.run(inputs) as passed:
            self.logits = passed.output
            relevance = passed.relevance([Given(_magnitudes(concept)) for concept in concepts])
        return {
            name: (maps if self._alike.methods[name].dual is None else maps.clamp(min=0)).sum(2)
            for name, maps in relevance.items()
        }
