"""Photographs with their classes and, where annotated, the places of the objects.

Each dataset is a sequence of :class:`captum_clrp.evaluation.Photograph`; annotations are read when a photograph is asked for. Classes are
the indices of the network's outputs. To add a dataset, add a reader here that says what to download if it is missing.
"""

from captum_clrp.evaluation.datasets.base import Dataset, MissingDatasetError, Photograph, Target
from captum_clrp.evaluation.datasets.coco import CocoDetection
from captum_clrp.evaluation.datasets.embedded import Embedded
from captum_clrp.evaluation.datasets.folder import ImageFolder
from captum_clrp.evaluation.datasets.ilsvrc import ILSVRC2012
from captum_clrp.evaluation.datasets.voc import VOC2007, VOC_CLASSES

__all__ = [
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
]
