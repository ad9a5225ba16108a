r"""The paper's pointing game with an energy threshold (section 5.2, fig. 4).

Does the foreground that holds p percent of the energy lie on the object? The foreground at :math:`p` is the smallest
set :math:`\{ \text{map} \ge t \}` that holds at least the share :math:`p` of the energy, the sum of positive values.
It lies on the object as long as :math:`t` exceeds the largest value beside the object. So one number says everything
about an image: the *critical share* :math:`p^*`, the energy of all pixels above that value. The image is a hit for
every :math:`p \le p^*` and a miss beyond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.base import Curve, MapMetric, Quantity, average
from captum_clrp.evaluation.metrics.maps import as_map, as_mask, is_flat, positive_part
from captum_clrp.evaluation.statistics import Average

SHARES = tuple(k / 20 for k in range(1, 21))
"""Where the curve is drawn: 5, 10, ... 100 percent."""
_ROUNDING = 1e-6
"""A share of exactly p counts as held, also after rounding to single precision."""


def critical_share(attribution: Tensor, mask: Tensor) -> float:
    """The largest share of the energy that a foreground can hold without leaving the object.

    Pixels of equal value enter the foreground together. A map that is all equal, or has no positive value, holds no
    foreground: its critical share is 0, so that it misses at every ``p``.

    Args:
        attribution: ``(H, W)`` or ``(C, H, W)``; channels are summed, negative sums count as 0.
        mask: ``(H, W)``, true on the object.

    Raises:
        InvalidInputError: for shapes that do not fit, an empty mask, or a map with NaN.

    Example::

        >>> heat = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
        >>> mask = torch.tensor([[1, 1], [0, 1]])  # the 2 lies beside the object
        >>> critical_share(heat, mask)  # (4 + 3) / 10
        0.7
    """
    values = as_map(attribution)
    marked = as_mask(mask, values)
    energy = positive_part(values)
    total = float(energy.sum())
    if is_flat(values) or total == 0:
        return 0.0
    beside = values[~marked]
    if not len(beside):
        return 1.0
    return float(energy[energy > beside.max()].sum()) / total


def energy_hits(critical: Tensor, shares: Sequence[float]) -> Tensor:
    """Hits at each share, ``(n, len(shares))``, from critical shares ``(n,)``."""
    wanted = torch.tensor(list(shares), dtype=torch.float64, device=critical.device)
    return (wanted[None, :] <= critical.double()[:, None] + _ROUNDING).double()


class EnergyPointingGame(MapMetric):
    """Accuracy as a curve over the share of energy that is kept; conventions of :func:`critical_share`.

    Args:
        shares: Shares of the energy, above 0 and up to 1. Default: 0.05, 0.10, ... 1.
        average: ``"images"`` (the paper) or ``"classes"``.

    Raises:
        InvalidInputError: for shares that are none, or outside of that range.

    Example::

        >>> game = EnergyPointingGame(shares=(0.1, 0.5, 0.9))
        >>> maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
        >>> game.update(maps, torch.tensor([[[1, 1], [0, 1]]]))
        >>> game.compute()  # with 10 % and 50 % of the energy inside, with 90 % not
        tensor([1., 1., 0.], dtype=torch.float64)
    """

    name = "energy-pointing"
    title = "Pointing game with an energy threshold (paper, fig. 4)"
    asks = "is the foreground that holds p percent of the energy on the object? (paper, fig. 4)"
    conventions = "Pixels of equal value enter the foreground together; an all-equal map misses at every share."
    quantities = (Quantity("critical", "largest share of energy in a foreground on the object"),)
    needs_places = True

    def __init__(self, shares: Sequence[float] = SHARES, *, average: Average = "images", **options: Any) -> None:
        super().__init__(average=average, **options)
        if not shares or not all(0 < share <= 1 for share in shares):
            raise InvalidInputError(f"shares={tuple(shares)} must be above 0 and at most 1, and at least one")
        self.shares = tuple(shares)
        axis = "share of the energy in the foreground"
        self.curves = (Curve("accuracy", "pointing accuracy", axis, self.shares, self._hits),)

    def score(self, heat: Tensor, mask: Tensor) -> Mapping[str, float]:
        return {"critical": critical_share(heat, mask)}

    def compute(self) -> Tensor:
        """Accuracy at each share, ``(len(shares),)``."""
        critical, labels = self.per_image()
        return average(energy_hits(critical, self.shares), labels, self.average)

    def _hits(self, values: Mapping[str, Any]) -> Sequence[float]:
        critical = torch.tensor([values["critical"]], dtype=torch.float64)
        hits: list[float] = energy_hits(critical, self.shares)[0].tolist()
        return hits
