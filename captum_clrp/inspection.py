"""Reports on a propagation: which rule each operation gets, and where relevance is absorbed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_clrp.attribution import LRPZBeta
from captum_clrp.composites import RulesType, composite_of
from captum_clrp.engine._captum import TargetType
from captum_clrp.engine.borrowed import plain_model
from captum_clrp.engine.nodes import Record
from captum_clrp.engine.settings import AveragePooling, Settings
from captum_clrp.errors import InvalidInputError
from captum_clrp.explanation import Explanation
from captum_clrp.tables import text_table
from captum_clrp.targets import Given, InitialRelevance, OfTarget

__all__ = ["Conservation", "LayerConservation", "Plan", "check_conservation", "explain_plan"]


class Plan(NamedTuple):
    """Every rule-bearing operation in the order in which it runs; prints as a table.

    ``composite`` is the name of the composite that was taken, ``why`` what decided.
    """

    records: tuple[Record, ...]
    composite: str
    why: str

    def __str__(self) -> str:
        return f"composite: {self.composite} ({self.why})\n" + text_table(
            ("operation", "module", "rule", "why"), [tuple(r) for r in self.records]
        )


class LayerConservation(NamedTuple):
    """Relevance at one operation: what arrived at its output and how much of it was absorbed."""

    operation: str
    module: str
    rule: str
    arrived: float
    absorbed: float


class Conservation(NamedTuple):
    """Where relevance went, summed over the batch; prints as a table of the operations that absorbed some.

    ``score`` is what was sent, ``at_input`` what arrived at the inputs; ``absorbed`` sums what single operations
    absorbed, and ``unaccounted = score - at_input - absorbed`` should vanish up to ``rounding``: amounts up to that are
    errors of the arithmetic, and print as 0.
    """

    score: float
    at_input: float
    absorbed: float
    layers: tuple[LayerConservation, ...]
    rounding: float = 0.0

    @property
    def unaccounted(self) -> float:
        return self.score - self.at_input - self.absorbed

    def __str__(self) -> str:
        def shown(amount: float, digits: int = 6) -> str:
            return f"{amount:.{digits}g}" if abs(amount) > self.rounding else "0"

        def share(amount: float) -> str:
            return f"{amount / self.score:.1%}" if abs(self.score) > self.rounding else "-"

        rows = [
            (x.operation, x.module, x.rule, shown(x.arrived), shown(x.absorbed), share(x.absorbed))
            for x in self.layers
            if abs(x.absorbed) > self.rounding
        ]
        lines = [
            f"score {shown(self.score)} = {shown(self.at_input)} at the input + {shown(self.absorbed)} absorbed "
            f"({shown(self.unaccounted, 2)} unaccounted)"
        ]
        if rows:
            lines.append(text_table(("operation", "module", "rule", "arrived", "absorbed", "of score"), rows))
        else:
            lines.append("no operation absorbs relevance")
        return "\n".join(lines)


def explain_plan(
    model: nn.Module,
    inputs: Any,
    additional_forward_args: object | None = None,
    *,
    avg_pool: AveragePooling = "proportional",
    rules: RulesType = "auto",
) -> Plan:
    """The rule of every operation of ``model``, without propagating anything.

    Args:
        model: The model in evaluation mode.
        inputs: Example inputs, as for :meth:`captum_clrp.LRPZBeta.attribute`.
        additional_forward_args: As for :meth:`captum_clrp.LRPZBeta.attribute`.
        avg_pool, rules: As for :class:`captum_clrp.LRPZBeta`.

    Returns:
        A :class:`Plan`; ``print`` it.

    Raises:
        InvalidInputError: for an unknown ``avg_pool`` or ``rules``.
        UnsupportedOperationError: naming each operation without a rule; otherwise as ``attribute``.
    """
    with Explanation(model, settings=Settings(avg_pool, rules=composite_of(rules))).run(
        inputs, additional_forward_args
    ) as passed:
        trace = passed.propagation.trace
        return Plan(passed.propagation.plan(), trace.composite.name, trace.why_composite)


def check_conservation(
    model: nn.Module,
    inputs: Any,
    target: TargetType = None,
    additional_forward_args: object | None = None,
    *,
    method: LRPZBeta | None = None,
    initial_relevance: InitialRelevance = None,
) -> Conservation:
    """How much relevance each operation absorbs on its way from the score to the inputs.

    Args:
        model: The model in evaluation mode.
        inputs, target, additional_forward_args, initial_relevance: As for :meth:`captum_clrp.LRPZBeta.attribute`.
        method: An attribution of this model, whose settings are used. Default: ``LRPZBeta(model)``.

    Returns:
        A :class:`Conservation`, summed over the batch; ``print`` it.

    Raises:
        InvalidInputError: if ``method`` explains another model.
        ContrastiveLRPError: otherwise as for :meth:`captum_clrp.LRPZBeta.attribute`.
    """
    method = LRPZBeta(model) if method is None else method
    if plain_model(method.model) is not plain_model(model):
        raise InvalidInputError(
            f"method explains another model (a {type(method.model).__name__}); make it of the model that is given, or pass "
            "method.model"
        )
    with method.explanation.run(inputs, additional_forward_args) as passed:
        nodes = passed.propagation.trace.nodes
        start = OfTarget(target) if initial_relevance is None else Given(initial_relevance)
        seed = passed.seed(start, method.dual, method.strength)
        for node in nodes:
            node.ledger = True
        ((relevance,),) = passed.relevance([seed])
    layers = tuple(LayerConservation(*node.record[:3], node.received, node.received - node.shared) for node in nodes)
    # Sums over a network in float32 are right to some 1e-7 of what is summed: of a contrast, both parts.
    size = max([_total(seed.sent.abs()), *(abs(layer.arrived) for layer in layers)])
    return Conservation(
        score=_total(seed.total),
        at_input=sum(_total(r) for r in relevance),
        absorbed=sum(layer.absorbed for layer in layers),
        layers=layers,
        rounding=size * (1e-12 if seed.output.dtype == torch.float64 else 1e-6),
    )


def _total(tensor: Tensor) -> float:
    return float(tensor.double().sum())
