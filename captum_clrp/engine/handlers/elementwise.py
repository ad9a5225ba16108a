"""Activations, normalisation, dropout: element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_clrp.engine.fixed_maps import CentringMap, ShiftMap
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.marks import depends_on_input
from captum_clrp.engine.nodes import PassThrough, Shared
from captum_clrp.errors import ModelStateError
from captum_clrp.rules import Identity


def passing(
    op: Operation,
    *,
    nonnegative: bool = False,
    keeps_sign: bool = False,
    gate: bool | None = None,
    monotone: bool = True,
    rectifies: bool | None = None,
    reason: str = "acts on each value by itself",
) -> Any:
    """Relevance passes unchanged from the result to the first tensor.

    Args:
        op: The operation.
        nonnegative: Whether the result has no negative value.
        keeps_sign: Whether it has none if its first tensor has none.
        gate: Whether the result counts as a gate in products; ``None``: if its tensors do.
        monotone: Whether bounds of the input can be carried through it.
        rectifies: ``True`` where little or nothing is left of values below zero, ``False`` where values of both signs
            come about; ``None``: neither.
        reason: For the report.
    """
    signal = op.signal
    own_rule = op.own_epsilon()
    if own_rule is not None:
        return op.propagate_epsilon(own_rule)
    nonnegative = nonnegative or (keeps_sign and op.nonnegative(signal))
    info = op.info(gate=gate, monotone=monotone, nonnegative=nonnegative)
    if rectifies is not None:
        info = info._replace(signed=None if rectifies else op.here)
    return op.propagate(PassThrough(op.record("pass", reason), signal.shape), [signal], info)


def normalization(op: Operation, *, statistics: str = "", default: bool = False) -> Any:
    """Normalisation is bypassed; where it would change the model's statistics it is refused at once.

    Args:
        op: The operation.
        statistics: The argument that says whether it takes the statistics of the batch (and updates its own).
        default: Its value if it is not given.
    """
    of_batch = bool(op.get(statistics, default))
    average = op.get("running_mean")
    if of_batch and average is not None:
        raise ModelStateError(
            f"{op.name} in module '{op.module}' runs in training mode and would change its running statistics; "
            "call model.eval() first, and pass training=self.training to functional normalisation"
        )
    rule = op.trace.settings.rules.shifts
    if rule is None or average is None or op.own_epsilon() is not None:
        centres = False if statistics else None
        return passing(op, monotone=statistics == "training" and not of_batch, rectifies=centres)
    signal = op.signal
    shift = _in_units_of_input(op.get("bias"), op.get("weight"), (op.get("running_var") + op.get("eps", 1e-5)).sqrt())
    shift = (shift - average.detach()).reshape(1, -1, *[1] * (signal.dim() - 2))
    node = Shared(op.record("", "its shift takes its share"), op.save(signal), ShiftMap(shift, signal), lambda c: rule)
    return op.propagate(node, [signal], op.info()._replace(signed=op.here))


def _in_units_of_input(bias: Tensor | None, weight: Tensor | None, deviation: Tensor) -> Tensor:
    """What a normalisation adds, ``bias``, before its scale ``weight / deviation``."""
    if bias is None:
        return torch.zeros_like(deviation)
    return bias.detach() * deviation / (1.0 if weight is None else weight.detach())


def layer_norm(op: Operation) -> Any:
    """Layer normalisation: the subtraction of a mean and a scale that counts as constant."""
    shape = op.get("normalized_shape")
    dims = tuple(range(-len(shape), 0))
    op.trace.note(channel_norm=f"{op.name} in '{op.module}'")
    return _centred(op, lambda x: x.mean(dims, keepdim=True), math.prod(shape))


def group_norm(op: Operation) -> Any:
    """Group normalisation, likewise, by groups of channels."""
    groups, shape = op.get("num_groups"), op.signal.shape

    def mean(x: Tensor) -> Tensor:
        grouped = x.reshape(shape[0], groups, -1)
        return grouped.mean(-1, keepdim=True).expand_as(grouped).reshape(shape)

    return _centred(op, mean, op.signal[0].numel() // groups)


def _centred(op: Operation, mean: Callable[[Tensor], Tensor], count: int) -> Any:
    if op.own_epsilon() is not None:
        return passing(op, monotone=False, rectifies=False)
    signal, bias = op.signal, None
    if op.trace.settings.rules.shifts is not None:
        centred = signal.detach() - mean(signal.detach())
        deviation = (mean(centred.square()) + op.get("eps", 1e-5)).sqrt()
        per_channel = [1, -1, *[1] * (signal.dim() - 2)] if op.get("num_groups") else [-1]
        weight, bias = (v if v is None else v.reshape(per_channel) for v in (op.get("weight"), op.get("bias")))
        bias = _in_units_of_input(bias, weight, deviation)
    node = Shared(
        op.record("", "its scale counts as constant"),
        op.save(signal),
        CentringMap(mean, count, signal, bias),
        lambda composite: composite.centring or Identity(),
        conserve=op.trace.settings.conserve,
    )
    return op.propagate(node, [signal], op.info(monotone=False)._replace(signed=op.here))


def evaluated_dropout(op: Operation) -> Any:
    """Dropout is the identity in evaluation; in training it is refused at once."""
    if op.get("training", True) and op.get("p", 0.5) > 0:
        raise ModelStateError(
            f"{op.name} in module '{op.module}' runs in training mode and would drop values at random; "
            "call model.eval() first, and pass training=self.training to functional dropout"
        )
    return passing(op, keeps_sign=True)


def evaluated_rrelu(op: Operation) -> Any:
    """A rectifier whose slope is drawn in training, where it is refused at once."""
    if op.get("training", False):
        raise ModelStateError(
            f"{op.name} in module '{op.module}' draws its slopes in training mode; call model.eval() first"
        )
    return passing(op, keeps_sign=True, rectifies=True)


def clamping(op: Operation) -> Any:
    """Clamped activations: without negative values if neither end is negative."""
    lowest, highest = op.get("min"), op.get("max")
    if depends_on_input(lowest) or depends_on_input(highest):
        return _clamped_by_signals(op, lowest, highest)
    ends = [end for end in (lowest, highest) if end is not None]
    signs_known = all(isinstance(end, int | float) and end >= 0 for end in ends)
    return passing(op, nonnegative=signs_known and lowest is not None, keeps_sign=signs_known)


def _clamped_by_signals(op: Operation, lowest: Any, highest: Any) -> Any:
    """Ends that depend on the inputs win as in a maximum."""
    if op.call.overwrites:
        return op.refuse(
            "in place, with an end that depends on the inputs; write it with torch.maximum and torch.minimum"
        )
    result = op.get("input")
    for end, sign in ((lowest, 1), (highest, -1)):
        if end is not None:
            end = torch.as_tensor(end, dtype=result.dtype, device=result.device)
            result = larger(op.of(torch.maximum if sign > 0 else torch.minimum, result, end), sign=sign)
    return result


def larger(op: Operation, *, sign: int) -> Any:
    """The larger (``sign=1``) or smaller of two tensors, value by value: the winner takes all, the first one at ties."""
    a, b = op.get("input"), op.get("other")
    wins = (a >= b if sign > 0 else a <= b) | a.isnan()
    if depends_on_input(a) and depends_on_input(b):
        return op.trace.route(
            lambda: torch.where(wins, a, b), op.info(nonnegative=op.nonnegative(a) and op.nonnegative(b))
        )
    signs = op.nonnegative(a), op.nonnegative(b)
    return passing(op, nonnegative=any(signs) if sign > 0 else all(signs))
