"""Means and sums over regions: pooling, interpolation; and padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from captum_clrp.engine.calls import Call
from captum_clrp.engine.handlers.common import by_epsilon, info_of, record_of, unweighted_rule
from captum_clrp.engine.handlers.moving import route
from captum_clrp.engine.nodes import CONTRIBUTIONS, Padding, Pooling
from captum_clrp.engine.trace import Trace
from captum_clrp.rules import Epsilon


def pooling(contributions: str | None = None) -> Callable[[Trace, Call], Any]:
    """A mean or sum with weights of one sign. ``None`` takes what the user chose with ``avg_pool``."""

    def handler(trace: Trace, call: Call) -> Any:
        signal = call.tracked[0]
        own_rule = unweighted_rule(trace)
        if isinstance(own_rule, Epsilon):
            return by_epsilon(trace, call, own_rule)
        how = contributions or trace.settings.avg_pool
        record = record_of(trace, call, how, "a mean or sum of activations")
        node = Pooling(record, trace.save(signal), call.as_function_of(signal), CONTRIBUTIONS[how])
        nonnegative = trace.info(signal).nonnegative
        return trace.propagate(node, call.run, [signal], info_of(trace, call, nonnegative=nonnegative))

    return handler


def deviation(trace: Trace, call: Call) -> Any:
    """Variance and standard deviation: shares of the squared deviations that they sum."""
    signal, dim = call.tracked[0], call.get(1, "dim")
    dims = tuple(range(signal.dim())) if dim is None or isinstance(dim, bool) else dim  # a bool is ``unbiased``
    keepdim = bool(call.get(3, "keepdim", False))
    node = Pooling(
        record_of(trace, call, "squares", "shares of squared deviations from the mean"),
        trace.save(signal),
        lambda values: values.sum(dims, keepdim),
        (lambda x: (x - x.mean(dims, keepdim=True)).square(), torch.ones_like),
    )
    return trace.propagate(node, call.run, [signal], info_of(trace, call, nonnegative=True, monotone=False))


def lp_pooling(trace: Trace, call: Call) -> Any:
    """``(sum |x|^p)^(1/p)``: shares of ``|x|^p``."""
    signal, power = call.get(0, "input"), float(call.get(1, "norm_type"))
    kernel, stride, ceil = (call.get(2, "kernel_size"), call.get(3, "stride"), call.get(4, "ceil_mode", False))
    mean = {"lp_pool1d": F.avg_pool1d, "lp_pool2d": F.avg_pool2d}.get(call.name, F.avg_pool3d)
    node = Pooling(
        record_of(trace, call, "sizes", f"shares of |x|^{power:g}"),
        trace.save(signal),
        lambda values: mean(values, kernel, stride, 0, ceil),
        (lambda x: x.abs().pow(power), torch.ones_like),
    )
    return trace.propagate(node, call.run, [signal], info_of(trace, call, nonnegative=True, monotone=False))


def interpolation(trace: Trace, call: Call) -> Any:
    """Nearest neighbours and bicubic weights (of both signs, sum one) route; other weights are means."""
    mode = call.get(3, "mode", "nearest")
    if mode in ("nearest", "nearest-exact", "bicubic"):
        return route(trace, call, keeps_sign=mode != "bicubic")
    return pooling("proportional")(trace, call)


def constant_padding(trace: Trace, call: Call) -> Any:
    """Zeros (or another constant) around the values; reflected and replicated values route."""
    signal, pad = call.get(0, "input"), call.get(1, "pad")
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value") or 0.0
    if mode != "constant":
        return route(trace, call)
    nonnegative = trace.info(signal).nonnegative and value >= 0
    node = Padding(record_of(trace, call, "padding", "padding keeps no relevance"), pad)
    return trace.propagate(node, call.run, [signal], info_of(trace, call, nonnegative=nonnegative))
