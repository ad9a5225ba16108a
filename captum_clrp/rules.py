r"""Relevance rules.

Every rule for a weighted operation here has one form. With terms :math:`(a^k, W^k)`, each a tensor shaped as the
input and weights shaped as the operation's own,

.. math:: z = \sum_k f^k \odot W^k a^k, \qquad R^{in} = \sum_k a^k \odot (W^k)^T (f^k \odot R^{out} / z).

A rule names its terms, and where they weigh differently from output to output the factors :math:`f^k` (otherwise 1);
:func:`prepare` and :func:`distribute` do the rest, in one place, and are linear in :math:`R^{out}`. Outputs whose
denominator :math:`z` is zero have no contribution to share their relevance by: it is absorbed, or, with ``conserve``,
spread by ``FALLBACKS``.

All rules derive from Captum's ``PropagationRule``. They hold settings only, no state of a call, so one instance may be
shared by layers, threads and calls; assigned as ``module.rule`` they also work in Captum's own ``LRP``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_clrp.engine._captum import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule, PropagationRule
from captum_clrp.engine._torch import padding_around, with_parameters
from captum_clrp.engine.linear_maps import LinearMap, linear_map_of
from captum_clrp.engine.numerics import divide, is_nonnegative, stabilize, zero_if_not_finite
from captum_clrp.errors import InvalidInputError, UnsupportedOperationError

__all__ = [
    "Epsilon",
    "Flat",
    "Gamma",
    "Identity",
    "RelevanceRule",
    "Term",
    "WSquare",
    "ZBeta",
    "ZPlus",
    "distribute",
    "prepare",
]


class Term(NamedTuple):
    """One pair :math:`(a^k, W^k)` of a rule."""

    activations: Tensor
    weight: Tensor

    def in_one_precision(self) -> Term:
        """With the activations in the precision of the weights."""
        if self.activations.dtype == self.weight.dtype:
            return self
        return self._replace(activations=self.activations.to(self.weight.dtype))


class Prepared(NamedTuple):
    """What a rule needs of the activations, whatever relevance comes: shared by all classes of one image."""

    terms: tuple[Term, ...]
    denominator: Tensor
    activations: Tensor
    factors: tuple[Tensor | float, ...] | None = None


class RelevanceRule(PropagationRule):
    """Base of the rules for weighted operations: a subclass implements :meth:`terms`.

    Attributes:
        distinguishes_negated_weights: Whether ``W`` and ``-W`` give different relevance. CLRP2 is the difference of
            the two at the output layer and would vanish for a rule that cannot tell them apart.
        amplifies: Whether relevance can grow: shares of both signs that add up to what was received.
        by_output: Whether the share of an output follows from its own weights alone, so that a large layer may be taken some
            outputs at a time: what a rule of one's own may claim of itself.
        by_example: Whether examples may be taken by themselves, by what :meth:`of_examples` gives.
        zeros_receive_nothing: Whether an input of zero contributes nothing and is given nothing, so that it may be left out.
        starts_with_output: Whether the product of its first term is the operation's output without the bias, which the
            forward pass has computed.

    The last four are claims about the methods below: a subclass with terms, factors or a denominator of its own does not
    inherit them.
    """

    distinguishes_negated_weights: bool = True
    amplifies: bool = False
    by_output: bool = False
    by_example: bool = False
    zeros_receive_nothing: bool = False
    starts_with_output: bool = False

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if {"terms", "factors", "complete_denominator"} & vars(cls).keys():
            for claim in ("by_output", "by_example", "zeros_receive_nothing", "starts_with_output"):
                setattr(cls, claim, vars(cls).get(claim, False))

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        """The pairs :math:`(a^k, W^k)` of this rule.

        Args:
            layer: The operation; its weights come as ``layer.positive``, ``layer.negative``, ``layer.full``, ...
            activations: Input of the operation, ``(N, ...)``, at least float32.
            nonnegative: Whether no activation is known to be negative, so that terms for them can be left out. The forward
                pass tells; a rule that looked at the values would read them once more, and make an accelerator wait.

        Returns:
            One pair or several; each weight is shaped as the operation's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement terms")

    def of_examples(self, examples: slice, activations: Tensor) -> RelevanceRule:
        """This rule for some of the examples: itself, unless it holds tensors of all of them.

        Args:
            examples: Which ones.
            activations: Input of the operation, of all examples, ``(N, ...)``.
        """
        return self

    def factors(self, products: Sequence[Tensor]) -> tuple[Tensor | float, ...] | None:
        """How much each term counts, output by output.

        Args:
            products: :math:`W^k a^k` of each term, shaped as the output of the operation.

        Returns:
            One number or tensor shaped as the output for each term; ``None``, the default, where every term counts once.
        """
        return None

    def complete_denominator(self, denominator: Tensor, layer: LinearMap) -> Tensor:
        """Add what belongs to the denominator alone (a bias, a stabilizer).

        Args:
            denominator: Shaped as the output of the operation. May be changed in place.
            layer: The operation, with its bias.

        Returns:
            The denominator that relevance is divided by, of the same shape, and in memory of its own, for it is overwritten.
        """
        return denominator

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{key}={value}" for key, value in vars(self).items() if isinstance(value, float | int | bool)
        )
        return f"{type(self).__name__}({settings})"

    # -- Captum's interface: the same rule inside captum.attr.LRP -----------------------------------------------

    def forward_hook(self, module: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
        """Captum's hook: the module's output, with a backward that carries relevance by this rule.

        Args:
            module: The module that the rule was assigned to: fully connected or a convolution.
            inputs: Its input, or a tuple that starts with it.
            outputs: Its output, a tensor of any shape.

        Raises:
            UnsupportedOperationError: for another module; in the classes of this package any will do.
        """
        layer = linear_map_of(module)
        if layer is None and not isinstance(self, Identity):
            raise UnsupportedOperationError(
                f"{self!r} was assigned to a {type(module).__name__}; in Captum's own LRP it works for Linear and the "
                "convolutions alone: set one of Captum's rules there, or explain the model with captum_clrp.LRPZBeta"
            )
        signal: Tensor = inputs[0] if isinstance(inputs, tuple) else inputs
        signal = signal.view_as(signal)

        def remember_input(relevance: Tensor) -> None:
            self.relevance_input[relevance.device] = relevance

        def remember_output(relevance: Tensor) -> None:
            self.relevance_output[relevance.device] = relevance

        signal.register_hook(remember_input)
        mode: Any = getattr(module, "padding_mode", "zeros")
        padded = signal if mode == "zeros" else F.pad(signal, padding_around(module), mode=mode)
        result: Tensor = _ByRule.apply(padded, outputs.detach(), self, layer)
        result.register_hook(remember_output)
        return result

    def _manipulate_weights(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """Nothing: these rules leave the module's weights alone."""


class _ByRule(torch.autograd.Function):
    """A module's output, with relevance for a backward; without a linear map relevance is handed through."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor, output: Tensor, rule: RelevanceRule, layer: LinearMap | None) -> Tensor:
        ctx.rule, ctx.layer = rule, layer
        ctx.activations = activations.detach()
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor | None, ...]:
        (arrived,) = relevance
        if ctx.layer is None or isinstance(ctx.rule, Identity):
            return arrived, None, None, None
        prepared = prepare(ctx.rule, ctx.layer, ctx.activations, nonnegative=is_nonnegative(ctx.activations))
        return distribute(ctx.layer, prepared, arrived, last=True).to(arrived.dtype), None, None, None


def of_both_signs(layer: LinearMap, with_positive: Tensor, with_negative: Tensor) -> tuple[Term, ...]:
    """Terms with ``W+`` and with ``W-``: side by side in one operation where the layer allows it."""
    if layer.channel_dim is None:
        return Term(with_positive, layer.positive), Term(with_negative, layer.negative)
    return (Term(torch.cat((with_positive, with_negative), layer.channel_dim), layer.both_signs),)


class ZPlus(RelevanceRule):
    r"""Share relevance by positive contributions (z+ rule, also called alpha1-beta0).

    .. math:: R_i = \sum_j \frac{(x_i w_{ij})^+}{\sum_{i'} (x_{i'} w_{i'j})^+} R_j

    Source: paper, section 3.1, eq. 1. For inputs of both signs the positive part of each *product* counts,
    :math:`x^+ w^+ + x^- w^-`; Captum's ``Alpha1_Beta0_Rule`` clamps the weights alone and is wrong there.

    Conserves relevance except at outputs without any positive contribution, which absorb it (see module). Biases are
    bypassed. Valid for inputs of any sign.
    """

    by_output = True
    by_example = True
    zeros_receive_nothing = True

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        if nonnegative:
            return (Term(activations, layer.positive),)
        return of_both_signs(layer, activations.clamp(min=0), activations.clamp(max=0))


class ZBeta(RelevanceRule):
    r"""Share relevance by contributions within the domain of the input (z^beta rule, also z^B or box rule).

    .. math:: R_i = \sum_j \frac{x_i w_{ij} - l_i w_{ij}^+ - h_i w_{ij}^-}
              {\sum_{i'} x_{i'} w_{i'j} - l_{i'} w_{i'j}^+ - h_{i'} w_{i'j}^-} R_j

    Source: paper, section 3.1, eq. 1; for the first layer, whose input lives in the box :math:`[l, h]`. It is evaluated
    as :math:`(x - l) w^+ + (x - h) w^-`, the same sum without cancellation. Every term is non-negative for inputs
    inside the box; relevance is conserved except where all terms are zero.

    Args:
        low: Lowest value of the input, in the units of the input (for photographs: *normalised* pixels). A number or a
            tensor that broadcasts to the input.
        high: Highest value, likewise.
    """

    by_output = True
    by_example = True

    def __init__(self, low: float | Tensor, high: float | Tensor) -> None:
        self.low = low
        self.high = high

    def of_examples(self, examples: slice, activations: Tensor) -> RelevanceRule:
        if not any(_is_of_each(bound, activations) for bound in (self.low, self.high)):
            return self
        return ZBeta(*(b[examples] if _is_of_each(b, activations) else b for b in (self.low, self.high)))  # type: ignore[index]

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        return of_both_signs(layer, activations - self.low, activations - self.high)


def _is_of_each(bound: Any, activations: Tensor) -> bool:
    """Whether a bound, a tensor or an array, holds values for each example."""
    return getattr(bound, "ndim", None) == activations.dim() and len(bound) == len(activations)


class Epsilon(RelevanceRule):
    r"""Share relevance by signed contributions, stabilized (epsilon rule; with epsilon 0 the z rule).

    .. math:: R_i = \sum_j \frac{x_i w_{ij}}{z_j + \varepsilon\,\mathrm{sign}(z_j)} R_j,
              \qquad z_j = \sum_{i'} x_{i'} w_{i'j} \;(+\, b_j)

    Source: Bach et al. 2015, eq. 58. Zero counts as positive. Epsilon absorbs relevance, and so does the bias where it
    is included. Cannot tell ``W`` from ``-W``: refused at the output layer of CLRP2.

    Args:
        epsilon: Stabilizer, in the units of the layer's output. Default: 1e-9, as Captum's.
        bias: Whether the bias takes its share (which is absorbed). Default: ``False``, biases are bypassed.
    """

    by_output = True
    by_example = True
    zeros_receive_nothing = True
    distinguishes_negated_weights = False
    amplifies = True
    starts_with_output = True

    def __init__(self, epsilon: float = 1e-9, *, bias: bool = False) -> None:
        self.epsilon = epsilon
        self.bias = bias

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        return (Term(activations, layer.full),)

    def complete_denominator(self, denominator: Tensor, layer: LinearMap) -> Tensor:
        if self.bias and layer.bias is not None:
            bias = layer.over_outputs(layer.bias)
            denominator = denominator + (-bias if layer.negated else bias)
        return stabilize(denominator, self.epsilon)


class Gamma(RelevanceRule):
    r"""Share relevance by contributions that favour those with the sign of the output (generalised gamma rule).

    .. math:: R_i = \sum_j \frac{c_{ij} + \gamma c_{ij}^{\pm}}{\sum_{i'} (c_{i'j} + \gamma c_{i'j}^{\pm})} R_j,
              \qquad c_{ij} = x_i w_{ij}

    where :math:`c^{\pm}` is the positive part of the contributions of an output :math:`z_j = \sum_i c_{ij} \ge 0` and the
    negative part of those of an output below zero.

    Source: Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", section 10.2.3, for outputs above zero; the
    mirrored form for outputs below zero is the *generalised* rule of Andeol et al. 2023 (in Zennit: ``Gamma``). Between the
    z rule (gamma 0) and z+ (gamma to infinity, outputs above zero). Biases are bypassed.

    Conserves relevance and is bounded for inputs of any sign: the sizes of what one output hands on sum to at most
    :math:`(1 + 2/\gamma) |R_j|`, since the denominator never falls below :math:`\gamma/2` of the sizes of all contributions.
    Cannot tell ``W`` from ``-W``: refused at the output layer of CLRP2.

    With :math:`a = |W| |x|` both parts come from two products, :math:`c^{\pm} = (c \pm |c|)/2`; nothing cancels.

    Args:
        gamma: Extra weight of contributions with the sign of the output, greater than 0. Default: 0.25, as Captum's.

    Raises:
        InvalidInputError: for a gamma that is not above 0 (without it the rule is :class:`Epsilon`).
    """

    by_output = True
    by_example = True
    zeros_receive_nothing = True
    distinguishes_negated_weights = False
    amplifies = True
    starts_with_output = True

    def __init__(self, gamma: float = 0.25) -> None:
        if not gamma > 0:
            raise InvalidInputError(
                f"gamma={gamma} must be above 0; for gamma 0 use Epsilon, which absorbs what it must"
            )
        self.gamma = gamma

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        return Term(activations, layer.full), Term(activations if nonnegative else activations.abs(), layer.absolute)

    def factors(self, products: Sequence[Tensor]) -> tuple[Tensor | float, ...]:
        half = self.gamma / 2
        return 1 + half, products[0].clone().ge_(0).mul_(2 * half).sub_(half)


class WSquare(RelevanceRule):
    r"""Share relevance by squared weights, whatever the input (w^2 rule).

    .. math:: R_i = \sum_j \frac{w_{ij}^2}{\sum_{i'} w_{i'j}^2} R_j

    Source: paper, supplement A; Montavon et al. 2017, section 4.1. For an unbounded input domain. Padding receives
    nothing. Cannot tell ``W`` from ``-W``.
    """

    by_output = True
    distinguishes_negated_weights = False

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        return (Term(torch.ones_like(activations), layer.transformed("square", torch.square)),)


class Flat(RelevanceRule):
    """Share relevance evenly over the receptive field (flat rule).

    Source: Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", table 10.1. Shows what the
    architecture alone does. Padding receives nothing. Cannot tell ``W`` from ``-W``.
    """

    by_output = True
    distinguishes_negated_weights = False

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        return (Term(torch.ones_like(activations), layer.receptive_field(activations)),)


class Identity(RelevanceRule):
    """Hand relevance through unchanged; for operations whose output is shaped as their input."""

    distinguishes_negated_weights = False


class CaptumRule(RelevanceRule):
    """One of Captum's rules that changes weights (epsilon, gamma, alpha1-beta0), as Captum evaluates it.

    Captum's denominator is the output of the changed layer, its bias included, plus a signed stabilizer; this adapter
    lets the rule change a copy of the weights and leaves the module alone.

    Args:
        rule: The user's rule.
        module: The module that it was assigned to.
    """

    amplifies = True

    def __init__(self, rule: PropagationRule, module: nn.Module) -> None:
        self.rule = rule
        self.module = module
        self.distinguishes_negated_weights = not isinstance(rule, EpsilonRule)

    def _changed(self, weight: Tensor, bias: Tensor | None) -> Any:
        stand_in = with_parameters(
            self.module,
            weight=nn.Parameter(weight.clone(), requires_grad=False),
            bias=None if bias is None else nn.Parameter(bias.clone(), requires_grad=False),
        )
        self.rule._manipulate_weights(stand_in, None, None)
        return stand_in

    def terms(self, layer: LinearMap, activations: Tensor, nonnegative: bool) -> tuple[Term, ...]:
        key = (type(self.rule), *sorted((k, v) for k, v in vars(self.rule).items() if isinstance(v, float | int)))
        weight = layer.transformed(key, lambda w: self._changed(w, None).weight.data)
        return (Term(activations, weight),)

    def complete_denominator(self, denominator: Tensor, layer: LinearMap) -> Tensor:
        if layer.bias is not None:
            bias = self._changed(layer.weight.detach(), layer.bias.detach()).bias.data
            denominator = denominator + layer.over_outputs(bias)
        return stabilize(denominator, self.rule.STABILITY_FACTOR)

    def __repr__(self) -> str:
        return f"captum {type(self.rule).__name__}"


_CAPTUM_RULES = (EpsilonRule, GammaRule, Alpha1_Beta0_Rule)


def rule_of(rule: PropagationRule, module: nn.Module, name: str) -> RelevanceRule:
    """The rule that a user assigned to ``module``, in our terms.

    Raises:
        UnsupportedOperationError: for a rule that is neither ours nor one of Captum's.
    """
    if isinstance(rule, RelevanceRule):
        return rule
    if type(rule) is IdentityRule:
        return Identity()
    if type(rule) in _CAPTUM_RULES:
        return CaptumRule(rule, module)
    raise UnsupportedOperationError(
        f"module '{name}' carries a rule of type {type(rule).__name__}, which is neither a captum_clrp.rules rule nor "
        f"one of Captum's {', '.join(r.__name__ for r in (*_CAPTUM_RULES, IdentityRule))}. "
        "Derive it from captum_clrp.rules.RelevanceRule (one method, `terms`)."
    )


# -- the arithmetic, once for all rules -------------------------------------------------------------------------


def prepare(
    rule: RelevanceRule,
    layer: LinearMap,
    activations: Tensor,
    *,
    nonnegative: bool = False,
    output: Tensor | None = None,
) -> Prepared:
    """Everything of a rule that does not depend on relevance: its terms and the denominator.

    Args:
        rule: Names the terms.
        layer: The operation.
        activations: Its input, ``(N, ...)``.
        nonnegative: Whether no activation is known to be negative.
        output: What the operation returned, bias included, shaped as its output, if it is at hand.
    """
    activations = activations.to(layer.compute_dtype)
    terms = tuple(term.in_one_precision() for term in rule.terms(layer, activations, nonnegative))
    if output is None or not rule.starts_with_output:
        products = [layer.apply(*term) for term in terms]
    else:
        bias_free = output if layer.bias is None else output - layer.over_outputs(layer.bias)
        products = [bias_free, *(layer.apply(*term) for term in terms[1:])]
    factors = rule.factors(products)
    denominator, *rest = products if factors is None else [f * p for f, p in zip(factors, products, strict=True)]
    for product in rest:
        denominator += product
    return Prepared(terms, rule.complete_denominator(denominator, layer), activations, factors)


def distribute(
    layer: LinearMap, prepared: Prepared, relevance: Tensor, *, conserve: bool = False, last: bool = False
) -> Tensor:
    """Relevance of the inputs from relevance of the outputs: pure, and linear in relevance.

    Args:
        layer: The operation.
        prepared: What :func:`prepare` made of its input.
        relevance: Shaped as the output of the operation.
        conserve: Whether relevance without positive contributions is spread by ``FALLBACKS``.
        last: Whether ``prepared`` is not needed again, so that its memory may be used.

    Returns:
        Relevance shaped as the input of the operation.
    """
    denominator = prepared.denominator
    relevance = relevance.to(denominator.dtype)
    size = prepared.activations.shape
    if not conserve:
        quotient = torch.div(relevance, denominator, out=denominator if last else None)
        return pull_back(layer, prepared.terms, zero_if_not_finite(quotient), size, prepared.factors)
    quotient, unshared = divide(relevance, denominator)
    received = pull_back(layer, prepared.terms, quotient, size, prepared.factors)
    return received if unshared is None else spread(layer, prepared.activations, unshared, received)


def pull_back(
    layer: LinearMap,
    terms: Sequence[Term],
    signal: Tensor,
    size: torch.Size,
    factors: Sequence[Tensor | float] | None = None,
) -> Tensor:
    """``sum_k a^k * transpose(W^k) (f^k * signal)``, of ``size``; terms that stand side by side are summed."""
    received: Tensor | None = None
    for k, (activations, weight) in enumerate(terms):
        sent = signal if factors is None else factors[k] * signal
        share = layer.transpose(sent.to(weight.dtype), weight, activations).mul_(activations)
        if share.shape != size:
            assert layer.channel_dim is not None
            first, second = share.chunk(2, layer.channel_dim)
            share = first + second
        received = share if received is None else received.add_(share)
    if received is None:
        raise ValueError("a rule needs at least one term")
    return received


FALLBACKS: tuple[Callable[[LinearMap, Tensor], Term], ...] = (
    lambda layer, activations: Term(activations.abs(), layer.absolute),
    lambda layer, activations: Term(torch.ones_like(activations), layer.receptive_field(activations)),
)
"""What relevance without positive contributions is shared by under ``conserve``, in this order: the size of the
contributions ``|x| |w|``, then evenly over the receptive field without its padding (then evenly over the example)."""


def spread(layer: LinearMap, activations: Tensor, unshared: Tensor, received: Tensor) -> Tensor:
    """Add to ``received`` what outputs could not share by the rule itself."""
    for fallback in FALLBACKS:
        term = fallback(layer, activations).in_one_precision()
        quotient, left = divide(unshared, layer.apply(*term))
        received += pull_back(layer, (term,), quotient, activations.shape)
        if left is None:
            return received
        unshared = left
    rest = unshared.flatten(1).sum(1) / activations[0].numel()
    return received.add_(rest.reshape(-1, *[1] * (activations.dim() - 1)))
