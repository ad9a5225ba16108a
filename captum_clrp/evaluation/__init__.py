"""Measure explanations: the paper's experiments (section 5) and others, on any dataset, with any method.

Each metric is a pure function for one image and a ``torchmetrics.Metric`` in the same file, which states its
conventions. :class:`Run` measures a whole dataset, alone or in many processes, and can be stopped and continued; it
is what ``captum-clrp evaluate`` does.
"""

from captum_clrp.evaluation.datasets import (
    ILSVRC2012,
    VOC2007,
    CocoDetection,
    Dataset,
    Embedded,
    ImageFolder,
    MissingDatasetError,
    Photograph,
    Target,
)
from captum_clrp.evaluation.experiments import EXPERIMENTS, Bench, Experiment
from captum_clrp.evaluation.methods import METHODS, MethodSet
from captum_clrp.evaluation.metrics.class_similarity import ClassSimilarity, class_similarity, mean_similarity
from captum_clrp.evaluation.metrics.energy_inside import EnergyInside, energy_inside
from captum_clrp.evaluation.metrics.energy_pointing_game import EnergyPointingGame, critical_share, energy_hits
from captum_clrp.evaluation.metrics.grid_pointing_game import GridPointingGame, grid_score
from captum_clrp.evaluation.metrics.insertion_deletion import InsertionDeletion, insertion_deletion
from captum_clrp.evaluation.metrics.neuron_ablation import (
    NeuronAblation,
    activations_at,
    diagonal_share,
    neuron_drops,
    strongest_neurons,
)
from captum_clrp.evaluation.metrics.patch_ablation import PatchAblation, ablate_patch, patch_drop
from captum_clrp.evaluation.metrics.pointing_game import PointingGame, pointing_hit
from captum_clrp.evaluation.metrics.pooling_indices import (
    border_winners,
    observe_pooling,
    replicated_borders,
    winner_map,
)
from captum_clrp.evaluation.results.summary import Summary, summarise
from captum_clrp.evaluation.running.mean_image import mean_image
from captum_clrp.evaluation.running.processes import Team, team_of_environment
from captum_clrp.evaluation.running.runner import Run
from captum_clrp.evaluation.sources import (
    Explained,
    GridSource,
    PhotographSource,
    Sample,
    Source,
    cell_mask,
    compose_grid,
)
from captum_clrp.evaluation.statistics import sign_flip_test
from captum_clrp.geometry import Box, Geometry, box_mask

__all__ = [
    "EXPERIMENTS",
    "ILSVRC2012",
    "METHODS",
    "VOC2007",
    "Bench",
    "Box",
    "ClassSimilarity",
    "CocoDetection",
    "Dataset",
    "Embedded",
    "EnergyInside",
    "EnergyPointingGame",
    "Experiment",
    "Explained",
    "Geometry",
    "GridPointingGame",
    "GridSource",
    "ImageFolder",
    "InsertionDeletion",
    "MethodSet",
    "MissingDatasetError",
    "NeuronAblation",
    "PatchAblation",
    "Photograph",
    "PhotographSource",
    "PointingGame",
    "Run",
    "Sample",
    "Source",
    "Summary",
    "Target",
    "Team",
    "ablate_patch",
    "activations_at",
    "border_winners",
    "box_mask",
    "cell_mask",
    "class_similarity",
    "compose_grid",
    "critical_share",
    "diagonal_share",
    "energy_hits",
    "energy_inside",
    "grid_score",
    "insertion_deletion",
    "mean_image",
    "mean_similarity",
    "neuron_drops",
    "observe_pooling",
    "patch_drop",
    "pointing_hit",
    "replicated_borders",
    "sign_flip_test",
    "strongest_neurons",
    "summarise",
    "team_of_environment",
    "winner_map",
]
