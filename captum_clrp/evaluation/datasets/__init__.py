"""Photographs with their classes and, where annotated, the places of the objects.

Each dataset is a sequence of :class:`~captum_clrp.evaluation.Photograph`; annotations are read when a photograph is
asked for. Classes are the indices of the network's outputs. To add a dataset, add a file here with a subclass of
:class:`~captum_clrp.evaluation.Dataset` that has a ``key`` and says what to download if it is missing.
"""

from captum_clrp.evaluation.datasets.base import (
    DATASETS,
    Dataset,
    MissingDatasetError,
    Photograph,
    Target,
    find_dataset,
)
from captum_clrp.evaluation.datasets.coco import CocoDetection
from captum_clrp.evaluation.datasets.embedded import Embedded
from captum_clrp.evaluation.datasets.folder import ImageFolder
from captum_clrp.evaluation.datasets.ilsvrc import ILSVRC2012
from captum_clrp.evaluation.datasets.voc import VOC2007, VOC_CLASSES
from captum_clrp.evaluation.registry import import_all

__all__ = [
    "DATASETS",
    "ILSVRC2012",
    "VOC2007",
    "VOC_CLASSES",
    "CocoDetection",
    "Dataset",
    "Embedded",
    "ImageFolder",
    "MissingDatasetError",
    "Photograph",
    "Target",
    "find_dataset",
]

import_all(__name__)
