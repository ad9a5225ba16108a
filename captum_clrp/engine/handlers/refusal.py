"""Operations that are refused, for a known reason or because nothing is known of them."""

from __future__ import annotations

import warnings
from typing import Any

from captum_clrp.engine._torch import OpOverload
from captum_clrp.engine.handlers.operation import Operation, carries_values
from captum_clrp.engine.nested import flatten


def refuse(op: Operation, *, reason: str) -> Any:
    """Refuse for a known reason."""
    return op.refuse(reason)


def unknown(op: Operation) -> Any:
    """A function outside the table: harmless unless it makes values that could carry the signal on."""
    result = op.call.run()
    if any(carries_values(t) for t in flatten(result)):
        return op.refuse("not known to captum_clrp: it has no rule and is not known to only move values" + _remedy(op))
    return result


def taken_out(op: Operation) -> Any:
    """Values that leave PyTorch: nobody sees whether they come back."""
    if op.signal.numel() > 1:
        warnings.warn(
            f"{op.name}() in module '{op.module}' takes values that depend on the input out of PyTorch; if they "
            "come back into the model, they count as constants and get no relevance",
            stacklevel=2,
        )
    return op.call.run()


def _remedy(op: Operation) -> str:
    if any(word in op.name.lower() for word in ("attn", "attention")):
        return (
            "; a fused kernel of attention: let the model call torch.nn.functional.scaled_dot_product_attention (many "
            'libraries have a setting for it, such as attn_implementation="sdpa")'
        )
    if isinstance(op.call.func, OpOverload):
        return "; of an exported program, explain the nn.Module that it was made from"
    return ""
