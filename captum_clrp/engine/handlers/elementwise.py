"""Activations, normalisation, dropout: element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from captum_clrp.engine.calls import Call
from captum_clrp.engine.handlers.common import by_epsilon, info_of, record_of, unweighted_rule
from captum_clrp.engine.nodes import Pass
from captum_clrp.engine.trace import Trace
from captum_clrp.errors import ModelStateError
from captum_clrp.rules import Epsilon


def passing(
    *, nonnegative: bool = False, keeps_sign: bool = False, gate: bool | None = None, monotone: bool = True
) -> Callable[[Trace, Call], Any]:
    """Relevance passes unchanged from the result to the first tensor."""

    def handler(trace: Trace, call: Call) -> Any:
        signal = call.tracked[0]
        own_rule = unweighted_rule(trace)
        if isinstance(own_rule, Epsilon):
            return by_epsilon(trace, call, own_rule)
        info = info_of(
            trace,
            call,
            gate=gate,
            monotone=monotone,
            nonnegative=nonnegative or (keeps_sign and trace.info(signal).nonnegative),
        )
        node = Pass(record_of(trace, call, "pass", "acts on each value by itself"), signal.shape)
        return trace.propagate(node, call.run, [signal], info)

    return handler


def normalization(trace: Trace, call: Call) -> Any:
    """Normalisation by statistics is bypassed; where it would change the model's statistics it is refused at once."""
    statistics = call.get(3 if call.func in (torch.batch_norm, torch.instance_norm) else 1, "running_mean")
    updates = call.get(5, "training" if call.name == "batch_norm" else "use_input_stats", call.name != "batch_norm")
    if updates and statistics is not None:
        raise ModelStateError(
            f"{call.name} in module '{trace.module_name}' runs in training mode and would change its running statistics; "
            "call model.eval() first, and pass training=self.training to functional normalisation"
        )
    return passing(monotone=call.name == "batch_norm")(trace, call)


def evaluated_dropout(trace: Trace, call: Call) -> Any:
    """Dropout is the identity in evaluation; in training it is refused at once."""
    training, probability = call.get(2, "training", True), call.get(1, "p", 0.5)
    if training and probability > 0:
        raise ModelStateError(
            f"{call.name} in module '{trace.module_name}' runs in training mode and would drop values at random; "
            "call model.eval() first, and pass training=self.training to functional dropout"
        )
    return passing(keeps_sign=True)(trace, call)


def clamping(trace: Trace, call: Call) -> Any:
    """Clamped activations: without negative values if neither end is negative."""
    lowest, highest = (call.get(1, "min", call.kwargs.get("min_val")), call.get(2, "max", call.kwargs.get("max_val")))
    if call.name.startswith("clamp_max"):
        lowest, highest = None, call.get(1, "max")
    ends = [end for end in (lowest, highest) if end is not None]
    signs_known = all(isinstance(end, int | float) and end >= 0 for end in ends)
    return passing(nonnegative=signs_known and lowest is not None, keeps_sign=signs_known)(trace, call)
