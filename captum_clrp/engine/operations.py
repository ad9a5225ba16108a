"""The table: each torch function that carries values has a rule, routes, is a constant, or is refused with its reason.

To add an operation, add one row to :data:`ROWS`. A row names functions as users call them; they are looked up in
``torch``, ``torch.Tensor`` and ``torch.nn.functional``, with their in-place forms. What distinguishes the functions of a
handler, such as the sign of a sum, stands in the row; arguments are asked for by name. Functions whose results hold no
floating-point values (shapes, devices, comparisons, indices) need no row. Everything else that is not in the table is
refused: a silently wrong map is worse than an error.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from captum_clrp.engine._torch import c_functions
from captum_clrp.engine.calls import Call
from captum_clrp.engine.handlers import arithmetic, attention, elementwise, means, moving, refusal, weighted
from captum_clrp.engine.handlers.operation import Operation
from captum_clrp.engine.marks import depends_on_input, derived_from
from captum_clrp.engine.nested import flatten
from captum_clrp.engine.trace import Trace
from captum_clrp.errors import ContrastiveLRPError, ModelStateError


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        functions: Names, as in ``relu`` for ``torch.relu``, ``torch.relu_``, ``Tensor.relu``, ``F.relu``.
        handler: Runs and records the operation.
        rule: How relevance is shared, or why it is not.
        source: Where the rule comes from.
        conserved: What is kept and what is lost.
    """

    functions: str
    handler: Callable[[Operation], Any]
    rule: str
    source: str = ""
    conserved: str = "all"


_PAPER = "paper, section 3.1"
_BACH = "Bach et al. 2015"
_SIGNAL = "signal-take-all, Arras et al. 2017"

_CONTRIBUTIONS = (
    _PAPER + ", eq. 1",
    "all but what outputs without positive contribution receive (`conserve=True`: all)",
)
_WEIGHTED = ("z+ (first layer: z^beta)", *_CONTRIBUTIONS)
_PRODUCT_WITH_CONSTANT = ("z+ with a constant matrix; two activations are refused", *_CONTRIBUTIONS)
_ATTENTION = ("rule of the composite for mixing, the weights counting as constants", "Ali et al. 2022", "all")
_CENTRED = (
    "`gamma`: the mean is subtracted by its rule, the scale is a constant; `paper`: bypassed",
    "Ali et al. 2022",
)
_SUM = ("shares of the positive parts, else of the sizes, else equal; constants are bypassed", "z+ for a sum")
_PRODUCT = (
    "follows the signal, not the gate (or the broadcast factor, the constant, the denominator); two signals: half to each",
    _SIGNAL,
)
_ACTIVATION = ("passes, saturated or not", _BACH)
_WINNER = "all to the winner; where a constant wins, to the tensor it replaces"
_MOVES = "moves with the values"

