"""Measure explanations: the paper's experiments (section 5) and others, on any dataset, with any method.

Each metric is a pure function for one image and a class in the same file, which states its conventions: a
``torchmetrics.Metric`` that also measures the images of a run. :class:`Run` measures a whole dataset, alone or in many
processes, and can be stopped and continued; it is what ``captum-clrp evaluate`` does.
"""

from captum_clrp.evaluation import needed  # noqa: F401  # says what to install
from captum_clrp.evaluation.datasets import (
    DATASETS,
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
from captum_clrp.evaluation.methods import METHODS, MethodSet
from captum_clrp.evaluation.metrics.base import METRICS, Curve, MapMetric, PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Measured
from captum_clrp.evaluation.metrics.class_similarity import ClassSimilarity, class_similarity, mean_similarity
from captum_clrp.evaluation.metrics.energy_inside import EnergyInside, energy_inside
from captum_clrp.evaluation.metrics.energy_pointing_game import EnergyPointingGame, critical_share, energy_hits
from captum_clrp.evaluation.metrics.grid_pointing_game import GridPointingGame, grid_score
from captum_clrp.evaluation.metrics.insertion_deletion import InsertionDeletion, insertion_deletion
from captum_clrp.evaluation.metrics.maps import as_map, positive_part
from captum_clrp.evaluation.metrics.neuron_ablation import (
    NeuronAblation,
    activations_at,
    diagonal_share,
    neuron_drops,
    strongest_neurons,
)
from captum_clrp.evaluation.metrics.patch_ablation import PatchAblation, ablate_patch, patch_drop
from captum_clrp.evaluation.metrics.pointing_game import PointingGame, pointing_hit
from captum_clrp.evaluation.metrics.pooling_indices import PoolingIndices, border_winners, winner_map
from captum_clrp.evaluation.metrics.pooling_observation import observe_pooling, replicated_borders
from captum_clrp.evaluation.metrics.random_logit import RandomLogit
from captum_clrp.evaluation.metrics.randomisation import ParameterRandomisation
from captum_clrp.evaluation.metrics.sensitivity import Sensitivity
from captum_clrp.evaluation.metrics.sparseness import Sparseness, gini
from captum_clrp.evaluation.registry import Option
from captum_clrp.evaluation.results.records import read_values
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

EXPERIMENTS, Experiment = METRICS, PerImageMetric  # their names before a metric was one class

__all__ = [
    "DATASETS",
    "ILSVRC2012",
    "METHODS",
    "METRICS",
    "VOC2007",
    "Bench",
    "Box",
    "ClassSimilarity",
    "CocoDetection",
    "Curve",
    "Dataset",
    "Embedded",
    "EnergyInside",
    "EnergyPointingGame",
    "Explained",
    "Geometry",
    "GridPointingGame",
    "GridSource",
    "ImageFolder",
    "InsertionDeletion",
    "MapMetric",
    "Measured",
    "MethodSet",
    "MissingDatasetError",
    "NeuronAblation",
    "Option",
    "ParameterRandomisation",
    "PatchAblation",
    "PerImageMetric",
    "Photograph",
    "PhotographSource",
    "PointingGame",
    "PoolingIndices",
    "Quantity",
    "RandomLogit",
    "Run",
    "Sample",
    "Sensitivity",
    "Source",
    "Sparseness",
    "Summary",
    "Target",
    "Team",
    "ablate_patch",
    "activations_at",
    "as_map",
    "border_winners",
    "box_mask",
    "cell_mask",
    "class_similarity",
    "compose_grid",
    "critical_share",
    "diagonal_share",
    "energy_hits",
    "energy_inside",
    "gini",
    "grid_score",
    "insertion_deletion",
    "mean_image",
    "mean_similarity",
    "neuron_drops",
    "observe_pooling",
    "patch_drop",
    "pointing_hit",
    "positive_part",
    "read_values",
    "replicated_borders",
    "sign_flip_test",
    "strongest_neurons",
    "summarise",
    "team_of_environment",
    "winner_map",
]
