"""Several methods on one network, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from captum_clrp.classifiers import Classifier
from captum_clrp.errors import InvalidInputError, suggestion
from captum_clrp.evaluation.methods.attributions import Attribution
from captum_clrp.evaluation.methods.base import FAMILIES, Concept, Family, Setting
from captum_clrp.evaluation.registry import source_checksum


def _family(name: str) -> type[Family] | None:
    return next((family for family in FAMILIES if family.accepts(name)), None)


def check_methods(names: Iterable[str]) -> list[str]:
    """The names, each once.

    Raises:
        InvalidInputError: for a name that is not known.
    """
    chosen = list(dict.fromkeys(names))
    offers = [name for family in FAMILIES for name in family.offers]
    offered = ", ".join(offers)
    for name in chosen:
        if _family(name) is None:
            usages = "; ".join(family.usage for family in FAMILIES if family.usage)
            raise InvalidInputError(
                f"unknown method {name!r}; {suggestion(name, offers)}choose from {offered}; {usages}"
            )
    if not chosen:
        raise InvalidInputError(f"no method was named; choose from {offered}")
    return chosen


def takes_layer(name: str) -> bool:
    """Whether the layer that was chosen makes a difference to the method ``name``."""
    family = _family(name)
    return family is not None and family.takes_layer(name)


class MethodSet:
    """Several methods on one network.

    Attributes:
        logits: What the network said of the inputs of the last :meth:`maps`, ``(N, m)``, if a method of them knows.

    Args:
        network: The network.
        names: As ``METHODS`` says.
        seed: Seed of the random method.
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
        self._layer = next((name for name, module in network.model.named_modules() if module is layer), None)
        self._families: list[Family] = [Attribution(name, other) for name, other in others.items()]
        asked: dict[type[Family], list[str]] = {}
        for name in self.names:
            if name not in others and (family := _family(name)):
                asked.setdefault(family, []).append(name)
        for family, of_family in asked.items():
            self._families += family.make(of_family, Setting(network, seed, layer))
        self.names += [name for name in others if name not in self.names]
        self.logits: Tensor | None = None

    def settings(self) -> dict[str, Any]:
        """What decides about the maps besides the names: the layer, and the source of methods from elsewhere."""
        elsewhere = sorted(name for name in self.names if ":" in name and not name.startswith("captum"))
        return {"cam_layer": self._layer} | {name: source_checksum(name.partition(":")[0]) for name in elsewhere}

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
        asked = [family for family in self._families if wanted.intersection(family.names)]
        for family in asked:
            found |= family.maps(inputs, concepts, ids)
        self.logits = next((family.logits for family in asked if family.logits is not None), None)
        return {name: found[name].detach().cpu() for name in self.names if name in wanted}