ROWS: tuple[Row, ...] = (
    # weighted operations
    Row("linear", weighted.linear, *_WEIGHTED),
    Row("conv1d conv2d conv3d", weighted.convolution, *_WEIGHTED),
    Row(
        "conv_transpose1d conv_transpose2d conv_transpose3d", partial(weighted.convolution, transposed=True), *_WEIGHTED
    ),
    Row("matmul mm bmm mv __matmul__", weighted.matmul, *_PRODUCT_WITH_CONSTANT),
    Row("__rmatmul__", partial(weighted.matmul, reflected=True), *_PRODUCT_WITH_CONSTANT),
    Row("addmm", weighted.add_matmul, *_PRODUCT_WITH_CONSTANT),
    Row("tensordot", weighted.tensordot, *_PRODUCT_WITH_CONSTANT),
    Row("einsum", weighted.einsum, "z+ with a constant tensor; two activations are refused", *_CONTRIBUTIONS),
    Row("scaled_dot_product_attention", attention.scaled_dot_product_attention, *_ATTENTION),
    Row("multi_head_attention_forward", attention.multi_head_attention_forward, *_ATTENTION),
    # normalisation
    Row("batch_norm", partial(elementwise.normalization, statistics="training"), "bypassed", _PAPER),
    Row(
        "instance_norm",
        partial(elementwise.normalization, statistics="use_input_stats", default=True),
        "bypassed",
        _PAPER,
    ),
    Row("layer_norm", elementwise.layer_norm, *_CENTRED),
    Row("group_norm", elementwise.group_norm, *_CENTRED),
    Row("local_response_norm rms_norm normalize", elementwise.normalization, "bypassed", _PAPER),
    # activations
    Row("relu relu6 softplus exp", partial(elementwise.passing, nonnegative=True), *_ACTIVATION),
    Row("leaky_relu prelu elu selu celu", partial(elementwise.passing, keeps_sign=True, rectifies=True), *_ACTIVATION),
    Row(
        "sqrt log1p expm1 erf atan nan_to_num round floor ceil",
        partial(elementwise.passing, keeps_sign=True),
        *_ACTIVATION,
    ),
    Row("rrelu", elementwise.evaluated_rrelu, "passes in evaluation; refused in training", _BACH),
    Row("hardtanh clamp clip clamp_min clamp_max", elementwise.clamping, *_ACTIVATION),
    Row(
        "gelu silu mish hardswish threshold", partial(elementwise.passing, monotone=False, rectifies=True), *_ACTIVATION
    ),
    Row(
        "softsign hardshrink softshrink tanhshrink logsigmoid log_softmax log sin cos",
        partial(elementwise.passing, monotone=False),
        *_ACTIVATION,
    ),
    Row(
        "pow float_power __pow__ __ipow__ square abs absolute rsqrt",
        partial(elementwise.passing, monotone=False, keeps_sign=True),
        "passes",
    ),
    Row("neg negative", elementwise.passing, "passes"),
    Row("reciprocal", partial(elementwise.passing, monotone=False), "passes"),
    Row(
        "sigmoid hardsigmoid",
        partial(elementwise.passing, nonnegative=True, gate=True, monotone=False),
        "passes; the result counts as a gate in products",
    ),
    Row("softmax softmin gumbel_softmax", attention.softmax, "passes; the result counts as a gate in products"),
    Row("tanh", partial(elementwise.passing, gate=True), "passes; the result counts as a gate in products"),
    Row(
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout",
        elementwise.evaluated_dropout,
        "passes in evaluation; refused in training",
    ),
    # sums and products
    Row("add __add__ __radd__ __iadd__", arithmetic.add, *_SUM),
    Row("sub subtract __sub__ __isub__", partial(arithmetic.add, sign=-1), *_SUM),
    Row("rsub __rsub__", partial(arithmetic.add, sign=-1, reflected=True), *_SUM),
    Row("mul multiply __mul__ __rmul__ __imul__", arithmetic.multiply, *_PRODUCT),
    Row(
        "div divide true_divide __truediv__ __itruediv__ __div__ __idiv__",
        partial(arithmetic.multiply, divides=True),
        *_PRODUCT,
    ),
    Row("__rtruediv__", partial(arithmetic.multiply, divides=True, reflected=True), *_PRODUCT),
    Row("addcmul", arithmetic.add_product, "a product, then a sum", "z+ for a sum"),
    Row("addcdiv", partial(arithmetic.add_product, times=torch.div), "a product, then a sum", "z+ for a sum"),
    Row("lerp", arithmetic.interpolate_linearly, "a sum of two products", "z+ for a sum"),
    Row("glu", arithmetic.gated_linear_unit, "follows the signal, not the gate", _SIGNAL),
    # pooling
    Row(
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean",
        means.pooling,
        'shares of the positive parts (`avg_pool="even"`: even, without padding)',
        'z+ for a mean ("even": paper, section 3.1)',
    ),
    Row(
        "sum fold",
        partial(means.pooling, contributions="proportional"),
        "shares of the positive parts, else of the sizes, else even",
        "z+ for a sum",
    ),
    Row("norm", means.norm, "shares of |x|^p; of matrices, and without a power, refused"),
    Row("vector_norm", partial(means.norm, of_matrices=False), "shares of |x|^p; without a power, refused"),
    Row("var std", means.deviation, "shares of squared deviations"),
    Row("var_mean", partial(means.deviation_and_mean, deviates=torch.var), "as var, and as mean"),
    Row("std_mean", partial(means.deviation_and_mean, deviates=torch.std), "as std, and as mean"),
    Row("lp_pool1d", partial(means.lp_pooling, mean=F.avg_pool1d), "shares of |x|^p"),
    Row("lp_pool2d", partial(means.lp_pooling, mean=F.avg_pool2d), "shares of |x|^p"),
    Row("lp_pool3d", partial(means.lp_pooling, mean=F.avg_pool3d), "shares of |x|^p"),
    Row(
        "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices "
        "adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d "
        "max_unpool1d max_unpool2d max_unpool3d topk sort kthvalue",
        moving.route,
        "all to the winner",
        _PAPER,
    ),
    Row("median", moving.median, "all to the winner", _PAPER),
    Row("max", partial(moving.greatest, sign=1), _WINNER, _PAPER),
    Row("min", partial(moving.greatest, sign=-1), _WINNER, _PAPER),
    Row("amax", partial(moving.extreme, sign=1), "all to the winner", _PAPER),
    Row("amin", partial(moving.extreme, sign=-1), "all to the winner", _PAPER),
    Row("maximum fmax", partial(elementwise.larger, sign=1), _WINNER, _PAPER),
    Row("minimum fmin", partial(elementwise.larger, sign=-1), _WINNER, _PAPER),
    Row("where masked_fill", partial(moving.choose, masked=True), _WINNER, _PAPER),
    Row(
        "interpolate upsample upsample_nearest upsample_bilinear",
        means.interpolation,
        "nearest: to the source; linear: shares of the positive parts",
    ),
    Row("pad", moving.pad, "padding receives none; reflected and replicated values route"),
    # values that only move
    Row(
        "view reshape flatten unflatten permute transpose t swapaxes swapdims movedim moveaxis squeeze unsqueeze expand "
        "broadcast_to broadcast_tensors repeat repeat_interleave tile roll flip fliplr flipud rot90 "
        "split chunk tensor_split unsafe_chunk unsafe_split hsplit vsplit dsplit "
        "unbind narrow select index_select gather take take_along_dim masked_select __getitem__ contiguous clone to type "
        "float double half bfloat16 cpu cuda pixel_shuffle pixel_unshuffle channel_shuffle "
        "unfold as_strided atleast_1d atleast_2d atleast_3d diagonal T mT H adjoint positive "
        "requires_grad_ split_with_sizes ravel as_tensor",
        moving.route,
        _MOVES,
    ),
    Row("expand_as reshape_as type_as view_as", moving.route_as, _MOVES),
    Row(
        "cat concat concatenate stack hstack vstack dstack column_stack",
        moving.join,
        _MOVES,
        "",
        "all but what constants receive",
    ),
    Row(
        "__setitem__ copy_ tril triu index_copy index_fill masked_scatter fill_ zero_",
        moving.overwrite,
        _MOVES,
        "",
        "all but what arrives at values from elsewhere",
    ),
    Row("index_put scatter", moving.overwrite_at, _MOVES, "", "all but what arrives at values from elsewhere"),
    Row("__deepcopy__", moving.copied, _MOVES),
    Row("detach data", moving.detached, "passes: only gradients are cut, not values"),
    # constants
    Row(
        "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor",
        moving.shaped,
        "none: the result has the shape of the signal at most",
    ),
    Row("sign sgn heaviside bernoulli", moving.constant, "none: the result does not carry the signal"),
    Row("numpy __array__ tolist", refusal.taken_out, "none: values that come back count as constants"),
)
"""The operations that relevance can pass, with how it is shared, the source of that, and what is conserved."""

