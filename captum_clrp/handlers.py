"""How each kind of operation is run and recorded: the right-hand side of :data:`captum_clrp.operations.TABLE`.

A handler gets the trace and the call, decides which tensors receive relevance and by which rule, and runs the call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_clrp._captum import EpsilonRule
from captum_clrp.bounds import Bounds, own_range
from captum_clrp.calls import Call, depends_on_input, flatten, replace
from captum_clrp.errors import InvalidInputError, ModelStateError
from captum_clrp.linear_maps import Convolution, FullyConnected, LinearMap, ProductMap
from captum_clrp.nodes import (
    CONTRIBUTIONS,
    Absorb,
    Jacobian,
    Node,
    Padding,
    Pass,
    Pooling,
    Product,
    Record,
    Sum,
    Weighted,
)
from captum_clrp.numerics import is_nonnegative
from captum_clrp.rules import Epsilon, Identity, RelevanceRule, ZBeta, ZPlus, rule_of
from captum_clrp.trace import Info, Trace

# -- what a result is known to be -------------------------------------------------------------------------------


def info_of(
    trace: Trace,
    call: Call,
    *,
    nonnegative: bool = False,
    gate: bool | None = None,
    monotone: bool = True,
) -> Info:
    """Flags of a result, and its bounds as long as it lies before the first weighted operation."""
    infos = [trace.info(t) for t in call.tracked]
    in_input_domain = all(i.bounds is not None for i in infos)
    return Info(
        nonnegative=nonnegative,
        gate=all(i.gate for i in infos) if gate is None else gate,
        bounds=follow_bounds(trace, call, monotone) if in_input_domain else None,
    )


def follow_bounds(trace: Trace, call: Call, monotone: bool) -> Bounds | None:
    """Bounds of a result of tensors that have bounds.

    Monotone operations run on the bounds as they run on the tensor, in place and on views as well; otherwise the
    result's own range per channel serves, which is always a valid domain.
    """
    overwritten: object = call.args[0] if call.overwrites else None

    def run_on(side: Callable[[Tensor], Tensor]) -> Any:
        def stand_in(value: Any) -> Any:
            if depends_on_input(value):
                return side(value)
            if isinstance(value, Tensor):
                plain: Tensor = value.detach()
                return plain.clone() if value is overwritten else plain
            return value

        on_bounds = call.changed(stand_in)
        result = on_bounds.run()
        return on_bounds.args[0] if result is None and call.overwrites else result

    if monotone:
        low = run_on(lambda t: trace.info(t).bounds.low)  # type: ignore[union-attr]
        high = run_on(lambda t: trace.info(t).bounds.high)  # type: ignore[union-attr]
        if not isinstance(low, Tensor) or not isinstance(high, Tensor):
            return None
        if bool((low > high).any()):
            lower, upper = torch.minimum(low, high), torch.maximum(low, high)
            if call.overwrites:  # views of these bounds see it, as views of the tensor do
                return Bounds(low.copy_(lower), high.copy_(upper))
            return Bounds(lower, upper)
        return Bounds(low, high)
    own = run_on(lambda t: t.detach().clone())
    return own_range(own) if isinstance(own, Tensor) and own.dim() >= 2 else None


def record_of(trace: Trace, call: Call, rule: object, reason: str) -> Record:
    """What a report says of the operation."""
    return Record(call.name, trace.module_name, str(rule), reason)


def refuse(trace: Trace, call: Call, reason: str) -> Any:
    """Note the refusal and let the model run on, so that one error can name all refused operations."""
    trace.refuse(call.name, reason)
    result = call.run()
    if call.overwrites:
        return result

    def link(value: Any) -> Any:
        if not carries_values(value):
            return value
        value = value.dequantize() if value.is_quantized else value.detach()
        return value + anchor.to(value.dtype)

    with torch.enable_grad():
        anchor = call.tracked[0].flatten()[:1].sum() * 0
    return trace.route(lambda: replace(result, link), Info())


# -- values that only move, constants ---------------------------------------------------------------------------


def constant(trace: Trace, call: Call) -> Any:
    """The result depends on the shape or on the sign of its input at most: it gets no relevance."""
    return call.run()


def refusing(reason: str) -> Callable[[Trace, Call], Any]:
    """A handler that refuses for a known reason."""
    return lambda trace, call: refuse(trace, call, reason)


def unknown(trace: Trace, call: Call) -> Any:
    """A function outside the table: harmless unless it makes values that could carry the signal on."""
    if getattr(call.func, "__self__", None) is torch.Tensor.data and call.name == "__set__":
        return refuse(
            trace,
            call,
            "replaces the values of a tensor behind its back; assign the variable instead",
        )
    result = call.run()
    if any(carries_values(t) for t in flatten(result)):
        return refuse(
            trace,
            call,
            "not known to captum_clrp: it has no rule and is not known to only move values",
        )
    if call.name in ("numpy", "__array__", "tolist") and call.tracked[0].numel() > 1:
        warnings.warn(
            f"{call.name}() in module '{trace.module_name}' takes values that depend on the input out of PyTorch; if they "
            "come back into the model, they count as constants and get no relevance",
            stacklevel=2,
        )
    return result


def carries_values(value: Any) -> bool:
    """Whether ``value`` is a tensor of real, complex or quantised numbers, not of indices or truth values."""
    return isinstance(value, Tensor) and (
        value.is_floating_point() or value.is_complex() or value.is_quantized
    )


def route(trace: Trace, call: Call, *, keeps_sign: bool = True) -> Any:
    """The operation's own gradient moves relevance to where the values came from."""
    call = call.without_parameters()
    nonnegative = (
        keeps_sign
        and len(call.tracked) == len(call.tensors)
        and all(trace.info(t).nonnegative for t in call.tracked)
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
        if (
            not isinstance(value, Tensor)
            or not value.is_floating_point()
            or depends_on_input(value)
        ):
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


# -- element by element -----------------------------------------------------------------------------------------


def passing(
    *,
    nonnegative: bool = False,
    keeps_sign: bool = False,
    gate: bool | None = None,
    monotone: bool = True,
) -> Callable[[Trace, Call], Any]:
    """Relevance passes unchanged from the result to the first tensor."""

    def handler(trace: Trace, call: Call) -> Any:
        signal = call.tracked[0]
        own_rule = unweighted_rule(trace)
        if isinstance(own_rule, Epsilon):
            return by_epsilon(trace, call, own_rule)
        info = info_of(
            trace, call, gate=gate, monotone=monotone,
            nonnegative=nonnegative or (keeps_sign and trace.info(signal).nonnegative),
        )  # fmt: skip
        node = Pass(record_of(trace, call, "pass", "acts on each value by itself"), signal.shape)
        return trace.propagate(node, call.run, [signal], info)

    return handler


def normalization(trace: Trace, call: Call) -> Any:
    """Normalisation by statistics is bypassed; where it would change the model's statistics it is refused at once."""
    statistics = call.get(
        3 if call.func in (torch.batch_norm, torch.instance_norm) else 1, "running_mean"
    )
    updates = call.get(
        5, "training" if call.name == "batch_norm" else "use_input_stats", call.name != "batch_norm"
    )
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


def unweighted_rule(trace: Trace) -> RelevanceRule | None:
    """A rule that the user set on the very module that runs an operation without weights."""
    chosen = trace.user_rule()
    if chosen is None or not trace.scope or chosen[1] is not trace.scope[-1]:
        return None
    rule, module = chosen
    if isinstance(rule, EpsilonRule) and not isinstance(
        rule_of(rule, module, trace.module_name), Identity
    ):
        return Epsilon(rule.STABILITY_FACTOR)
    return rule if isinstance(rule, RelevanceRule) else None


def by_epsilon(trace: Trace, call: Call, rule: Epsilon) -> Any:
    """The epsilon rule where a user assigned it to an operation without weights."""
    signal = call.tracked[0]
    node = Jacobian(
        record_of(trace, call, rule, "set by the user as module.rule"),
        trace.save(signal), call.as_function_of(signal), rule.epsilon,
    )  # fmt: skip
    return trace.propagate(node, call.run, [signal], info_of(trace, call))


# -- weighted operations ----------------------------------------------------------------------------------------


def weighted(trace: Trace, call: Call, signal: Tensor, layer: LinearMap) -> Any:
    """Any weighted operation: find its rule, run it, record it."""
    info = trace.info(signal)
    chosen = trace.user_rule()
    rule: RelevanceRule
    if chosen is not None:
        rule, reason = rule_of(*chosen, trace.module_name), "set by the user as module.rule"
    elif info.bounds is not None:
        low, high = info.bounds  # which rounding on the way may have moved across the signal
        rule, reason = (
            ZBeta(signal.detach().minimum(low), signal.detach().maximum(high)),
            "first weighted operation",
        )
    else:
        rule, reason = ZPlus(), "weighted operation on activations"
    node = Weighted(
        record_of(trace, call, rule, reason), trace.save(signal), layer, rule,
        nonnegative=info.nonnegative or is_nonnegative(signal.detach()),
        conserve=trace.settings.conserve,
    )  # fmt: skip
    return trace.propagate(node, call.run, [signal], Info())


def _constant_weight(weight: Tensor) -> Tensor:
    """Weights that the model computes from its input (dynamic convolution) act like gates: they get no relevance."""
    return weight.detach() if depends_on_input(weight) else weight


_WEIGHTS_ONLY = "its weights depend on the input and its operand does not"


def linear(trace: Trace, call: Call) -> Any:
    """``F.linear``: a fully connected layer."""
    signal, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    if not depends_on_input(signal):
        return refuse(trace, call, _WEIGHTS_ONLY)
    return weighted(trace, call, signal, FullyConnected(_constant_weight(weight), bias))


def convolution(trace: Trace, call: Call) -> Any:
    """Convolutions and transposed convolutions of 1 to 3 dimensions."""
    signal, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    if not depends_on_input(signal):
        return refuse(trace, call, _WEIGHTS_ONLY)
    spatial = weight.dim() - 2
    if signal.dim() != spatial + 2:
        raise InvalidInputError(
            f"{call.name} in module '{trace.module_name}' got a tensor of shape {tuple(signal.shape)}; it needs "
            f"{spatial + 2} dimensions of which the first counts examples: add it with inputs.unsqueeze(0)"
        )
    transposed = "transpose" in call.name
    stride, padding = call.get(3, "stride", 1), call.get(4, "padding", 0)
    dilation = per_dimension(call.get(7 if transposed else 5, "dilation", 1), spatial)
    groups = call.get(6, "groups", 1)
    uneven: list[int] = []
    if isinstance(padding, str):
        totals = [
            d * (k - 1) if padding == "same" else 0
            for d, k in zip(dilation, weight.shape[2:], strict=True)
        ]
        if any(total % 2 for total in totals):  # one side gets one more
            uneven = [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
            totals = [0] * spatial
        padding = [total // 2 for total in totals]
    layer = Convolution(
        _constant_weight(weight), bias,
        stride=per_dimension(stride, spatial), padding=per_dimension(padding, spatial), dilation=dilation,
        groups=groups, transposed=transposed,
        output_padding=per_dimension(call.get(5, "output_padding", 0), spatial) if transposed else None,
        uneven_padding=uneven,
    )  # fmt: skip
    return weighted(trace, call, signal, layer)


def per_dimension(value: Any, dimensions: int) -> list[int]:
    """An argument such as ``stride`` as one number for each spatial dimension."""
    values = list(value) if isinstance(value, tuple | list) else [value]
    return [int(v) for v in (values * dimensions if len(values) == 1 else values)]


def product_with_constant(
    trace: Trace, call: Call, operands: Sequence[Any], multiply: Callable[..., Tensor]
) -> Any:
    """``matmul`` or ``einsum``: a linear map if one operand is constant, attention if neither is."""
    dependent = [depends_on_input(t) for t in operands]
    if len(operands) != 2 or sum(dependent) != 1:
        return refuse(
            trace,
            call,
            "a product of two activations, as in attention; transformers are not supported",
        )
    if dependent[0]:
        return weighted(trace, call, operands[0], ProductMap(operands[1], multiply))
    return weighted(trace, call, operands[1], ProductMap(operands[0], lambda a, w: multiply(w, a)))


def matmul(trace: Trace, call: Call) -> Any:
    """``matmul`` and its kin with a constant matrix."""
    operands = [t for t in flatten((call.args, call.kwargs)) if isinstance(t, Tensor)]
    if call.name == "addmm":
        operands = operands[1:]
    if call.name == "__rmatmul__":
        operands.reverse()
    return product_with_constant(trace, call, operands, torch.matmul)


def einsum(trace: Trace, call: Call) -> Any:
    """``einsum`` with a constant tensor."""
    equation = call.args[0]
    operands = [t for t in flatten(call.args[1:]) if isinstance(t, Tensor)]
    return product_with_constant(trace, call, operands, lambda a, b: torch.einsum(equation, a, b))


# -- sums and products ------------------------------------------------------------------------------------------

_REFLECTED = ("__radd__", "__rsub__", "rsub", "__rmul__", "__rtruediv__", "__rdiv__")


def _operands(call: Call) -> tuple[Any, Any]:
    a, b = call.args[0], call.get(1, "other")
    return (b, a) if call.name in _REFLECTED else (a, b)


def _is_nonnegative(trace: Trace, value: Any) -> bool:
    if depends_on_input(value):
        return trace.info(value).nonnegative
    if isinstance(value, Tensor):
        return value.numel() <= 4096 and is_nonnegative(value)
    return isinstance(value, float | int) and value >= 0


def _overwritten(call: Call, signals: list[Tensor]) -> Tensor | None:
    """The tensor that the call works on in place, unless it is one of the signals."""
    first = call.args[0]
    others = call.overwrites and isinstance(first, Tensor) and all(first is not s for s in signals)
    return first if others else None


def add(trace: Trace, call: Call) -> Any:
    """Sum or difference: shares of the positive parts; constants are bypassed like biases."""
    call = call.without_parameters()
    a, b = _operands(call)
    scale = float(call.get(2, "alpha", 1)) * (-1.0 if "sub" in call.name else 1.0)
    nonnegative = scale > 0 and _is_nonnegative(trace, a) and _is_nonnegative(trace, b)
    if len(call.tracked) == 1:
        signal = call.tracked[0]
        info = info_of(trace, call, nonnegative=nonnegative)
        node: Node = Pass(
            record_of(trace, call, "pass", "sum with a constant, bypassed like a bias"),
            signal.shape,
        )
        return trace.propagate(node, call.run, [signal], info, _overwritten(call, [signal]))
    info = info_of(trace, call, nonnegative=nonnegative, monotone=scale > 0)
    record = record_of(trace, call, "sum", "shares of the positive parts")
    node = Sum(record, trace.save(a), trace.save(b), scale, nonnegative=nonnegative)
    if call.overwrites:
        trace.before_overwriting(call.args[0])
    return trace.propagate(node, call.run, [a, b], info)


def add_product(trace: Trace, call: Call) -> Any:
    """``addcmul`` and ``addcdiv``: a sum whose second term is a product or quotient."""
    if call.overwrites:
        return refuse(trace, call, "in place; write it as a product and a sum")
    base, a, b = call.get(0, "input"), call.get(1, "tensor1"), call.get(2, "tensor2")
    value = call.kwargs.get("value", 1)
    times = torch.div if call.name == "addcdiv" else torch.mul
    scaled = Call(torch.mul, (a, value), {})
    a = (
        multiply(trace, scaled)
        if depends_on_input(a) and value != 1
        else scaled.run()
        if value != 1
        else a
    )
    product = Call(times, (a, b), {})
    term = multiply(trace, product) if product.tracked else product.run()
    return add(trace, Call(torch.add, (base, term), {}))


def multiply(trace: Trace, call: Call) -> Any:
    """Product or quotient: relevance follows the signal; gates, constants and denominators get none."""
    call = call.without_parameters()
    a, b = _operands(call)
    divides = "div" in call.name
    if divides and not depends_on_input(a):
        return refuse(
            trace, call, "a constant divided by an activation; no rule says how it shares relevance"
        )
    if len(call.tracked) == 1:
        signals, why = call.tracked, "product with a constant"
    elif divides:
        signals, why = [a], "follows the numerator"
    else:
        signals, why = signals_of_product(trace, a, b)
    nonnegative = _is_nonnegative(trace, a) and _is_nonnegative(trace, b)
    info = info_of(trace, call, nonnegative=nonnegative, monotone=len(call.tracked) == 1)
    if len(signals) == 2:
        node: Node = Product(record_of(trace, call, "half to each", why), (a.shape, b.shape))
    else:
        node = Pass(record_of(trace, call, "pass", why), signals[0].shape)
    return trace.propagate(node, call.run, signals, info, _overwritten(call, signals))


def signals_of_product(trace: Trace, a: Tensor, b: Tensor) -> tuple[list[Tensor], str]:
    """Which factors carry the signal: not a gate, not the one that is broadcast; otherwise both."""
    gate_a, gate_b = trace.info(a).gate, trace.info(b).gate
    if gate_a != gate_b:
        return [b if gate_a else a], "follows the signal, not the gate"
    if a.numel() != b.numel():
        return [a if a.numel() > b.numel() else b], "follows the signal, not the broadcast gate"
    return [a, b], "two signals of one shape"


# -- pooling, padding -------------------------------------------------------------------------------------------


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
        return trace.propagate(
            node, call.run, [signal], info_of(trace, call, nonnegative=nonnegative)
        )

    return handler


def clamping(trace: Trace, call: Call) -> Any:
    """Clamped activations: without negative values if neither end is negative."""
    lowest, highest = (
        call.get(1, "min", call.kwargs.get("min_val")),
        call.get(2, "max", call.kwargs.get("max_val")),
    )
    if call.name.startswith("clamp_max"):
        lowest, highest = None, call.get(1, "max")
    ends = [end for end in (lowest, highest) if end is not None]
    signs_known = all(isinstance(end, int | float) and end >= 0 for end in ends)
    return passing(nonnegative=signs_known and lowest is not None, keeps_sign=signs_known)(
        trace, call
    )


def deviation(trace: Trace, call: Call) -> Any:
    """Variance and standard deviation: shares of the squared deviations that they sum."""
    signal, dim = call.tracked[0], call.get(1, "dim")
    dims = (
        tuple(range(signal.dim())) if dim is None or isinstance(dim, bool) else dim
    )  # a bool is ``unbiased``
    keepdim = bool(call.get(3, "keepdim", False))
    node = Pooling(
        record_of(trace, call, "squares", "shares of squared deviations from the mean"), trace.save(signal),
        lambda values: values.sum(dims, keepdim),
        (lambda x: (x - x.mean(dims, keepdim=True)).square(), torch.ones_like),
    )  # fmt: skip
    return trace.propagate(
        node, call.run, [signal], info_of(trace, call, nonnegative=True, monotone=False)
    )


def lp_pooling(trace: Trace, call: Call) -> Any:
    """``(sum |x|^p)^(1/p)``: shares of ``|x|^p``."""
    signal, power = call.get(0, "input"), float(call.get(1, "norm_type"))
    kernel, stride, ceil = (
        call.get(2, "kernel_size"),
        call.get(3, "stride"),
        call.get(4, "ceil_mode", False),
    )
    mean = {"lp_pool1d": F.avg_pool1d, "lp_pool2d": F.avg_pool2d}.get(call.name, F.avg_pool3d)
    node = Pooling(
        record_of(trace, call, "sizes", f"shares of |x|^{power:g}"), trace.save(signal),
        lambda values: mean(values, kernel, stride, 0, ceil),
        (lambda x: x.abs().pow(power), torch.ones_like),
    )  # fmt: skip
    return trace.propagate(
        node, call.run, [signal], info_of(trace, call, nonnegative=True, monotone=False)
    )


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


def gated_linear_unit(trace: Trace, call: Call) -> Any:
    """``a * sigmoid(b)`` of two halves: relevance follows ``a``."""
    signal, dim = call.get(0, "input"), call.get(1, "dim", -1)
    half = route(trace, Call(torch.Tensor.chunk, (signal, 2, dim), {}))[0]
    node = Pass(record_of(trace, call, "pass", "follows the signal, not the gate"), half.shape)
    return trace.propagate(node, call.run, [half], info_of(trace, call)._replace(bounds=None))
