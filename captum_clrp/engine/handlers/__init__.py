"""How each kind of operation is run and recorded: the right-hand side of :data:`captum_clrp.engine.operations.TABLE`.

A handler gets the trace and the call, decides which tensors receive relevance and by which rule, and runs the call.
"""

from captum_clrp.engine.handlers.arithmetic import add, add_product, gated_linear_unit, multiply
from captum_clrp.engine.handlers.elementwise import clamping, evaluated_dropout, normalization, passing
from captum_clrp.engine.handlers.means import constant_padding, deviation, interpolation, lp_pooling, pooling
from captum_clrp.engine.handlers.moving import choose, constant, detached, join, overwrite, refusing, route, unknown
from captum_clrp.engine.handlers.weighted import convolution, einsum, linear, matmul

__all__ = [
    "add",
    "add_product",
    "choose",
    "clamping",
    "constant",
    "constant_padding",
    "convolution",
    "detached",
    "deviation",
    "einsum",
    "evaluated_dropout",
    "gated_linear_unit",
    "interpolation",
    "join",
    "linear",
    "lp_pooling",
    "matmul",
    "multiply",
    "normalization",
    "overwrite",
    "passing",
    "pooling",
    "refusing",
    "route",
    "unknown",
]
