"""Operations that only move values or make constants."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_clrp.bounds import Bounds
from captum_clrp.engine.calls import Call, depends_on_input, flatten
from captum_clrp.engine.handlers.common import carries_values, info_of, record_of, refuse
from captum_clrp.engine.handlers.elementwise import passing
from captum_clrp.engine.nodes import Absorb
from captum_clrp.engine.trace import Info, Trace


def constant(trace: Trace, call: Call) -> Any:
    """The result depends on the shape or on the sign of its input at most: it gets no relevance."""
    return call.run()


def refusing(reason: str) -> Callable[[Trace, Call], Any]:
    """A handler that refuses for a known reason."""
    return lambda trace, call: refuse(trace, call, reason)


def unknown(trace: Trace, call: Call) -> Any:
    """A function outside the table: harmless unless it makes values that could carry the signal on."""
    if getattr(call.func, "__self__", None) is torch.Tensor.data and call.name == "__set__":
        return refuse(trace, call, "replaces the values of a tensor behind its back; assign the variable instead")
    result = call.run()
    if any(carries_values(t) for t in flatten(result)):
        return refuse(trace, call, "not known to captum_clrp: it has no rule and is not known to only move values")
    if call.name in ("numpy", "__array__", "tolist") and call.tracked[0].numel() > 1:
        warnings.warn(
            f"{call.name}() in module '{trace.module_name}' takes values that depend on the input out of PyTorch; if they "
            "come back into the model, they count as constants and get no relevance",
            stacklevel=2,
        )
    return result


def route(trace: Trace, call: Call, *, keeps_sign: bool = True) -> Any:
    """The operation's own gradient moves relevance to where the values came from."""
    call = call.without_parameters()
    nonnegative = (
        keeps_sign and len(call.tracked) == len(call.tensors) and all(trace.info(t).nonnegative for t in call.tracked)
    )
    info = info_of(trace, call, nonnegative=nonnegative)
    output = trace.route(lambda: _writable(call, call.run()), info)
    if isinstance(output, tuple | list):
        _bound_pieces(trace, call, output)
    elif output is None and isinstance(call.args[0], Tensor):  # __setitem__
        trace.describe(call.args[0], info)
    return output


def _writable(call: Call, output: Any) -> Any:
    """Pieces of a tensor as views made one by one: PyTorch lets nobody write to views that one function made together."""
    if not isinstance(output, tuple | list) or len(call.tensors) != 1:
        return output
    (source,) = call.tensors
    memory = source.untyped_storage().data_ptr()
    if any(p.untyped_storage().data_ptr() != memory for p in output):
        return output
    return tuple(source.as_strided(p.size(), p.stride(), p.storage_offset()) for p in output)


def _bound_pieces(trace: Trace, call: Call, pieces: Sequence[Any]) -> None:
    """Bounds of the pieces of a tensor that is split before the first weighted operation."""
    bounds = trace.info(call.tracked[0]).bounds
    if len(call.tracked) != 1 or bounds is None:
        return
    lows, highs = (call.as_function_of(call.tracked[0])(side) for side in bounds)
    for piece, low, high in zip(pieces, lows, highs, strict=True):
        if depends_on_input(piece):
            trace.describe(piece, trace.info(piece)._replace(bounds=Bounds(low, high)))


def join(trace: Trace, call: Call) -> Any:
    """Several tensors side by side; what constants among them receive is absorbed and accounted for."""
    anchor = call.tracked[0]

    def accounted(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or depends_on_input(value):
            return value
        node = Absorb(record_of(trace, call, "absorbed", "constants take their share"))
        return trace.propagate(node, value.detach().clone, [anchor], Info())

    return (
        route(trace, call.changed(accounted), keeps_sign=False)
        if len(call.tensors) > len(call.tracked)
        else route(trace, call)
    )


def choose(trace: Trace, call: Call) -> Any:
    """The winner takes all; where a constant wins, relevance passes as through any saturated activation."""
    others = [t for t in call.tensors if not depends_on_input(t)]
    if len(call.tracked) == 1 and (others or call.name in ("masked_fill", "masked_fill_", "where")):
        return passing()(trace, call)
    return route(trace, call, keeps_sign=call.name not in ("minimum", "maximum") or not others)


def overwrite(trace: Trace, call: Call) -> Any:
    """Values written into a tensor: they move, and what was there before gets nothing."""
    return route(trace, call, keeps_sign=False)


def detached(trace: Trace, call: Call) -> Any:
    """``detach`` and ``data`` cut gradients, not values: relevance passes."""
    return route(trace, Call(torch.Tensor.view_as, (call.args[0], call.args[0]), {}))
