"""One recorded operation each: what it keeps from the forward pass and how it hands relevance back.

A node is made by :mod:`captum_clrp.engine.operations` when the model runs an operation, and called by autograd with the
relevance of the operation's output. Its ``backward`` returns one relevance for each tensor that receives some. All
arithmetic is linear in relevance; what depends on activations alone is kept when several classes are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_clrp.composites import Composite
from captum_clrp.engine.fixed_maps import PoolingMap, SumMap
from captum_clrp.engine.linear_maps import LinearMap, ProductMap
from captum_clrp.engine.numerics import divide, stabilize, zero_if_not_finite
from captum_clrp.engine.refusals import Refusal
from captum_clrp.engine.sharing import Sharing
from captum_clrp.rules import Identity, Prepared, RelevanceRule, ZBeta, ZPlus, distribute, prepare


class Saved:
    """A tensor kept from the forward pass; replaced by a copy if the model is about to overwrite it in place."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


class Record(NamedTuple):
    """What :func:`captum_clrp.explain_plan` tells of a node."""

    operation: str
    module: str
    rule: str
    reason: str


class Node:
    """Base of the recorded operations.

    Attributes:
        record: Operation, module, rule and reason, for reports and messages.
        saved: Tensors kept from the forward pass.
        retain: Whether ``backward`` will be called again (several classes of one image).
        received, shared: Sums of relevance that came in and went on, collected while ``ledger`` is set.
        rule: What shares its relevance; ``None`` where no rule does.
        growth: Sizes of relevance that came in and went on, where the rule can amplify it.
    """

    rule: RelevanceRule | None = None

    def __init__(self, record: Record, *saved: Saved) -> None:
        self.record = record
        self.saved = saved
        self.retain = False
        self.ledger = False
        self.received = 0.0
        self.shared = 0.0
        self.growth: tuple[Tensor, Tensor] | None = None
        self._prepared: Any = None

    def settle(self, composite: Composite) -> None:
        """Take from the composite what concerns this operation; called once, when the whole network has run."""

    def backward(self, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of each receiving tensor; frees what was kept unless ``retain``."""
        if self._prepared is None:
            self._prepared = self.prepare()
        shares = self.share(relevance, self._prepared)
        if self.ledger:
            self.received += self.expected(float(relevance.sum(dtype=torch.float64)))
            self.shared += sum(float(s.sum(dtype=torch.float64)) for s in shares if s is not None)
        if self.rule is not None and self.rule.amplifies:
            sizes = [s.abs().sum() for s in shares if s is not None]
            self.growth = relevance.abs().sum(), sum(sizes[1:], sizes[0])
        if not self.retain:
            self.forget()
        return shares

    def forget(self) -> None:
        """Give back what was kept of the forward pass."""
        self._prepared, self.saved = None, ()

    def expected(self, received: float) -> float:
        """What the shares sum to where nothing is absorbed."""
        return received

    def prepare(self) -> Any:
        """What depends on activations alone."""
        return ()

    def share(self, relevance: Tensor, prepared: Any) -> tuple[Tensor | None, ...]:
        """Relevance of each receiving tensor. Linear in ``relevance``."""
        raise NotImplementedError(f"{type(self).__name__} must implement share")


class Shared(Node):
    """A linear map of one tensor, whose relevance a rule shares.

    Args:
        record: Operation, module and the reason; the rule is known once the composite is.
        activations: Its input.
        layer: The linear map.
        choose: The rule, from the composite.
        nonnegative: Whether no activation is known to be negative.
        conserve: Whether relevance without contributions is spread.

    Attributes:
        output: What the operation returned, where it was kept for rules that need it.
        subtracted: How much is subtracted of relevance by further maps.
        weights: The weights as the operation found them; the model may overwrite them afterwards.
    """

    rule: RelevanceRule
    subtracted = 1.0
    output: Saved | None = None
    weights: Saved | None = None

    def __init__(
        self,
        record: Record,
        activations: Saved,
        layer: LinearMap,
        choose: Callable[[Composite], RelevanceRule],
        *,
        nonnegative: bool = False,
        conserve: bool = False,
    ) -> None:
        super().__init__(record, activations)
        self.layer = layer
        self.rule = Identity()
        self.nonnegative = nonnegative
        self.conserve = conserve
        self._choose = choose

    def settle(self, composite: Composite) -> None:
        self.use(self._choose(composite))
        if isinstance(self.rule, Identity):
            self.saved = ()
        if not self.rule.starts_with_output:
            self.output = None

    def use(self, rule: RelevanceRule) -> None:
        """Share by ``rule`` from now on."""
        self.rule = rule
        self.record = self.record._replace(rule="pass" if isinstance(rule, Identity) else str(rule))
        self._prepared = None

    def forget(self) -> None:
        super().forget()
        self.output = self.weights = None

    def layers(self) -> list[LinearMap]:
        """The map; a second one where the relevance by it is subtracted from that by the first."""
        return [self.layer]

    def prepare(self) -> list[Sharing]:
        """The rule on each map."""
        if isinstance(self.rule, Identity):
            return []
        if self.weights is not None and self.weights.tensor.data_ptr() != self.layer.weight.data_ptr():
            self.layer.weight = self.weights.tensor
        self.layer.retained = self.retain
        return [
            Sharing(
                self.rule,
                at,
                self.saved[0].tensor,
                nonnegative=self.nonnegative,
                # in double precision, or negated, it is another one
                output=self.output.tensor if self.output is not None and at is self.layer else None,
                conserve=self.conserve,
                retain=self.retain,
            )
            for at in self.layers()
        ]

    def share(self, relevance: Tensor, prepared: list[Sharing]) -> tuple[Tensor, ...]:
        if isinstance(self.rule, Identity):
            return (relevance,)
        base, *dual = [sharing.share(relevance) for sharing in prepared]
        for other in dual:
            base.sub_(other, alpha=self.subtracted)
        return (base,)


class Role(NamedTuple):
    """What a weighted operation is for the concept that is explained.

    Attributes:
        output: Whether it is (part of) the output layer.
        contrast: Whether a contrast arrives there. It is computed in float64: a contrast sums to zero, and what rounding
            adds to that sum travels down undiminished, while the contrast itself mixes and shrinks.
        negate: How much of relevance by ``-W`` it subtracts from that by ``W``, in one pass (CLRP2). Default: nothing.
    """

    output: bool = False
    contrast: bool = False
    negate: float = 0.0


class Weighted(Shared):
    """Convolution or fully connected layer.

    Attributes:
        role: Whether it is the output layer, and of what.
        fixed: Whether its rule stays what it is at the output layer, too: one that the user set, or z^beta.
        unrounded: Relevance of its output in the precision in which it was formed; autograd hands over a rounded one.
    """

    role = Role()
    fixed = False
    unrounded: Tensor | None = None

    def settle(self, composite: Composite) -> None:
        super().settle(composite)
        self._settled, self._of_output = self.rule, composite.output or self.rule
        self._reason = self.record.reason

    def rule_as(self, role: Role) -> RelevanceRule:
        """Its rule in a role. The output layer of a contrast has z+ (see :class:`~captum_clrp.composites.Composite`)."""
        if self.fixed or not role.output or isinstance(self._settled, ZBeta):
            return self._settled
        return ZPlus() if role.contrast else self._of_output

    def take(self, role: Role) -> None:
        """Play a role for the concept that is explained next."""
        if role != self.role:
            self.role, self.subtracted = role, role.negate
            self.use(self.rule_as(role))
            reason = self._reason if self.rule is self._settled else "output layer"
            self.record = self.record._replace(reason=reason)

    def expected(self, received: float) -> float:
        return received - self.role.negate * received

    def layers(self) -> list[LinearMap]:
        layer = self.layer.in_double_precision() if self.role.contrast else self.layer
        return [layer, layer.with_negated_weights()] if self.role.negate else [layer]

    def share(self, relevance: Tensor, prepared: list[Sharing]) -> tuple[Tensor, ...]:
        if self.unrounded is not None:
            relevance, self.unrounded = self.unrounded, None
        return super().share(relevance, prepared)


class Bilinear(Node):
    """A product of two signals that is linear in each: half to each, by the rule with the other one held constant.

    Source: Achtibat et al. 2024 (AttnLRP), proposition 3.3, there with the epsilon rule.
    """

    rule: RelevanceRule

    def __init__(
        self, record: Record, a: Saved, b: Saved, product: Callable[[Tensor, Tensor], Tensor], *, conserve: bool
    ) -> None:
        super().__init__(record, a, b)
        self.product = product
        self.conserve = conserve
        self.rule = Identity()

    def settle(self, composite: Composite) -> None:
        self.rule = composite.mixing
        self.record = self.record._replace(rule=f"half to each by {self.rule}")

    def prepare(self) -> list[tuple[LinearMap, Prepared]]:
        a, b = (s.tensor for s in self.saved)
        of_a = ProductMap(b, self.product)
        of_b = ProductMap(a, lambda values, weight: self.product(weight, values))
        return [(of_a, prepare(self.rule, of_a, a)), (of_b, prepare(self.rule, of_b, b))]

    def share(self, relevance: Tensor, prepared: list[tuple[LinearMap, Prepared]]) -> tuple[Tensor, ...]:
        half = relevance * 0.5
        return tuple(
            distribute(layer, ready, half, conserve=self.conserve, last=not self.retain) for layer, ready in prepared
        )


class TaylorSoftmax(Node):
    """Softmax by its first-order Taylor expansion: ``R_x = x (R_s - s sum R_s)``; masked places receive nothing.

    Source: Achtibat et al. 2024 (AttnLRP), proposition 3.1. Neither conserving nor bounded.
    """

    def __init__(self, record: Record, scores: Saved, dim: int) -> None:
        super().__init__(record, scores)
        self.dim = dim

    def prepare(self) -> tuple[Tensor, Tensor]:
        scores = self.saved[0].tensor
        return scores.masked_fill(scores.isinf(), 0.0), scores.softmax(self.dim)

    def share(self, relevance: Tensor, prepared: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        scores, weights = prepared
        return (scores * (relevance - weights * relevance.sum(self.dim, keepdim=True)),)


class PassThrough(Node):
    """Activations, normalisation, anything element by element, sums and products with constants: relevance passes.

    Saturated activations pass it on as well. Where the operation broadcast its input, the copies' relevance is summed.
    """

    def __init__(self, record: Record, shape: torch.Size) -> None:
        super().__init__(record)
        self.shape = shape

    def share(self, relevance: Tensor, prepared: Any) -> tuple[Tensor, ...]:
        return (_sum_to(relevance, self.shape),)


class Absorb(Node):
    """A constant that stands beside the signal, as a class token in front of the others: its relevance ends here.

    With ``conserve`` it is spread over the signal instead, along the dimension in which the two stand side by side, in
    proportion to the sizes of the values (else evenly): linear in relevance, as everything here.

    Args:
        record: For reports.
        beside: The signal, if its relevance is to be spread.
        dim: That dimension.
    """

    def __init__(self, record: Record, beside: Saved | None = None, dim: int = 0) -> None:
        super().__init__(record, *([beside] if beside is not None else []))
        self.dim = dim

    def share(self, relevance: Tensor, prepared: Any) -> tuple[Tensor, ...]:
        if not self.saved:
            return ()
        sizes = self.saved[0].tensor.abs().to(relevance.dtype)
        total = sizes.sum(self.dim, keepdim=True)
        shares = torch.where(total > 0, sizes / total, 1 / sizes.size(self.dim))
        return (relevance.sum(self.dim, keepdim=True) * shares,)


class Sum(Node):
    """``a + b``: shares of the positive parts; if none is positive, of the sizes; if both are zero, equal.

    Where the composite has a rule for sums, signed values share by it.
    """

    def __init__(self, record: Record, a: Saved, b: Saved, scale_b: float, *, nonnegative: bool) -> None:
        super().__init__(record, a, b)
        self.scale_b = scale_b
        self.nonnegative = nonnegative

    def settle(self, composite: Composite) -> None:
        if composite.sums is not None and not self.nonnegative:
            self.rule = composite.sums
            self.record = self.record._replace(rule=str(self.rule), reason="a sum of signed values")

    def prepare(self) -> Any:
        """The share of the first tensor; or what the rule needs."""
        a, b = (s.tensor.to(torch.promote_types(s.tensor.dtype, torch.float32)) for s in self.saved)
        if self.scale_b != 1:
            b = b * self.scale_b
        if self.rule is not None:
            return a.shape, b.shape, prepare(self.rule, SumMap(a), torch.stack(torch.broadcast_tensors(a, b)))
        if self.nonnegative:
            return a.shape, b.shape, (a / (a + b)).nan_to_num_(nan=0.5)
        sign = torch.maximum(a, b).le_(0).mul_(-2).add_(1)  # -1 where neither is positive, so that sizes share
        part, rest = (sign * a).clamp_(min=0), sign.mul_(b).clamp_(min=0)
        return a.shape, b.shape, part.div_(rest.add_(part)).nan_to_num_(nan=0.5)

    def share(self, relevance: Tensor, prepared: Any) -> tuple[Tensor, ...]:
        shape_a, shape_b, ready = prepared
        if self.rule is not None:
            of_a, of_b = distribute(SumMap(relevance), ready, relevance, conserve=True, last=not self.retain)
        else:
            of_a = relevance * ready if self.retain else ready.mul_(relevance)
            of_b = relevance - of_a
        return _sum_to(of_a, shape_a), _sum_to(of_b, shape_b)


class Refused(Node):
    """An operation without a rule: it tells where its result came from, and no relevance is to reach it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(Record(refusal.operation, refusal.module, "refused", refusal.reason))
        self.refusal = refusal


class Product(Node):
    """``a * b`` of two signals, neither of them a gate: half to each."""

    def __init__(self, record: Record, shapes: tuple[torch.Size, torch.Size]) -> None:
        super().__init__(record)
        self.shapes = shapes

    def share(self, relevance: Tensor, prepared: Any) -> tuple[Tensor, ...]:
        half = relevance * 0.5
        return tuple(_sum_to(half, shape) for shape in self.shapes)


class Pooling(Node):
    """A weighted mean or sum of inputs with weights of one sign: shares of what ``contributions`` names, in order.

    Each entry is a function of the activations; a region takes the first entry that is not zero in all of it. The last
    one is all ones, so that nothing is lost; padding receives nothing.

    Args:
        record: For reports.
        activations: The input.
        pool: The operation as a function of its input.
        contributions: What relevance is shared by.
        signed: Whether the values may have both signs and follow the composite's rule for means, if it has one.

    Attributes:
        reads: Of a mean over all places, what gave its values both signs since the last activation.
    """

    reads: str | None = None

    def __init__(
        self,
        record: Record,
        activations: Saved,
        pool: Callable[[Tensor], Tensor],
        contributions: Sequence[Callable[[Tensor], Tensor]],
        *,
        signed: bool = False,
    ) -> None:
        super().__init__(record, activations)
        self.pool = pool
        self.contributions = contributions
        self.signed = signed

    def settle(self, composite: Composite) -> None:
        if composite.means is not None and self.signed:
            self.rule = composite.means
            self.record = self.record._replace(rule=str(self.rule), reason="a mean or sum of signed values")

    def prepare(self) -> Any:
        """Pairs of contributions and their pooled values, made by :meth:`share` as far as they are needed."""
        if self.rule is not None:
            layer = PoolingMap(self.pool, self.saved[0].tensor)
            return layer, prepare(self.rule, layer, self.saved[0].tensor)
        return []

    def _pooled(self, contribution: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Contributions and their pooled values, with the graph between them."""
        activations = self.saved[0].tensor
        activations = activations.to(torch.promote_types(activations.dtype, torch.float32))
        shares = contribution(activations).detach()
        with torch.enable_grad():
            return shares, self.pool(shares.requires_grad_())

    def share(self, relevance: Tensor, prepared: Any) -> tuple[Tensor, ...]:
        if self.rule is not None:
            layer, ready = prepared
            return (distribute(layer, ready, relevance, conserve=True, last=not self.retain),)
        received: Tensor | None = None
        for position, contribution in enumerate(self.contributions):
            if position == len(prepared):
                prepared.append(self._pooled(contribution))
            shares, pooled = prepared[position]
            signal, unshared = divide(relevance, pooled.detach())
            (weight,) = torch.autograd.grad(pooled, shares, signal, retain_graph=True)
            part = weight * shares.detach()
            received = part if received is None else received + part
            if unshared is None:
                break
            relevance = unshared
        return (received,)  # type: ignore[return-value]


class Jacobian(Node):
    """The epsilon rule on an operation without weights: ``x * J^T (R / y)`` (only where a user assigned it)."""

    def __init__(
        self, record: Record, activations: Saved, function: Callable[[Tensor], Tensor], epsilon: float
    ) -> None:
        super().__init__(record, activations)
        self.function = function
        self.epsilon = epsilon

    def prepare(self) -> tuple[Tensor, Tensor]:
        activations = self.saved[0].tensor.clone()
        with torch.enable_grad():
            output = self.function(activations.requires_grad_().clone())  # which may be overwritten
        return activations, output

    def share(self, relevance: Tensor, prepared: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        activations, output = prepared
        signal = zero_if_not_finite(relevance / stabilize(output.detach(), self.epsilon))
        (weight,) = torch.autograd.grad(output, activations, signal, retain_graph=True)
        return (weight * activations.detach(),)


class Padding(Node):
    """Constant padding: what arrives at a padded place goes to the nearest place of the input; cropping loses nothing."""

    def __init__(self, record: Record, pad: Sequence[int]) -> None:
        super().__init__(record)
        self.pad = list(pad)

    def share(self, relevance: Tensor, prepared: Any) -> tuple[Tensor, ...]:
        last = relevance.dim() - 1
        sides = [(last - i, *self.pad[2 * i : 2 * i + 2]) for i in range(len(self.pad) // 2)]
        inner = relevance
        for dim, before, after in sides:
            inner = self._fold(inner, dim, before, after)
        return (inner,)

    @staticmethod
    def _fold(relevance: Tensor, dim: int, before: int, after: int) -> Tensor:
        """Undo ``before`` and ``after`` of one dimension; cropped places (negative numbers) come back as zeros."""
        first, last = max(before, 0), relevance.size(dim) - max(after, 0)
        inner = relevance.narrow(dim, first, last - first)
        outside = [(0, relevance.narrow(dim, 0, first)), (-1, relevance.narrow(dim, last, max(after, 0)))]
        # zeros share nothing by most rules; an accelerator would have to wait to find out
        outside = [(at, o) for at, o in outside if o.numel() and (o.device.type != "cpu" or bool(o.any()))]
        inner = inner.clone() if outside else inner
        for at, received in outside:
            inner.select(dim, at).add_(received.sum(dim))
        if min(before, after) < 0:
            trailing = [0, 0] * (relevance.dim() - 1 - dim)
            inner = F.pad(inner, [*trailing, max(-before, 0), max(-after, 0)])
        return inner


CONTRIBUTIONS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "proportional": (lambda x: x.clamp(min=0), torch.abs, torch.ones_like),
    "sizes": (torch.abs, torch.ones_like),
    "even": (torch.ones_like,),
}
"""What :class:`Pooling` can share by."""


def _sum_to(relevance: Tensor, shape: torch.Size) -> Tensor:
    return relevance if relevance.shape == shape else relevance.sum_to_size(shape)
