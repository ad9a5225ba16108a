"""The share of positive relevance on the object (the energy-based pointing game of Score-CAM, Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from captum_clrp.evaluation.metrics.base import MapMetric, Quantity
from captum_clrp.evaluation.metrics.maps import as_map, as_mask, positive_part


def energy_inside(attribution: Tensor, mask: Tensor) -> float:
    """Positive relevance on the object divided by all positive relevance.

    A map without positive values has none on the object: 0. A map that is all equal gets the object's share of the
    area, which is chance level.

    Args:
        attribution: ``(H, W)`` or ``(C, H, W)``; channels are summed, negative sums count as 0.
        mask: ``(H, W)``, true on the object.

    Raises:
        InvalidInputError: for shapes that do not fit, an empty mask, or a map with NaN.

    Example::

        >>> import torch
        >>> heat = torch.tensor([[4.0, -5.0], [3.0, 1.0]])
        >>> energy_inside(heat, torch.tensor([[1, 1], [0, 0]]))  # 4 / (4 + 3 + 1)
        0.5
    """
    values = as_map(attribution)
    marked = as_mask(mask, values)
    energy = positive_part(values)
    total = float(energy.sum())
    return float(energy[marked].sum()) / total if total > 0 else 0.0


class EnergyInside(MapMetric):
    """Mean share of positive relevance on the object; conventions of :func:`energy_inside`.

    Args:
        average: ``"images"`` or ``"classes"``.
    """

    name = "energy-inside"
    title = "Share of positive relevance on the object"
    asks = "share of positive relevance on the object"
    conventions = "A map without positive values scores 0; an all-equal map scores the object's share of the area."
    quantities = (Quantity("inside", "share inside"),)
    needs_places = True

    def chance(self, quantity: str, area: float | None = None) -> float | None:
        return area

    def score(self, heat: Tensor, mask: Tensor) -> Mapping[str, float]:
        return {"inside": energy_inside(heat, mask)}
