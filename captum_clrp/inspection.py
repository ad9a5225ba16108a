"""Reports on a propagation: which rule each operation gets, and where relevance is absorbed."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from captum_clrp.attribution import InitialRelevance, LRPZBeta
from captum_clrp.engine._captum import TargetType, format_additional_forward_args, format_tensor_into_tuples
from captum_clrp.engine.nodes import Record
from captum_clrp.engine.propagation import Propagation, run_model
from captum_clrp.engine.trace import Settings

__all__ = ["Conservation", "LayerConservation", "Plan", "check_conservation", "explain_plan"]


class Plan(NamedTuple):
    """Every rule-bearing operation in the order in which it runs; prints as a table."""

    records: tuple[Record, ...]

    def __str__(self) -> str:
        return _table(("operation", "module", "rule", "why"), [tuple(r) for r in self.records])


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
    absorbed, and ``unaccounted = score - at_input - absorbed`` should vanish up to rounding.
    """

    score: float
    at_input: float
    absorbed: float
    layers: tuple[LayerConservation, ...]

    @property
    def unaccounted(self) -> float:
        return self.score - self.at_input - self.absorbed

    def __str__(self) -> str:
        size = max(abs(amount) for amount in (self.score, self.at_input, *(layer.arrived for layer in self.layers)))
        rounding = 1e-6 * size  # float32 keeps a sum over a network to this share of it; below it digits are noise

        def shown(amount: float, digits: int = 6) -> str:
            return f"{amount:.{digits}g}" if abs(amount) > rounding else "0"

        def share(amount: float) -> str:
            return f"{amount / self.score:.1%}" if abs(self.score) > rounding else "-"

        rows = [
            (x.operation, x.module, x.rule, shown(x.arrived), shown(x.absorbed), share(x.absorbed))
            for x in self.layers
            if abs(x.absorbed) > rounding
        ]
        lines = [
            f"score {shown(self.score)} = {shown(self.at_input)} at the input + {shown(self.absorbed)} absorbed "
            f"({shown(self.unaccounted, 2)} unaccounted)"
        ]
        if rows:
            lines.append(_table(("operation", "module", "rule", "arrived", "absorbed", "of score"), rows))
        else:
            lines.append("no operation absorbs relevance")
        return "\n".join(lines)


def explain_plan(
    model: nn.Module, inputs: Any, additional_forward_args: object | None = None, *, avg_pool: str = "proportional"
) -> Plan:
    """The rule of every operation of ``model``, without propagating anything.

    Args:
        model: The model in evaluation mode.
        inputs: Example inputs, as for :meth:`captum_clrp.LRPZBeta.attribute`.
        additional_forward_args: As there.
        avg_pool: As for :class:`captum_clrp.LRPZBeta`.

    Returns:
        A :class:`Plan`; ``print`` it.

    Raises:
        UnsupportedOperationError: naming each operation without a rule; otherwise as ``attribute``.
    """
    additional = format_additional_forward_args(additional_forward_args)
    propagation = run_model(
        model,
        format_tensor_into_tuples(inputs),
        additional if additional is not None else (),
        low=None,
        high=None,
        settings=Settings(avg_pool),
    )
    return Plan(tuple(node.record for node in propagation.trace.nodes))


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
        method: The attribution whose settings are used. Default: ``LRPZBeta(model)``.

    Returns:
        A :class:`Conservation`, summed over the batch; ``print`` it.

    Raises:
        ContrastiveLRPError: as for :meth:`captum_clrp.LRPZBeta.attribute`.
    """
    method = LRPZBeta(model) if method is None else method
    propagation: Propagation = method._run(inputs, additional_forward_args, None, (method.low, method.high))
    output, seed = method._seed(propagation, target, initial_relevance)
    for node in propagation.trace.nodes:
        node.ledger = True
    relevance = propagation.relevance(output, seed)
    layers = tuple(
        LayerConservation(*node.record[:3], node.received, node.received - node.shared)
        for node in propagation.trace.nodes
    )
    return Conservation(
        score=_total(method._total(seed)),
        at_input=sum(_total(r) for r in relevance),
        absorbed=sum(layer.absorbed for layer in layers),
        layers=layers,
    )


def _total(tensor: Tensor) -> float:
    return float(tensor.double().sum())


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    texts = [header, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