REFUSED: dict[str, str] = {
    "baddbmm": "a sum and a product in one; write it as bmm and a sum",
    "bilinear cdist cosine_similarity pairwise_distance outer dot inner": (
        "a product of two activations; no rule is agreed on"
    ),
    "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell": "recurrent networks are not supported",
    "grid_sample affine_grid": "sampling at places that may depend on the input",
    "cumsum cumprod prod logsumexp logcumsumexp": "no rule is agreed on",
    "__reduce_ex__": "copies a tensor outside of PyTorch (copy.copy, pickle); write x.clone()",
}
"""What is rejected with an error, and why."""


def _functions(name: str) -> Iterator[Any]:
    """All torch functions of a name: in ``torch``, ``torch.Tensor``, ``torch.nn.functional``; in-place too."""
    homes = (torch, torch.Tensor, F, c_functions, torch.special, torch.linalg)
    for spelled in {name, name + "_"}:
        for home in homes:
            function = getattr(home, spelled, None)
            if callable(function):
                yield function
            elif isinstance(function, types.GetSetDescriptorType):
                yield function.__get__


_EVERY = (*ROWS, *(Row(names, partial(refusal.refuse, reason=why), "refused") for names, why in REFUSED.items()))

TABLE: dict[Any, Row] = {
    function: row for row in _EVERY for name in row.functions.split() for function in _functions(name)
}
"""Row of each function, those that are refused among them."""

_BEHIND_ITS_BACK = "replaces the values of a tensor behind its back; assign the variable instead"
_DATA: Any = torch.Tensor.data
TABLE[_DATA.__set__] = Row("data", partial(refusal.refuse, reason=_BEHIND_ITS_BACK), "refused")


_QUESTIONS = (
    "shape dtype device layout ndim is_cuda is_cpu is_mps is_sparse is_quantized is_nested requires_grad grad_fn "
    "is_leaf size dim ndimension numel nelement stride is_contiguous is_floating_point is_complex is_inference "
    "element_size get_device _assert __len__ __hash__ __bool__"
)

