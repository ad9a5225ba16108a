"""How each kind of operation is run and recorded: the right-hand side of :data:`captum_clrp.engine.operations.TABLE`.

A handler gets an :class:`Operation`, decides which tensors receive relevance and by which rule, and runs it. What
distinguishes the functions that share a handler are keyword arguments, which a row of the table fixes.
"""

from captum_clrp.engine.handlers.arithmetic import add, add_product, gated_linear_unit, interpolate_linearly, multiply
from captum_clrp.engine.handlers.attention import multi_head_attention_forward, scaled_dot_product_attention, softmax
from captum_clrp.engine.handlers.elementwise import (
    clamping,
    evaluated_dropout,
    evaluated_rrelu,
    group_norm,
    larger,
    layer_norm,
    normalization,
    passing,
)
from captum_clrp.engine.handlers.means import deviation, deviation_and_mean, interpolation, lp_pooling, norm, pooling
from captum_clrp.engine.handlers.moving import (
    choose,
    constant,
    copied,
    detached,
    extreme,
    greatest,
    join,
    median,
    overwrite,
    overwrite_at,
    pad,
    route,
    route_as,
    shaped,
)
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.handlers.refusal import refuse, taken_out, unknown
from captum_clrp.engine.handlers.weighted import add_matmul, convolution, einsum, linear, matmul, tensordot

__all__ = [
    "Operation",
    "add",
    "add_matmul",
    "add_product",
    "choose",
    "clamping",
    "constant",
    "convolution",
    "copied",
    "detached",
    "deviation",
    "deviation_and_mean",
    "einsum",
    "evaluated_dropout",
    "evaluated_rrelu",
    "extreme",
    "gated_linear_unit",
    "greatest",
    "group_norm",
    "interpolate_linearly",
    "interpolation",
    "join",
    "larger",
    "layer_norm",
    "linear",
    "lp_pooling",
    "matmul",
    "median",
    "multi_head_attention_forward",
    "multiply",
    "norm",
    "normalization",
    "overwrite",
    "overwrite_at",
    "pad",
    "passing",
    "pooling",
    "refuse",
    "route",
    "route_as",
    "scaled_dot_product_attention",
    "shaped",
    "softmax",
    "taken_out",
    "tensordot",
    "unknown",
]
