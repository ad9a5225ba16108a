"""A second derivation of every rule, from the paper alone, to compare the package with.

Nothing of the package, of Captum or of autograd is used: only torch, in float64. It favours
being read over being fast.

Source: Gu, Yang, Tresp, "Understanding Individual Decisions of CNNs via Contrastive
Backpropagation", section 3.1 (rules, equation 1) and section 4 (contrast, equation 2).
``[design]`` marks what this project adds to the paper.

Two independent parts, which ``test_oracles.py`` also compares with each other:

1. *Dense matrices.* A linear operation is written out as a matrix ``W`` of shape (outputs,
   inputs), and a rule is a few lines over the table of all products ``x_i W_ji``. Padding has no
   column, so it can receive nothing. Small cases only.
2. *Layer by layer.* Sequential networks such as AlexNet and VGG, with explicit convolutions and
   transposed convolutions.

Relevance of outputs that no input contributes to is absorbed (it is nobody's) unless
``conserve=True`` [design].
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import EllipsisType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Bound = float | Tensor | None
Index = tuple[EllipsisType, slice, slice]

# -------------------------------------------------------------------------------------------------
# 1. Dense matrices. Everywhere: W (outputs, inputs), x (N, *input shape), R (N, *output shape);
#    results are shaped as x.
# -------------------------------------------------------------------------------------------------


def dense_matrix(linear_map: Callable[[Tensor], Tensor], input_shape: Sequence[int]) -> Tensor:
    """Matrix (outputs, inputs) of a linear map without bias.

    Column i is the answer to the i-th unit vector. ``linear_map`` takes a batch; ``input_shape``
    is without the batch dimension.
    """
    shape = tuple(input_shape)
    size = int(torch.Size(shape).numel())
    with torch.no_grad():
        if linear_map(torch.zeros(1, *shape, dtype=torch.float64)).count_nonzero():
            raise ValueError("The map is not linear: it does not send zero to zero. Leave its bias out.")
        answers = linear_map(torch.eye(size, dtype=torch.float64).reshape(size, *shape))
    return answers.reshape(size, -1).T.contiguous()


def module_matrices(module: nn.Module, input_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``(W, reach)`` of a Linear, Conv or ConvTranspose module, its bias left out.

    ``reach`` is the boolean matrix of which input each output is connected to, even by a weight
    that happens to be zero.
    """
    plain = copy.deepcopy(module).double()
    for name, parameter in plain.named_parameters():
        if name == "bias":
            parameter.data.zero_()
    weights = dense_matrix(plain, input_shape)
    for name, parameter in plain.named_parameters():
        if name == "weight":
            parameter.data.fill_(1.0)
    return weights, dense_matrix(plain, input_shape) != 0


def zplus_dense(W: Tensor, x: Tensor, R: Tensor, *, conserve: bool = False, reach: Tensor | None = None) -> Tensor:
    """z+ rule, equation 1; for inputs of both signs the positive part of each product [design]."""

    def rule(xn: Tensor, rn: Tensor) -> Tensor:
        parts = (xn * W).clamp(min=0)
        return _share(parts, rn, W, xn, conserve, reach)

    return _by_example(rule, x, R)


def zbeta_dense(
    W: Tensor, x: Tensor, low: Bound, high: Bound, R: Tensor, *, conserve: bool = False, reach: Tensor | None = None
) -> Tensor:
    """z^beta rule, equation 1: shares x w - l w+ - h w-.

    Written as (x - l) w+ + (x - h) w-, the same number without a rounding error below 0.
    """
    lows, highs = bounds_of(x, low, high)

    def rule(xlh: Tensor, rn: Tensor) -> Tensor:
        xn, ln, hn = xlh
        parts = (xn - ln) * W.clamp(min=0) + (xn - hn) * W.clamp(max=0)
        return _share(parts, rn, W, xn, conserve, reach)

    stacked = torch.stack([x.double(), lows, highs], dim=1)  # (N, 3, *input shape)
    rows = [rule(xlh.reshape(3, -1), rn.double().flatten()) for xlh, rn in zip(stacked, R, strict=True)]
    return torch.stack(rows).reshape(x.shape)


