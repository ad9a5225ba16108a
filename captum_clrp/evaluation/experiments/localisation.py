"""Experiments that ask whether a map lies on the object: the pointing games and the share of energy inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_clrp.evaluation.experiments.base import Bench, Curve, Experiment, Quantity, over_targets
from captum_clrp.evaluation.metrics.energy_inside import energy_inside
from captum_clrp.evaluation.metrics.energy_pointing_game import SHARES, critical_share, energy_hits
from captum_clrp.evaluation.metrics.pointing_game import pointing_hit
from captum_clrp.evaluation.results.records import Measured
from captum_clrp.evaluation.sources import Explained, Sample

__all__ = ["EnergyInsideExperiment", "EnergyPointing", "GridPointing", "Pointing"]


def _mask(explained: Explained) -> Tensor:
    assert explained.mask is not None  # the runner leaves out targets without a place
    return explained.mask


class Pointing(Experiment):
    """The pointing game; see :mod:`captum_clrp.evaluation.metrics.pointing_game`."""

    name = "pointing"
    title = "Pointing game"
    quantities = (Quantity("hit", "accuracy"),)
    headline = "hit"
    needs_places = True
    conventions = "All pixels that share the maximum must lie on the object; an all-equal map is a miss."

    def __init__(self, tolerance: float = 0.0) -> None:
        self.tolerance = tolerance

    def settings(self) -> dict[str, Any]:
        return {"tolerance": self.tolerance}

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        return over_targets(bench, samples, lambda m, e: {"hit": float(pointing_hit(m, _mask(e), self.tolerance))})


def _hits(values: Mapping[str, Any]) -> Sequence[float]:
    hits: list[float] = energy_hits(torch.tensor([values["critical"]], dtype=torch.float64), SHARES)[0].tolist()
    return hits


class EnergyPointing(Experiment):
    """The paper's pointing game, a curve over the energy; see :mod:`captum_clrp.evaluation.metrics.energy_pointing_game`."""

    name = "energy-pointing"
    title = "Pointing game with an energy threshold (paper, fig. 4)"
    quantities = (Quantity("critical", "largest share of energy in a foreground on the object"),)
    curves = (Curve("accuracy", "pointing accuracy", "share of the energy in the foreground", SHARES, _hits),)
    headline = "critical"
    needs_places = True
    conventions = "Pixels of equal value enter the foreground together; an all-equal map misses at every share."

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        return over_targets(bench, samples, lambda m, e: {"critical": critical_share(m, _mask(e))})


class EnergyInsideExperiment(Experiment):
    """The share of relevance on the object; see :mod:`captum_clrp.evaluation.metrics.energy_inside`."""

    name = "energy-inside"
    title = "Share of positive relevance on the object"
    quantities = (Quantity("inside", "share inside"),)
    headline = "inside"
    needs_places = True
    conventions = "A map without positive values scores 0; an all-equal map scores the object's share of the area."

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        return over_targets(bench, samples, lambda m, e: {"inside": energy_inside(m, _mask(e))})


class GridPointing(Experiment):
    """The grid pointing game; see :mod:`captum_clrp.evaluation.metrics.grid_pointing_game`; measured on scenes."""

    name = "grid"
    title = "Grid pointing game"
    quantities = (
        Quantity("share", "share of positive relevance in the right cell"),
        Quantity("hit", "maximum in the right cell"),
    )
    headline = "share"
    needs_places = True
    conventions = "Chance level is one over the number of cells. A map without positive values is no hit and scores 0."

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        return over_targets(
            bench, samples, lambda m, e: {"share": energy_inside(m, _mask(e)), "hit": float(pointing_hit(m, _mask(e)))}
        )
