"""Which rule goes where: a rule for each kind of operation, chosen by ``rules=`` of every attribution.

A :class:`Composite` is a set of rules by kind of operation (the term is Zennit's). :data:`COMPOSITES` holds those that
have a name; ``rules="auto"`` takes one of them by the structure of the network. A rule that the user sets as
``module.rule`` wins over all of them. To add a composite, add an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.rules import Epsilon, Flat, Gamma, RelevanceRule, ZBeta, ZPlus

__all__ = ["COMPOSITES", "AutomaticComposite", "Composite", "RulesType", "Structure", "composite_of"]


class Structure(NamedTuple):
    """What decides ``rules="auto"``: the first operation of a kind on the way, as ``"layer_norm in 'blocks.0.norm1'"``.

    Attributes:
        attention: Values mixed by weights that come from the input.
        channel_norm: A normalisation over channels.
        signed_mean: A mean over all places of values of both signs, no activation between the operation that made them
            and the mean.
    """

    attention: str | None = None
    channel_norm: str | None = None
    signed_mean: str | None = None


_ZPLUS = ZPlus()


@dataclass(frozen=True, kw_only=True)
class Composite:
    r"""A rule for each kind of operation.

    Attributes:
        name: What reports call it.
        convolution: Convolutions.
        linear: Fully connected layers and products with a constant matrix.
        first: The first weighted operation: a rule, or a function from the bounds ``(low, high)`` of its input to one
            (:class:`~captum_clrp.rules.ZBeta`); ``None`` for the rule of its kind.
        output: The output layer of plain LRP; ``None`` for the rule of its kind. The output layer of a contrast has z+
            whatever stands here, for a rule that shares by near-zero logits of other classes ruins the contrast.
        mixing: Values mixed by attention weights, and products of two signals (half to each).
        sums: Sums of two signals; ``None`` for shares of the positive parts.
        means: Means and sums over regions, of values of both signs; ``None`` for what ``avg_pool`` says.
        centring: The subtraction of the mean in layer and group normalisation; ``None`` where it is bypassed.
        shifts: Constants that are added (biases of normalisation, position embeddings); ``None`` where they are bypassed.
        softmax: ``"gate"``: attention weights are constants. ``"taylor"``: relevance goes through the softmax as well
            (AttnLRP, Achtibat et al. 2024, proposition 3.1), which absorbs much of it.
    """

    name: str
    convolution: RelevanceRule = _ZPLUS
    linear: RelevanceRule = _ZPLUS
    first: RelevanceRule | Callable[[Tensor, Tensor], RelevanceRule] | None = ZBeta
    output: RelevanceRule | None = _ZPLUS
    mixing: RelevanceRule = _ZPLUS
    sums: RelevanceRule | None = None
    means: RelevanceRule | None = None
    centring: RelevanceRule | None = None
    shifts: RelevanceRule | None = None
    softmax: Literal["gate", "taylor"] = "gate"

    @classmethod
    def gamma(
        cls,
        gamma: float = 0.1,
        *,
        convolution: float = 0.25,
        linear: float | None = None,
        mixing: float | None = None,
        sums: float | None = None,
        means: float | None = None,
        centring: float | None = None,
    ) -> Composite:
        """The generalised gamma rule for all operations between the first layer (z^beta) and the output layer (z+).

        Args:
            gamma: Extra weight of contributions with the sign of the output, above 0. Small values tell apart more and
                amplify more (at most ``1 + 2 / gamma`` in each operation). Default: 0.1.
            convolution: The value of convolutions. Default: 0.25.
            linear, mixing, sums, means, centring: The value of a kind of operation. Default: ``gamma``.

        Raises:
            InvalidInputError: for a value that is not above 0.
        """
        own = {"linear": linear, "mixing": mixing, "sums": sums, "means": means, "centring": centring}
        values = {
            "convolution": convolution,
            **{kind: gamma if value is None else value for kind, value in own.items()},
        }
        rules: dict[str, Any] = {kind: Gamma(value) for kind, value in values.items()}
        return cls(name="gamma", **rules)

    def settled(self, structure: Structure) -> tuple[Composite, str]:
        """The composite for a network of this structure, and why; a composite of its own right is its own."""
        return self, "as asked for"

    def first_rule(self, low: Tensor, high: Tensor) -> RelevanceRule | None:
        """The rule of the first weighted operation, whose input lies in ``[low, high]``."""
        if self.first is None or isinstance(self.first, RelevanceRule):
            return self.first
        return self.first(low, high)

    def __repr__(self) -> str:
        return f"Composite({self.name})"


_STABLE = Epsilon(1e-6)
_WITH_BIAS = Epsilon(1e-9, bias=True)
_SIGNED: dict[str, Any] = {"mixing": _STABLE, "sums": _STABLE, "means": _STABLE, "output": None}
_KINDS = ("convolution", "linear", "first", "output", "mixing", "sums", "means", "centring", "shifts")
_GRADIENT_TIMES_INPUT: dict[str, Any] = dict.fromkeys(_KINDS, _WITH_BIAS)

COMPOSITES: Mapping[str, Composite] = {
    composite.name: composite
    for composite in (
        Composite(name="paper"),
        Composite.gamma(),
        Composite(name="epsilon-plus", linear=_STABLE, first=None, **_SIGNED),
        Composite(name="epsilon-plus-flat", linear=_STABLE, first=Flat(), **_SIGNED),
        Composite(name="epsilon-gamma-box", convolution=Gamma(0.25), linear=_STABLE, **_SIGNED),
        Composite(name="cp-lrp", **_GRADIENT_TIMES_INPUT),
        Composite(name="attnlrp", softmax="taylor", **_GRADIENT_TIMES_INPUT),
    )
}
"""Composites by name, the choices of ``rules=`` besides ``"auto"``.

:meta hide-value:
"""


class AutomaticComposite(Composite):
    """Chosen by the structure of the network, never by the image.

    The paper's rules (z+) assume features that are mostly not negative, above all where they are averaged over all
    places: a mean gives the map its places, and shares of the positive parts give relevance of a negative feature to those
    that oppose it. An activation in front of the mean, be it GELU, SiLU or Hardswish, leaves little of negative values
    (at most 0.17, 0.28 and 0.38), so that little relevance goes astray. Where features of both signs are averaged,
    normalised over channels or mixed by attention, the paper's rules tell no class from another; there the gamma
    composite is taken.
    """

    def settled(self, structure: Structure) -> tuple[Composite, str]:
        """The gamma composite where features of both signs are mixed, normalised or averaged, else the paper's rules."""
        for found in structure:
            if found is not None:
                return COMPOSITES["gamma"], f'by rules="auto", since there is {found}'
        return COMPOSITES["paper"], f'by rules="auto", since there is {_NONE_OF_THEM}'


_NONE_OF_THEM = (
    "neither attention, nor a normalisation over channels, nor a mean of features that no activation rectified"
)


AUTO = AutomaticComposite(name="auto")

RulesType = str | Composite
"""A composite or a name, which is ``"auto"`` or a key of :data:`COMPOSITES`."""


def composite_of(rules: RulesType) -> Composite:
    """The composite that ``rules=`` names.

    Raises:
        InvalidInputError: for what is neither a composite nor the name of one.
    """
    if isinstance(rules, Composite):
        return rules
    if isinstance(rules, str) and rules in ("auto", *COMPOSITES):
        return AUTO if rules == "auto" else COMPOSITES[rules]
    names = ", ".join(repr(name) for name in ("auto", *COMPOSITES))
    raise InvalidInputError(f"rules={rules!r} is not known; choose {names}, or pass a captum_clrp.composites.Composite")
