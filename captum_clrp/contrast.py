r"""The paper's idea on one page: what the dual concept receives instead of the target (paper, section 4).

LRP maps of different classes look alike, because ReLU masks and pooling switches decide where relevance can go. CLRP
subtracts the map of a *dual concept*, which gets the same score :math:`S` to distribute, and what is left belongs to the
class:

.. math:: R_{CLRP} = \max(0, R - R_{dual})

Every rule is linear in relevance once activations are fixed. So no second pass is needed: the difference is formed once,
at the output, and sent down:

- :class:`OtherClasses` (CLRP1) is another initial relevance: :math:`S` at the target, :math:`-S/(m-1)` at each other.
- :class:`NegatedWeights` (CLRP2) is another rule at the output layer: the rule for ``W`` minus the rule for ``-W``.

With a *strength* below 1 only a part of the dual's map is subtracted, :math:`\max(0, R - s R_{dual})`, in the same pass.

To add a dual concept, add a class here that says what the dual receives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError, InvalidTargetError

__all__ = [
    "DualConcept",
    "NearestRivals",
    "NegatedWeights",
    "OtherClasses",
    "OtherLogits",
    "SoftmaxGradient",
    "TheseClasses",
    "checked_strength",
    "contrast_named",
]

_NAME = re.compile(r"(lrp|clrp1|clrp2|rivals([1-9]\d*)|other-logits|sglrp)(?:-s(0|1|0?\.\d+))?")
NAMES = "lrp, clrp1, clrp2, rivalsK (the K highest other logits), other-logits, sglrp; all but lrp also with a strength, as in clrp1-s0.9"
"""Contrasts that commands take by name."""


class DualConcept:
    """Base of the dual concepts; a new one needs :meth:`relevance` alone.

    What else it has, has a default: :meth:`concept` is for duals that weigh the score anew, and ``negates_output_layer`` for
    CLRP2, whose dual is another rule of the output layer and no initial relevance.

    Attributes:
        negates_output_layer: Whether the dual negates the weights of the output layer.
        shares_score: Whether what the explained concept starts with is its score, so that its relevance is a share of it.
    """

    negates_output_layer: bool = False
    shares_score: bool = True

    def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
        """Initial relevance of the dual concept.

        Args:
            output: The model's output, ``(N, m, ...)``: classes in dimension 1.
            initial: Initial relevance of the explained concept, shaped as ``output``; for one class its score.

        Returns:
            A tensor shaped as ``output``; to be comparable it should sum to what ``initial`` sums to.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement relevance")

    def concept(self, output: Tensor, initial: Tensor) -> Tensor:
        """What the explained concept itself starts with: its score, for all duals but those that weigh it anew.

        Args:
            output: The model's output, ``(N, m, ...)``.
            initial: Initial relevance of the explained concept, shaped as ``output``.

        Returns:
            A tensor shaped as ``output``.
        """
        return initial

    def signed(self, output: Tensor, initial: Tensor, strength: float = 1.0) -> Tensor:
        """Initial relevance minus that of the dual: what is sent down.

        Args:
            output: The model's output, ``(N, m, ...)``.
            initial: Initial relevance of the explained concept, shaped as ``output``.
            strength: How much of the dual's relevance is subtracted.

        Returns:
            A tensor shaped as ``output``.
        """
        return self.concept(output, initial) - strength * self.relevance(output, initial)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NegatedWeights(DualConcept):
    """The same score at the same output, whose weights are negated (CLRP2; paper, section 4). For any output."""

    negates_output_layer = True

    def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
        return torch.zeros_like(output)


class OtherClasses(DualConcept):
    """The score spread uniformly over all other classes (CLRP1; paper, section 4).

    Raises:
        InvalidTargetError: if there is no other class.
    """

    def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
        return _share_among(_others(output, initial), initial)


class TheseClasses(DualConcept):
    """The score spread uniformly over chosen classes: why the target *rather than* these.

    Args:
        classes: Indices into dimension 1 of the output. The target itself is left out.

    Raises:
        InvalidTargetError: in ``attribute``, if a class is out of range or none is left besides the target.
    """

    def __init__(self, classes: Sequence[int]) -> None:
        self.classes = [int(c) for c in classes]

    def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
        m = output.shape[1] if output.dim() > 1 else 0
        outside = [c for c in self.classes if not 0 <= c < m]
        if outside or not self.classes:
            raise InvalidTargetError(
                f"dual classes {self.classes} do not fit an output of {m} classes; give indices from 0 to {m - 1}"
            )
        chosen = torch.zeros(m, dtype=torch.bool, device=output.device)
        chosen[self.classes] = True
        return _share_among(_others(output, initial) & chosen.reshape(1, -1, *[1] * (output.dim() - 2)), initial)

    def __repr__(self) -> str:
        return f"TheseClasses({self.classes})"


