"""Methods of relevance by name, and the maps of several of them from one forward pass.

``clrp1-gamma-even`` names a contrast (:func:`captum_clrp.contrast.contrast_named`) and how relevance is propagated. The
commands and :mod:`captum_clrp.evaluation` make their methods here, so that a name means the same everywhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from captum_clrp.attribution import ContrastiveLRP, LRPZBeta
from captum_clrp.composites import COMPOSITES
from captum_clrp.contrast import NAMES, DualConcept, contrast_named
from captum_clrp.engine.settings import AveragePooling, Precision
from captum_clrp.explanation import Pass
from captum_clrp.neuron import NeuronContrastiveLRP2, NeuronLRPZBeta
from captum_clrp.targets import Start

USAGE = (
    f"{NAMES}; each also with a composite (-{', -'.join(COMPOSITES)}), then -even (the paper's average "
    "pooling), -conserve and -bfloat16"
)
"""How methods of relevance are named."""

_RULES = "|".join(sorted(COMPOSITES, key=len, reverse=True))  # the longer of two that begin alike comes first
_NAME = re.compile(rf"(.+?)(?:-({_RULES}))?((?:-even|-conserve|-bfloat16)*)")


class _Propagating(TypedDict):
    """How relevance is propagated: what every class of this package takes."""

    avg_pool: AveragePooling
    conserve: bool
    rules: str
    precision: Precision


@dataclass(frozen=True)
class Method:
    """LRP or a contrast, and how relevance is propagated.

    Attributes:
        dual: The dual concept; ``None`` for LRP.
        strength: How much of the dual's relevance is subtracted.
        avg_pool, conserve, rules, precision: As for :class:`captum_clrp.LRPZBeta`.
    """

    dual: DualConcept | None = None
    strength: float = 1.0
    avg_pool: AveragePooling = "proportional"
    conserve: bool = False
    rules: str = "auto"
    precision: Precision = "float32"

    @classmethod
    def named(cls, name: str) -> Method | None:
        """What a ``name`` such as ``clrp1-gamma-even-conserve`` says; ``None`` for one of another kind.

        Args:
            name: As :data:`USAGE` says.
        """
        match = _NAME.fullmatch(name)
        contrast = contrast_named(match[1]) if match else None
        if match is None or contrast is None:
            return None
        return cls(
            *contrast,
            avg_pool="even" if "-even" in match[3] else "proportional",
            conserve="-conserve" in match[3],
            rules=match[2] or "auto",
            precision="bfloat16" if "-bfloat16" in match[3] else "float32",
        )

    @property
    def settings(self) -> _Propagating:
        """How relevance is propagated. Methods that agree in it share a forward pass."""
        return {"avg_pool": self.avg_pool, "conserve": self.conserve, "rules": self.rules, "precision": self.precision}

    @property
    def shares_score(self) -> bool:
        """Whether its relevance is a share of the score."""
        return self.dual is None or self.dual.shares_score

    @property
    def explains_neurons(self) -> bool:
        """Whether it has a meaning for neurons: LRP and CLRP2 do, the other duals need classes."""
        return self.dual is None or self.dual.negates_output_layer

    def explainer(self, model: nn.Module, low: Any, high: Any) -> LRPZBeta:
        """Explains outputs of a model.

        Args:
            model, low, high: As for :class:`captum_clrp.LRPZBeta`.
        """
        if self.dual is None:
            return LRPZBeta(model, low, high, **self.settings)
        return ContrastiveLRP(model, low, high, dual=self.dual, strength=self.strength, **self.settings)

    def neuron_explainer(
        self, model: nn.Module, layer: nn.Module, low: Any, high: Any
    ) -> NeuronLRPZBeta | NeuronContrastiveLRP2:
        """Explains neurons of a layer, if the method :attr:`explains_neurons`.

        Args:
            model, layer, low, high: As for :class:`captum_clrp.NeuronLRPZBeta`.
        """
        if self.dual is None:
            return NeuronLRPZBeta(model, layer, low, high, **self.settings)
        return NeuronContrastiveLRP2(model, layer, low, high, strength=self.strength, **self.settings)


class SharedPass:
    """A forward pass that several methods explain.

    Attributes:
        output: What the network returned, without its graph.
        composite: The name of the composite by which relevance goes, also where ``rules="auto"`` chose it.
    """

    def __init__(self, passed: Pass, methods: Mapping[str, Method]) -> None:
        self._passed, self._methods = passed, methods
        self.output: Tensor = passed.propagation.output.detach()
        self.composite: str = passed.propagation.trace.composite.name

    def relevance(self, starts: Sequence[Start]) -> dict[str, Tensor]:
        """Relevance of each input value, for each method ``(N, K, *input_shape)``; of contrasts with both signs.

        Args:
            starts: What is explained: K of them. It can be asked once.
        """
        seeds = [
            (name, self._passed.seed(start, method.dual, method.strength))
            for name, method in self._methods.items()
            for start in starts
        ]
        found: dict[str, list[Tensor]] = {name: [] for name in self._methods}
        relevance = self._passed.relevance([seed for _, seed in seeds])
        for (name, _), ((at_input,),) in zip(seeds, relevance, strict=True):
            found[name].append(at_input)
        return {name: torch.stack(of_starts, dim=1) for name, of_starts in found.items()}


class AlikeMethods:
    """Methods that agree in how relevance is propagated: they share a forward pass.

    Attributes:
        methods: By whatever they are called.

    Args:
        methods: At least one.
        model, low, high: As for :class:`captum_clrp.LRPZBeta`.

    Raises:
        InvalidInputError: as :class:`captum_clrp.LRPZBeta`.
    """

    def __init__(self, methods: Mapping[str, Method], model: nn.Module, low: Any, high: Any) -> None:
        self.methods = methods
        self._explainer = next(iter(methods.values())).explainer(model, low, high)

    @classmethod
    def groups(cls, methods: Mapping[str, Method], model: nn.Module, low: Any, high: Any) -> list[AlikeMethods]:
        """As few forward passes as there can be for any methods.

        Args:
            methods: By whatever they are called.
            model, low, high: As for :class:`captum_clrp.LRPZBeta`.

        Returns:
            Groups that are alike, in the order in which their first methods stand.
        """
        found: dict[tuple[object, ...], dict[str, Method]] = {}
        for name, method in methods.items():
            found.setdefault(tuple(method.settings.values()), {})[name] = method
        return [cls(some, model, low, high) for some in found.values()]

    @contextlib.contextmanager
    def run(self, inputs: Tensor) -> Iterator[SharedPass]:
        """Run the model once; relevance can be asked within the ``with``.

        Args:
            inputs: ``(N, ...)``.

        Raises:
            ContrastiveLRPError: as :meth:`captum_clrp.LRPZBeta.attribute`.
        """
        with self._explainer.explanation.run(inputs) as passed:
            yield SharedPass(passed, self.methods)