def epsilon_dense(W: Tensor, x: Tensor, R: Tensor, epsilon: float = 1e-9, bias: Tensor | None = None) -> Tensor:
    """Epsilon rule (Bach et al. 2015): x w over z + epsilon sign(z), bias in z, sign(0) = 1."""

    def rule(xn: Tensor, rn: Tensor) -> Tensor:
        parts = xn * W
        z = parts.sum(1) + _flat_bias(W, bias)
        sign = torch.where(z >= 0, 1.0, -1.0).double()
        return (parts * _divide(rn, z + epsilon * sign)[:, None]).sum(0)

    return _by_example(rule, x, R)


def gamma_dense(
    W: Tensor, x: Tensor, R: Tensor, gamma: float = 0.25, bias: Tensor | None = None, stabilizer: float = 0.0
) -> Tensor:
    """Gamma rule (Montavon et al. 2019): the epsilon rule with W + gamma W+ for W.

    ``bias`` enters the denominator as it is given; pass ``bias + gamma * bias.clamp(min=0)`` where
    it is to be treated as one more weight.
    """
    return epsilon_dense(W + gamma * W.clamp(min=0), x, R, stabilizer, bias)


def generalised_gamma_dense(W: Tensor, x: Tensor, R: Tensor, gamma: float = 0.25) -> Tensor:
    """Generalised gamma rule: contributions with the sign of their sum count (1 + gamma) times; zero counts as positive."""

    def rule(xn: Tensor, rn: Tensor) -> Tensor:
        parts = xn * W
        agrees = (parts >= 0) == (parts.sum(1, keepdim=True) >= 0)
        favoured = torch.where(agrees, (1 + gamma) * parts, parts)
        return (favoured * _divide(rn, favoured.sum(1))[:, None]).sum(0)

    return _by_example(rule, x, R)


def average_pool_dense(regions: Tensor, x: Tensor, R: Tensor, rule: str) -> Tensor:
    """Average pooling.

    ``regions`` (outputs, inputs) is nonzero where an input lies in an output's region;
    ``dense_matrix(pool, input_shape)`` gives it, whatever the padding, divisor or ``ceil_mode``.
    ``"even"``: the same for all real elements of the region (the paper's rule).
    ``"proportional"`` [design]: as x+; a region without a positive value as abs(x); one of zeros
    only evenly.
    """
    inside = (regions != 0).double()

    def by_rule(xn: Tensor, rn: Tensor) -> Tensor:
        if rule == "even":
            orders = [inside]
        elif rule == "proportional":
            orders = [inside * xn.clamp(min=0), inside * xn.abs(), inside]
        else:
            raise ValueError(f"Unknown rule {rule!r} for average pooling.")
        return _first_that_can(orders, rn)

    return _by_example(by_rule, x, R)


def sum_rule(branches: Sequence[Tensor], R: Tensor) -> list[Tensor]:
    """a + b + ... [design]: by positive parts, else by absolute values, else equally.

    A branch that was broadcast gathers what all its copies receive.
    """
    values = torch.stack([b.double().broadcast_to(R.shape) for b in branches])  # (branches, *R)
    shares = torch.full_like(values, 1 / len(branches))
    for weight in (values.abs(), values.clamp(min=0)):  # the later one has precedence
        total = weight.sum(0)
        shares = torch.where(total > 0, _divide(weight, total), shares)
    return [(s * R.double()).sum_to_size(b.shape) for s, b in zip(shares, branches, strict=True)]


def _share(parts: Tensor, R: Tensor, W: Tensor, x: Tensor, conserve: bool, reach: Tensor | None) -> Tensor:
    """By ``parts``; with ``conserve`` an output without any goes by abs(x) abs(w), then evenly."""
    orders = [parts]
    if conserve:
        reach = W != 0 if reach is None else reach
        orders += [x.abs() * W.abs(), reach.double()]
    return _first_that_can(orders, R)


def _first_that_can(orders: Sequence[Tensor], R: Tensor) -> Tensor:
    """Each output shares by the first table whose row is not all zero, or absorbs."""
    waiting = torch.ones_like(R, dtype=torch.bool)
    result = torch.zeros(orders[0].shape[1], dtype=torch.float64)
    for table in orders:
        total = table.sum(1)
        now = waiting & (total > 0)
        result += (table[now] / total[now, None] * R[now, None]).sum(0)
        waiting &= ~now
    return result