_ASKS_ONLY = {function for name in _QUESTIONS.split() for function in _functions(name)}
"""Functions that ask something of a tensor and make none: they are called most often and need no look at the table."""


_HANDS_OUT = frozenset(("numpy", "__array__", "__dlpack__"))
"""Functions that give others the memory of a tensor, to write to it unseen."""


def run_operation(trace: Trace, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the propagation mode does with each torch function that the model calls."""
    if func in _ASKS_ONLY:
        return func(*args, **kwargs)
    if kwargs and kwargs.get("out") is not None:
        return _written_to(trace, func, args, kwargs)
    call = Call(func, args, kwargs)
    if not all(map(trace.knows, call.tensors)):
        call = _known(trace, call)
    overwritten = [t for t in flatten(call.overwritten) if isinstance(t, torch.Tensor)] if call.overwrites else []
    for tensor in overwritten or (call.tensors if call.name in _HANDS_OUT else ()):
        trace.before_overwriting(tensor)
    row = TABLE.get(func)
    result = _handled(trace, call, row) if call.tracked else _of_constants(trace, call, row)
    for tensor in overwritten:
        trace.after_overwriting(tensor)
    made = [value for value in (result, *overwritten) if not depends_on_input(value)]
    if made and (call.tracked or call.derived is not None):
        _note_derived(trace, call, row, made)
    return result


def _known(trace: Trace, call: Call) -> Call:
    """The call once it is known where each tensor comes from; constants of inference mode as plain ones."""
    if any(trace.may_be_another(t) for t in call.tensors):
        call = call.changed(trace.recognised)
    for tensor in call.tensors:
        trace.check_origin(tensor)
    if call.tracked and any(t.is_inference() for t in call.tensors):
        with torch.inference_mode(False):
            return call.changed(lambda v: v.clone() if isinstance(v, torch.Tensor) and v.is_inference() else v)
    return call


def _written_to(trace: Trace, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call with ``out=``: the call without, and a copy."""
    out = kwargs["out"]
    result = run_operation(trace, func, args, {name: value for name, value in kwargs.items() if name != "out"})
    for target, values in zip(flatten(out), flatten(result), strict=True):
        if target.shape != values.shape:
            target.resize_(values.shape)
        run_operation(trace, torch.Tensor.copy_, (target, values), {})
    return out


def _handled(trace: Trace, call: Call, row: Row | None) -> Any:
    """What PyTorch refuses of an operation gets its name and its module."""
    handler = row.handler if row is not None else refusal.unknown
    if any(t.is_complex() for t in call.tensors):
        handler = _refuse_complex
    try:
        return trace.handle(lambda trace, call: handler(Operation(trace, call)), call)
    except (torch.OutOfMemoryError, ContrastiveLRPError):
        raise
    except (RuntimeError, AssertionError) as error:
        raise ModelStateError(f"{call.name} in module '{trace.scope.name}' could not be recorded: {error}") from error


_refuse_complex = partial(refusal.refuse, reason="it works on complex numbers, for which no rule is known")


def _of_constants(trace: Trace, call: Call, row: Row | None) -> Any:
    """An operation on tensors that relevance cannot reach; on some of them the inputs may have left their signs."""
    if call.derived is not None and row is not None and row.handler in _WITH_WEIGHTS:
        source, operation, _ = call.derived
        reason = f"its operand is made by {operation}, which cuts the signal; no rule says how it shares relevance"
        refusal = trace.refuse(call.name, reason, linked=True)
        with torch.no_grad():
            result = call.run()
        return trace.link(refusal, lambda: result, [source])
    # Gradients make no difference here, but views made without them could not be written to later.
    with torch.set_grad_enabled(not any(t.requires_grad for t in call.tensors)):
        return call.run()


def _note_derived(trace: Trace, call: Call, row: Row | None, made: Any) -> None:
    """Mark the constants that an operation made (or wrote to) from the signal: indices, signs, what masks choose."""
    signals = call.tracked
    if row is not None and row.handler is moving.shaped and signals and signals[0] is call.args[0]:
        signals = signals[1:]
    cuts = row is None or row.handler in (moving.constant, moving.shaped)
    for value in flatten(made):
        if not isinstance(value, torch.Tensor) or depends_on_input(value):
            continue
        if signals and (cuts or not value.is_floating_point()):
            trace.marks.set_derived(value, signals[0], call.name)
        elif call.derived is not None and derived_from(value) is None:
            trace.marks.set_derived(value, call.derived.source, call.derived.operation)


_WITH_WEIGHTS = {row.handler for row in ROWS if row.rule.startswith("z+")}
"""Handlers of operations with weights."""
