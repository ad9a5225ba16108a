"""Activations, normalisation, dropout: element by element."""

from __future__ import annotations

from typing import Any

from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.nodes import Pass
from captum_clrp.errors import ModelStateError


def passing(
    op: Operation,
    *,
    nonnegative: bool = False,
    keeps_sign: bool = False,
    gate: bool | None = None,
    monotone: bool = True,
    reason: str = "acts on each value by itself",
) -> Any:
    """Relevance passes unchanged from the result to the first tensor.

    Args:
        op: The operation.
        nonnegative: Whether the result has no negative value.
        keeps_sign: Whether it has none if its first tensor has none.
        gate: Whether the result counts as a gate in products; ``None``: if its tensors do.
        monotone: Whether bounds of the input can be carried through it.
        reason: For the report.
    """
    signal = op.signal
    own_rule = op.own_epsilon()
    if own_rule is not None:
        return op.propagate_epsilon(own_rule)
    nonnegative = nonnegative or (keeps_sign and op.nonnegative(signal))
    info = op.info(gate=gate, monotone=monotone, nonnegative=nonnegative)
    return op.propagate(Pass(op.record("pass", reason), signal.shape), [signal], info)


def normalization(op: Operation, *, statistics: str = "", default: bool = False) -> Any:
    """Normalisation is bypassed; where it would change the model's statistics it is refused at once.

    Args:
        op: The operation.
        statistics: The argument that says whether it takes the statistics of the batch (and updates its own).
        default: Its value if it is not given.
    """
    of_batch = bool(op.get(statistics, default))
    if of_batch and op.get("running_mean") is not None:
        raise ModelStateError(
            f"{op.name} in module '{op.module}' runs in training mode and would change its running statistics; "
            "call model.eval() first, and pass training=self.training to functional normalisation"
        )
    return passing(op, monotone=statistics == "training", reason=op.rule_for("normalization", op.signal).reason)


def evaluated_dropout(op: Operation) -> Any:
    """Dropout is the identity in evaluation; in training it is refused at once."""
    if op.get("training", True) and op.get("p", 0.5) > 0:
        raise ModelStateError(
            f"{op.name} in module '{op.module}' runs in training mode and would drop values at random; "
            "call model.eval() first, and pass training=self.training to functional dropout"
        )
    return passing(op, keeps_sign=True)


def clamping(op: Operation) -> Any:
    """Clamped activations: without negative values if neither end is negative."""
    lowest, highest = op.get("min"), op.get("max")
    ends = [end for end in (lowest, highest) if end is not None]
    signs_known = all(isinstance(end, int | float) and end >= 0 for end in ends)
    return passing(op, nonnegative=signs_known and lowest is not None, keeps_sign=signs_known)