class NearestRivals(DualConcept):
    """The score spread uniformly over the highest other logits of each image, where the paper (section 4) takes all others.

    Args:
        k: How many rivals. With all other classes this is :class:`OtherClasses`. Of equal logits the first class counts.

    Raises:
        InvalidInputError: if ``k`` is no whole number of at least 1.
        InvalidTargetError: in ``attribute``, if there are fewer than ``k`` other classes.
    """

    def __init__(self, k: int) -> None:
        if isinstance(k, bool) or not hasattr(k, "__index__") or k < 1:
            raise InvalidInputError(f"k={k!r} is no number of rivals; give a whole number of at least 1")
        self.k: int = int(k)

    def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
        others = _others(output, initial)
        explained = (initial != 0).any(1, keepdim=True)
        fewest = int(others.sum(1, keepdim=True)[explained].min()) if bool(explained.any()) else self.k
        if fewest < self.k:
            raise InvalidTargetError(
                f"NearestRivals({self.k}) needs {self.k} classes besides what is explained, and there are {fewest}; give a "
                f"k from 1 to {fewest}"
                if fewest
                else "no other class is left to contrast with; choose classes besides the target"
            )
        order = output.masked_fill(~others, -torch.inf).sort(dim=1, descending=True, stable=True).indices
        rivals = torch.zeros_like(others).scatter_(1, order[:, : self.k], True)
        return _share_among(rivals & others, initial)

    def __repr__(self) -> str:
        return f"NearestRivals({self.k})"


class OtherLogits(DualConcept):
    """The score spread over all other classes by the magnitudes of their logits, as in the script published with the paper.

    The script normalises both maps by their sums before it subtracts them; where relevance is conserved this is the same
    as giving both the same total, as here. A strength is a share of that total.
    """

    def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
        weights = output.abs() * _others(output, initial)
        total = weights.sum(1, keepdim=True)
        return initial.sum(1, keepdim=True) * weights / total.clamp(min=torch.finfo(output.dtype).tiny)


class SoftmaxGradient(DualConcept):
    """Seed ``p_t (1 - p_t)`` at the target and ``-p_t p_k`` elsewhere (SGLRP, Iwana et al. 2019, arXiv 1908.04351).

    The concept is the part at the target, the dual what is taken from the others: both have the same total. A strength
    scales the latter.
    """

    shares_score = False

    def concept(self, output: Tensor, initial: Tensor) -> Tensor:
        probabilities, target = output.softmax(1), (initial != 0).to(output.dtype)
        return (probabilities * target).sum(1, keepdim=True) * target * (1 - probabilities)

    def relevance(self, output: Tensor, initial: Tensor) -> Tensor:
        probabilities, target = output.softmax(1), (initial != 0).to(output.dtype)
        return (probabilities * target).sum(1, keepdim=True) * (1 - target) * probabilities


def contrast_named(name: str) -> tuple[DualConcept | None, float] | None:
    """The dual concept and the strength that a name such as ``clrp1``, ``clrp2-s0.9`` or ``rivals5`` stands for.

    Args:
        name: As ``NAMES`` says.

    Returns:
        No dual concept for ``lrp``; ``None`` for a name of another kind.
    """
    match = _NAME.fullmatch(name)
    if match is None or (match[1] == "lrp" and match[3]):
        return None
    if match[2]:
        return NearestRivals(int(match[2])), float(match[3] or 1)
    return _NAMED[match[1]], float(match[3] or 1)


_NAMED: dict[str, DualConcept | None] = {
    "lrp": None,
    "clrp1": OtherClasses(),
    "clrp2": NegatedWeights(),
    "other-logits": OtherLogits(),
    "sglrp": SoftmaxGradient(),
}


def checked_strength(strength: float) -> float:
    """The strength, if it is allowed: from 0 (nothing of the dual) to 1 (the paper's contrast).

    More would take away more relevance than there is: with equal totals, ``R - s R_dual`` sums to ``(1 - s)`` of the score.

    Args:
        strength: As it was given.

    Raises:
        InvalidInputError: for anything but a number from 0 to 1.
    """
    given: object = strength
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float | np.integer | np.floating)
        or not 0 <= strength <= 1
    ):
        raise InvalidInputError(
            f"strength={strength!r} is no share of the dual's relevance; give a number from 0 (nothing is subtracted) to 1 "
            "(the paper's contrast)"
        )
    return float(strength)


def _others(output: Tensor, initial: Tensor) -> Tensor:
    """Where a class has no initial relevance while another one at the same position has."""
    if output.dim() < 2 or output.shape[1] < 2:
        raise InvalidTargetError(
            f"an output of shape {tuple(output.shape)} has no other class to contrast with; "
            "use ContrastiveLRP2, whose dual concept needs a single output only"
        )
    explained = initial != 0
    return ~explained & explained.any(1, keepdim=True)


def _share_among(others: Tensor, initial: Tensor) -> Tensor:
    """The relevance of each position spread uniformly over the classes marked in ``others``."""
    count = others.sum(1, keepdim=True)
    if bool(((count == 0) & (initial != 0).any(1, keepdim=True)).any()):
        raise InvalidTargetError("no other class is left to contrast with; choose classes besides the target")
    return initial.sum(1, keepdim=True) * others / count.clamp(min=1)
