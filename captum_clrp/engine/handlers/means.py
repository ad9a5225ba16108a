"""Means and sums over regions: pooling, interpolation, deviations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_clrp.engine.handlers.moving import route
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.nodes import CONTRIBUTIONS, Pooling


def pooling(op: Operation, *, contributions: str | None = None) -> Any:
    """A mean or sum with weights of one sign. ``contributions=None`` takes what the user chose with ``avg_pool``."""
    signal = op.signal
    own_rule = op.own_epsilon()
    if own_rule is not None:
        return op.propagate_epsilon(own_rule)
    how, nonnegative = contributions or op.trace.settings.avg_pool, op.nonnegative(signal)
    node = Pooling(
        op.record(how, "a mean or sum of activations"),
        op.save(signal),
        op.call.as_function_of(signal),
        CONTRIBUTIONS[how],
        signed=how == "proportional" and not nonnegative,
    )
    result = op.propagate(node, [signal], op.info(nonnegative=nonnegative))
    if _is_of_all_places(signal, result):
        node.reads = op.trace.info(signal).signed
    return result


def _is_of_all_places(signal: Tensor, result: Tensor) -> bool:
    """Whether one value of each channel is left of all places of an image, or of all tokens."""
    return result.numel() < signal.numel() and sum(length > 1 for length in result.shape[1:]) <= 1


def deviation(op: Operation) -> Any:
    """Variance and standard deviation: shares of the squared deviations that they sum."""
    signal, dim, keepdim = op.signal, op.get("dim"), bool(op.get("keepdim", False))
    dims = tuple(range(signal.dim())) if dim is None or isinstance(dim, bool) else dim  # a bool is ``unbiased``
    node = Pooling(
        op.record("squares", "shares of squared deviations from the mean"),
        op.save(signal),
        lambda values: values.sum(dims, keepdim),
        (lambda x: (x - x.mean(dims, keepdim=True)).square(), torch.ones_like),
    )
    return op.propagate(node, [signal], op.info(nonnegative=True, monotone=False))


def norm(op: Operation, *, of_matrices: bool = True) -> Any:
    """``(sum |x|^p)^(1/p)`` over dimensions: shares of ``|x|^p``. Norms of matrices and those without a power are refused.

    Args:
        op: The operation.
        of_matrices: Whether an ``ord`` over two dimensions is that of a matrix.
    """
    power, dim = op.get("ord", op.get("p")), op.get("dim")
    count = op.signal.dim() if dim is None else 1 if isinstance(dim, int) else len(dim)
    of_matrix = of_matrices and op.get("ord") is not None and count == 2
    power = 2 if power in (None, "fro") else power
    if of_matrix or isinstance(power, str) or not 0 < power < math.inf:
        return op.refuse("of a matrix, or of an order that is no power; write it with sums, or with amax")
    return pooling(op, contributions="sizes")


def lp_pooling(op: Operation, *, mean: Callable[..., Tensor]) -> Any:
    """``(sum |x|^p)^(1/p)``: shares of ``|x|^p``; ``mean`` is the average pooling of the same dimensions."""
    signal, power = op.signal, float(op.get("norm_type"))
    kernel, stride, ceil = op.get("kernel_size"), op.get("stride"), op.get("ceil_mode", False)
    node = Pooling(
        op.record("sizes", f"shares of |x|^{power:g}"),
        op.save(signal),
        lambda values: mean(values, kernel, stride, 0, ceil),
        (lambda x: x.abs().pow(power), torch.ones_like),
    )
    return op.propagate(node, [signal], op.info(nonnegative=True, monotone=False))


def interpolation(op: Operation) -> Any:
    """Nearest neighbours and bicubic weights (of both signs, sum one) route; other weights are means."""
    mode = op.get("mode", "nearest")
    if mode in ("nearest", "nearest-exact", "bicubic"):
        return route(op, keeps_sign=mode != "bicubic")
    if mode == "area":  # average pooling by another name
        return pooling(op)
    return pooling(op, contributions="proportional")


def deviation_and_mean(op: Operation, *, deviates: Callable[..., Tensor]) -> Any:
    """``var_mean`` and ``std_mean``: both, one after the other."""
    signal, dim = op.signal, op.get("dim")
    dim = None if isinstance(dim, bool) else dim
    options = {name: op.get(name) for name in ("unbiased", "correction", "keepdim") if op.get(name) is not None}
    kept = {"keepdim": bool(op.get("keepdim", False))} if dim is not None else {}
    spread = deviation(op.of(deviates, signal, **({"dim": dim} if dim is not None else {}), **options))
    average = pooling(op.of(torch.mean, signal, **({"dim": dim, **kept} if dim is not None else {})))
    return spread, average
