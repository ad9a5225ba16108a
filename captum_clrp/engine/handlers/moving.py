"""Operations that only move values or make constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.bounds import Bounds
from captum_clrp.engine._torch import base_of
from captum_clrp.engine.calls import Call
from captum_clrp.engine.handlers.elementwise import larger, passing
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.marks import Info, depends_on_input
from captum_clrp.engine.nodes import Absorb, Padding


def constant(op: Operation) -> Any:
    """The result depends on the sign of its input at most: it gets no relevance."""
    if op.call.overwrites:
        return op.refuse("in place, which cuts the signal where it stands; write it as x = x.sign()")
    return op.call.run()


def shaped(op: Operation) -> Any:
    """The result has the shape of its input at most: it gets no relevance."""
    return op.call.run()


def route(op: Operation, *, keeps_sign: bool = True) -> Any:
    """The operation's own gradient moves relevance to where the values came from."""
    if op.call.kwargs.get("sparse_grad"):
        return op.refuse("with sparse_grad=True, a gradient that relevance does not take; leave that argument out")
    op = op.with_constants_detached()
    call = op.call
    nonnegative = keeps_sign and all(depends_on_input(t) and op.nonnegative(t) for t in call.tensors)
    info = op.info(nonnegative=nonnegative)
    output = op.trace.route(lambda: _writable(call, call.run()), info)
    if isinstance(output, tuple | list):
        _bound_pieces(op, output)
    elif output is None and call.overwrites:  # __setitem__
        op.trace.describe(call.overwritten, info)
    return output


def route_as(op: Operation) -> Any:
    """Likewise, where a second tensor lends its shape or type alone."""
    return route(op.of(op.call.func, op.get("input"), op.get("other").detach()))


def _writable(call: Call, output: Any) -> Any:
    """Pieces of a tensor as views made one by one: PyTorch lets nobody write to views that one function made together."""
    if not isinstance(output, tuple | list) or len(call.tensors) != 1:
        return output
    (source,) = call.tensors
    memory = source.untyped_storage().data_ptr()
    if not memory or any(p.untyped_storage().data_ptr() != memory for p in output):  # nothing has no memory
        return output
    return tuple(source.as_strided(p.size(), p.stride(), p.storage_offset()) for p in output)


def _bound_pieces(op: Operation, pieces: Sequence[Any]) -> None:
    """Bounds of the pieces of a tensor that is split before the first weighted operation."""
    bounds = op.trace.info(op.signal).bounds
    if len(op.call.tracked) != 1 or bounds is None:
        return
    lows, highs = (op.call.as_function_of(op.signal)(side) for side in bounds)
    for piece, low, high in zip(pieces, lows, highs, strict=True):
        if depends_on_input(piece):
            op.trace.describe(piece, op.trace.info(piece)._replace(bounds=Bounds(low, high)))


def join(op: Operation) -> Any:
    """Several tensors side by side; what constants among them receive is absorbed and accounted for."""
    anchor, spread = op.signal, op.trace.settings.conserve

    def accounted(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or depends_on_input(value):
            return value
        reason = (
            "a class token or another parameter takes its share" if _is_learnt(value) else "constants take their share"
        )
        dim = op.get("dim", 0) % value.dim() if spread and value.dim() == anchor.dim() else 0
        node = Absorb(op.record("absorbed", reason), op.save(anchor) if dim > 0 else None, dim)
        return op.trace.propagate(node, value.detach().clone, [anchor], Info())

    constants = len(op.call.tensors) > len(op.call.tracked)
    if not constants:
        return route(op)
    return route(Operation(op.trace, op.call.changed(accounted)), keeps_sign=False)


def _is_learnt(value: Tensor) -> bool:
    return isinstance(value, nn.Parameter) or isinstance(base_of(value), nn.Parameter)


def choose(op: Operation, *, masked: bool = False) -> Any:
    """The winner takes all; where a constant wins, relevance passes as through any saturated activation.

    Args:
        op: The operation.
        masked: Whether a mask chooses, so that one signal has a constant beside it even if that is a number.
    """
    others = any(not depends_on_input(t) for t in op.call.tensors)
    if len(op.call.tracked) == 1 and (others or masked):
        return passing(op)
    return route(op)


def overwrite(op: Operation) -> Any:
    """Values written into a tensor: they move, and what was there before gets nothing."""
    return route(op, keeps_sign=False)


def detached(op: Operation) -> Any:
    """``detach`` and ``data`` cut gradients, not values: relevance passes."""
    return route_as(op.of(torch.Tensor.view_as, op.signal, op.signal))


def pad(op: Operation) -> Any:
    """Zeros (or another constant) around the values keep no relevance; reflected and replicated values route."""
    signal, value = op.signal, op.get("value") or 0.0
    if op.get("mode", "constant") != "constant":
        return route(op)
    node = Padding(op.record("padding", "padding keeps no relevance"), op.get("pad"))
    return op.propagate(node, [signal], op.info(nonnegative=op.nonnegative(signal) and value >= 0))


def extreme(op: Operation, *, sign: int) -> Any:
    """The largest (``sign=1``) or smallest value over dimensions: one winner takes all, the first one at ties."""
    signal, dims, keepdim = op.signal, op.get("dim"), bool(op.get("keepdim", False))
    dims = [dims] if isinstance(dims, int) else list(dims or range(signal.dim()))
    dims = sorted(d % signal.dim() for d in dims)
    rest = [d for d in range(signal.dim()) if d not in dims]

    def winner() -> Tensor:
        in_line = signal.permute(*rest, *dims).flatten(len(rest)) if len(dims) < signal.dim() else signal.flatten()
        chosen = (in_line if sign > 0 else -in_line).detach().argmax(-1, keepdim=True)
        value = in_line.gather(-1, chosen).squeeze(-1)
        return value.reshape([1 if d in dims else signal.shape[d] for d in range(signal.dim())]) if keepdim else value

    return op.trace.route(winner, op.info(nonnegative=op.nonnegative(signal)))


def greatest(op: Operation, *, sign: int) -> Any:
    """``max`` (``sign=1``) and ``min`` of two tensors, over a dimension, or of everything; one winner at ties."""
    dim = op.get("dim")
    other = op.get("other", dim if isinstance(dim, Tensor) else None)
    if other is not None:
        return larger(op.of(torch.maximum if sign > 0 else torch.minimum, op.get("input"), other), sign=sign)
    return route(op) if dim is not None else extreme(op, sign=sign)


def median(op: Operation) -> Any:
    """The median over a dimension, or of everything: at ties one value takes all."""
    if op.get("dim") is not None:
        return route(op)
    signal = op.signal
    return op.trace.route(lambda: signal.flatten().median(0).values, op.info(nonnegative=op.nonnegative(signal)))


def overwrite_at(op: Operation) -> Any:
    """``index_put`` and ``scatter``: values written to places; what is added there instead is refused."""
    if op.get("accumulate", False) or op.get("reduce") is not None:
        return op.refuse("it adds to (or multiplies) the values that it finds; write it as a sum (or a product)")
    return overwrite(op)


def copied(op: Operation) -> Any:
    """``copy.deepcopy`` of a tensor."""
    return route(op.of(torch.Tensor.clone, op.signal))
