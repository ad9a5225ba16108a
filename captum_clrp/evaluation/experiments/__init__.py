"""The experiments of the paper (and some of others) by name, each measured image by image.

To add one, derive from :class:`captum_clrp.evaluation.Experiment` and name it in ``EXPERIMENTS``.
"""

from captum_clrp.evaluation.experiments.base import Bench, Curve, Experiment, Quantity
from captum_clrp.evaluation.experiments.localisation import (
    EnergyInsideExperiment,
    EnergyPointing,
    GridPointing,
    Pointing,
)
from captum_clrp.evaluation.experiments.neurons import NEURON_METHODS, Neurons
from captum_clrp.evaluation.experiments.perturbation import Ablation, InsertionDeletionExperiment
from captum_clrp.evaluation.experiments.pooling import PoolingIndices
from captum_clrp.evaluation.experiments.similarity import Similarity

__all__ = [
    "EXPERIMENTS",
    "NEURON_METHODS",
    "Ablation",
    "Bench",
    "Curve",
    "EnergyInsideExperiment",
    "EnergyPointing",
    "Experiment",
    "GridPointing",
    "InsertionDeletionExperiment",
    "Neurons",
    "Pointing",
    "PoolingIndices",
    "Quantity",
    "Similarity",
]

EXPERIMENTS: dict[str, type[Experiment]] = {
    experiment.name: experiment
    for experiment in (
        Pointing,
        EnergyPointing,
        EnergyInsideExperiment,
        GridPointing,
        Ablation,
        InsertionDeletionExperiment,
        Similarity,
        Neurons,
        PoolingIndices,
    )
}
"""Experiments by the name of their metric in the command."""