def _by_example(rule: Callable[[Tensor, Tensor], Tensor], x: Tensor, R: Tensor) -> Tensor:
    rows = [rule(xn.double().flatten(), rn.double().flatten()) for xn, rn in zip(x, R, strict=True)]
    return torch.stack(rows).reshape(x.shape)


def _flat_bias(W: Tensor, bias: Tensor | None) -> Tensor:
    """Bias per output, (outputs,): a channel's value is repeated over its positions."""
    if bias is None:
        return torch.zeros(W.shape[0], dtype=torch.float64)
    return bias.detach().double().flatten().repeat_interleave(W.shape[0] // bias.numel())


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: what the formulas' 0/0 means here (the relevance is absorbed)."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), 0.0)


# -------------------------------------------------------------------------------------------------
# 2. Layer by layer through a sequential network.
# -------------------------------------------------------------------------------------------------


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of an ``nn.Sequential`` or a network built as torchvision's AlexNet and VGG."""
    if isinstance(model, nn.Sequential):
        return list(_flattened([model]))
    parts = [model.features, model.avgpool, nn.Flatten(1), model.classifier]
    return list(_flattened(parts))  # type: ignore[arg-type]


def _flattened(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _flattened(module)
        else:
            yield module


def activations(layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Input of every layer, and last the output, in float64; ``len(layers) + 1`` tensors."""
    values = [x.detach().double()]
    with torch.no_grad():
        for layer in layers:
            values.append(_forward(layer, values[-1]))
    return values


def relevance_layers(
    layers: Sequence[nn.Module],
    x: Tensor,
    R_out: Tensor | Callable[[Tensor], Tensor],
    low: Bound = None,
    high: Bound = None,
    avg_pool: str = "proportional",
    output_rule: str = "plus",
    conserve: bool = False,
    values: list[Tensor] | None = None,
) -> list[Tensor]:
    """Relevance at the input of every layer, and last at the output, as `activations`.

    ``layers``: a flat list, see `layers_of`. The first weighted layer has the z^beta rule, the
    others z+; the last weighted layer is the output layer and propagates with its weights negated
    under ``output_rule="negated"``. A slice ``layers[:k]`` explains hidden neurons.
    ``R_out`` is shaped as the last output, or makes that from the output.
    ``values``: the `activations`, where they are at hand.
    """
    if output_rule not in ("plus", "negated"):
        raise ValueError(f"Unknown output rule {output_rule!r}.")
    values = activations(layers, x) if values is None else values
    relevance = R_out(values[-1]) if callable(R_out) else R_out
    weighted = [i for i, layer in enumerate(layers) if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for layer in layers[: weighted[0]]:
        if not isinstance(layer, (nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity)):
            raise TypeError(f"{type(layer).__name__} before the first weighted layer moves the bounds.")
    lows, highs = bounds_of(values[0], low, high)
    result = [relevance.detach().double().reshape(values[-1].shape)]
    with torch.no_grad():
        for i in reversed(range(len(layers))):
            layer, value, relevance = layers[i], values[i], result[0]
            if i in weighted:
                assert isinstance(layer, (nn.Conv2d, nn.Linear))
                weight = layer.weight.detach().double()
                if i == weighted[-1] and output_rule == "negated":
                    weight = -weight
                first = i == weighted[0]
                box = (lows.reshape(value.shape), highs.reshape(value.shape)) if first else None
                relevance = _weighted(layer, weight, value, relevance, box, conserve)
            elif isinstance(layer, nn.MaxPool2d):
                relevance = _max_pool(layer, value, relevance)
            elif isinstance(layer, nn.AvgPool2d):
                relevance = _avg_pool(layer, value, relevance, avg_pool)
            elif isinstance(layer, nn.AdaptiveAvgPool2d):
                relevance = _adaptive_avg_pool(value, relevance, avg_pool)
            else:  # ReLU, BatchNorm2d, Dropout, Identity: bypassed; Flatten: undone
                relevance = relevance.reshape(value.shape)
            result.insert(0, relevance)
    return result


def relevance_sequential(
    layers: Sequence[nn.Module],
    x: Tensor,
    R_out: Tensor | Callable[[Tensor], Tensor],
    low: Bound = None,
    high: Bound = None,
    avg_pool: str = "proportional",
    output_rule: str = "plus",
    conserve: bool = False,
    values: list[Tensor] | None = None,
) -> Tensor:
    """Relevance at the input, shaped as ``x``; arguments as in `relevance_layers`."""
    settings = (low, high, avg_pool, output_rule, conserve, values)
    return relevance_layers(layers, x, R_out, *settings)[0]


def lrp(
    model: nn.Module,
    x: Tensor,
    target: int | Sequence[int] | Tensor,
    low: Bound = None,
    high: Bound = None,
    avg_pool: str = "proportional",
    conserve: bool = False,
) -> Tensor:
    """LRP map for a class (or one class per example): the score is propagated as it is."""

    def start(output: Tensor) -> Tensor:
        at_target = _one_hot(output, target)
        return output * at_target

    return relevance_sequential(layers_of(model), x, start, low, high, avg_pool, "plus", conserve)


def clrp1(
    model: nn.Module,
    x: Tensor,
    target: int | Sequence[int] | Tensor,
    low: Bound = None,
    high: Bound = None,
    avg_pool: str = "proportional",
    conserve: bool = False,
    relu: bool = True,
) -> Tensor:
    """CLRP1 map: S at the target, minus S / (m - 1) at each other output; S = abs(score)."""

    def start(output: Tensor) -> Tensor:
        return _magnitude(output, target)

    def dual(output: Tensor) -> Tensor:
        amount = _magnitude(output, target).sum(1, keepdim=True)  # (N, 1)
        return amount / (output.shape[1] - 1) * (1 - _one_hot(output, target))

    layers = layers_of(model)
    settings = (low, high, avg_pool, "plus", conserve, activations(layers, x))
    concept = relevance_sequential(layers, x, start, *settings)
    opposite = relevance_sequential(layers, x, dual, *settings)
    return _difference(concept, opposite, relu)


def clrp2(
    model: nn.Module,
    x: Tensor,
    target: int | Sequence[int] | Tensor,
    low: Bound = None,
    high: Bound = None,
    avg_pool: str = "proportional",
    conserve: bool = False,
    relu: bool = True,
) -> Tensor:
    """CLRP2 map: abs(score) by the output layer's weights, minus the same by them negated."""

    def start(output: Tensor) -> Tensor:
        return _magnitude(output, target)

    layers = layers_of(model)
    rest = (conserve, activations(layers, x))
    concept = relevance_sequential(layers, x, start, low, high, avg_pool, "plus", *rest)
    opposite = relevance_sequential(layers, x, start, low, high, avg_pool, "negated", *rest)
    return _difference(concept, opposite, relu)


def bounds_of(x: Tensor, low: Bound, high: Bound) -> tuple[Tensor, Tensor]:
    """Bounds expanded to the shape of ``x``, in float64.

    None: each example's own extremes per channel [design]. An input without positions,
    (N, features), is taken as one channel.
    """
    x = x.detach().double()
    dims = tuple(range(2, x.ndim)) if x.ndim > 2 else (1,)
    lows = x.amin(dims, keepdim=True) if low is None else torch.as_tensor(low).double()
    highs = x.amax(dims, keepdim=True) if high is None else torch.as_tensor(high).double()
    if (x < lows).any() or (x > highs).any():
        raise ValueError("The input leaves its bounds.")
    return lows.expand_as(x), highs.expand_as(x)


def _one_hot(output: Tensor, target: int | Sequence[int] | Tensor) -> Tensor:
    classes = torch.as_tensor(target).reshape(-1).expand(len(output))  # (N,)
    return F.one_hot(classes, output.shape[1]).double()  # (N, m)


def _magnitude(output: Tensor, target: int | Sequence[int] | Tensor) -> Tensor:
    return output.abs() * _one_hot(output, target)


def _difference(concept: Tensor, opposite: Tensor, relu: bool) -> Tensor:
    """Equation 2."""
    return (concept - opposite).clamp(min=0) if relu else concept - opposite


# --- forward in float64, from the parameters as they are


def _forward(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        z = _apply(layer, x, layer.weight.detach().double())
        if layer.bias is None:
            return z
        bias = layer.bias.detach().double()
        return z + (bias[:, None, None] if isinstance(layer, nn.Conv2d) else bias)
    if isinstance(layer, nn.ReLU):
        return x.clamp(min=0)
    if isinstance(layer, nn.BatchNorm2d):
        mean, var, gain, shift = (
            None if t is None else t.detach().double()
            for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
        )
        return F.batch_norm(x, mean, var, gain, shift, training=False, eps=layer.eps)
    if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)):
        return layer(x)
    if isinstance(layer, (nn.Dropout, nn.Dropout2d, nn.Identity)):
        return x
    raise TypeError(f"The oracle does not know {type(layer).__name__}.")


# --- linear layers: forward and transposed with any weight of the layer's shape


def _apply(layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor) -> Tensor:
    """The layer without bias and with another weight."""
    if isinstance(layer, nn.Linear):
        return x @ weight.T
    padded = F.pad(x, _padding(layer))
    return F.conv2d(padded, weight, None, layer.stride, 0, layer.dilation, layer.groups)


def _transpose(layer: nn.Conv2d | nn.Linear, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """The transposed map, from ``s`` to inputs of ``shape``; what falls on padding is cut off."""
    if isinstance(layer, nn.Linear):
        return s @ weight
    left, right, top, bottom = _padding(layer)
    height, width = shape[-2:]
    missing = []  # rows and columns at the far end that no stride reaches
    for axis, size in enumerate((top + height + bottom, left + width + right)):
        reached = (s.shape[2 + axis] - 1) * layer.stride[axis]
        reached += layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        missing.append(size - reached)
    padded = F.conv_transpose2d(s, weight, None, layer.stride, 0, 0, layer.groups, layer.dilation)
    padded = F.pad(padded, (0, missing[1], 0, missing[0]))
    return padded[:, :, top : top + height, left : left + width]


def _padding(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    """Left, right, top, bottom. Padding is outside the picture: there x = l = h = 0."""
    if layer.padding_mode != "zeros":
        raise TypeError(f"The oracle does not know padding mode {layer.padding_mode!r}.")
    if layer.padding == "valid":
        return 0, 0, 0, 0
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in total)
        return left, right, top, bottom
    rows, columns = int(layer.padding[0]), int(layer.padding[1])
    return columns, columns, rows, rows


def _weighted(
    layer: nn.Conv2d | nn.Linear,
    weight: Tensor,
    x: Tensor,
    R: Tensor,
    box: tuple[Tensor, Tensor] | None,
    conserve: bool,
) -> Tensor:
    """z^beta with a box (low, high), else z+.

    Both rules share R in proportion to a sum of products u w that are nowhere negative, for a few
    pairs (u, w): z+ takes (x+, w+), (x-, w-); z^beta takes (x - l, w+), (x - h, w-).
    The fallbacks are such sums as well.
    """
    u_plus, u_minus = (x.clamp(min=0), x.clamp(max=0)) if box is None else (x - box[0], x - box[1])
    pairs = [(u_plus, weight.clamp(min=0))]
    if u_minus.count_nonzero():  # else it adds nothing: saves time after a ReLU
        pairs.append((u_minus, weight.clamp(max=0)))
    orders = [pairs]
    if conserve:
        orders += [[(x.abs(), weight.abs())], [(torch.ones_like(x), torch.ones_like(weight))]]
    result, waiting = torch.zeros_like(x), torch.ones_like(R, dtype=torch.bool)
    for pairs in orders:
        total = torch.zeros_like(R)
        for u, w in pairs:
            total = total + _apply(layer, u, w)
        now = waiting & (total > 0)
        s = _divide(R * now, total)
        for u, w in pairs:
            result = result + u * _transpose(layer, s, w, x.shape)
        waiting = waiting & ~now
        if not waiting.any():
            break
    return result


# --- pooling: kernel offsets are walked in scan order, one offset of all regions at a time


def _windows(
    pool: nn.MaxPool2d | nn.AvgPool2d, shape: torch.Size, out_hw: torch.Size, fill: float
) -> tuple[Callable[[Tensor], Tensor], list[Index], Index]:
    """How to pad; in the padded input, where each kernel offset and where the real input lies."""
    kernel, stride, padding, dilation = (
        (v, v) if isinstance(v, int) else tuple(v)
        for v in (pool.kernel_size, pool.stride, pool.padding, getattr(pool, "dilation", 1))
    )
    far = []  # padding at the far end, up to where the last region ends
    for a in range(2):
        end = (out_hw[a] - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1
        far.append(max(end - padding[a] - shape[2 + a], 0))

    def pad(t: Tensor) -> Tensor:
        return F.pad(t, (padding[1], far[1], padding[0], far[0]), value=fill)

    offsets: list[Index] = []
    for offset in itertools.product(range(kernel[0]), range(kernel[1])):
        start = [offset[a] * dilation[a] for a in range(2)]
        stop = [start[a] + (out_hw[a] - 1) * stride[a] + 1 for a in range(2)]
        rows, columns = (slice(start[a], stop[a], stride[a]) for a in range(2))
        offsets.append((..., rows, columns))
    rows, columns = (slice(padding[a], padding[a] + shape[2 + a]) for a in range(2))
    return pad, offsets, (..., rows, columns)


def _max_pool(pool: nn.MaxPool2d, x: Tensor, R: Tensor) -> Tensor:
    """All relevance to the winner of the region: its first maximum in scan order."""
    pad, offsets, inside = _windows(pool, x.shape, R.shape[2:], float("-inf"))
    padded = pad(x)
    best = torch.full_like(R, float("-inf"))
    winner = torch.full(R.shape, -1)
    for i, at in enumerate(offsets):
        candidate = padded[at]
        better = candidate > best
        best = torch.where(better, candidate, best)
        winner = torch.where(better, i, winner)
    result = torch.zeros_like(padded)
    for i, at in enumerate(offsets):
        result[at] += R * (winner == i)
    return result[inside]


def _avg_pool(pool: nn.AvgPool2d, x: Tensor, R: Tensor, rule: str) -> Tensor:
    pad, offsets, inside = _windows(pool, x.shape, R.shape[2:], 0.0)
    result, waiting = torch.zeros_like(pad(x)), torch.ones_like(R, dtype=torch.bool)
    for amount in _pool_amounts(x, rule):
        padded = pad(amount)  # padding has no amount, so it receives nothing
        total = torch.zeros_like(R)
        for at in offsets:
            total = total + padded[at]
        now = waiting & (total > 0)
        s = _divide(R * now, total)
        for at in offsets:
            result[at] += padded[at] * s
        waiting = waiting & ~now
    return result[inside]


def _adaptive_avg_pool(x: Tensor, R: Tensor, rule: str) -> Tensor:
    """Region k of n over a length L runs from floor(k L / n) to ceil((k + 1) L / n)."""
    result = torch.zeros_like(x)
    (height, width), (rows, columns) = x.shape[2:], R.shape[2:]
    for i, j in itertools.product(range(rows), range(columns)):
        at = (
            ...,
            slice(i * height // rows, -(-(i + 1) * height // rows)),
            slice(j * width // columns, -(-(j + 1) * width // columns)),
        )
        relevance = R[:, :, i : i + 1, j : j + 1]
        waiting = torch.ones_like(relevance, dtype=torch.bool)
        for amount in _pool_amounts(x[at], rule):
            total = amount.sum((2, 3), keepdim=True)
            now = waiting & (total > 0)
            result[at] += amount * _divide(relevance * now, total)
            waiting = waiting & ~now
    return result


def _pool_amounts(x: Tensor, rule: str) -> list[Tensor]:
    """What each element's share is measured by, in the order in which it is tried."""
    if rule == "even":
        return [torch.ones_like(x)]
    if rule == "proportional":
        return [x.clamp(min=0), x.abs(), torch.ones_like(x)]
    raise ValueError(f"Unknown rule {rule!r} for average pooling.")
