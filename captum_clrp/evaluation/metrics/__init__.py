"""The metrics: the experiments of the paper, and others. Each is one class in one file.

To add one, add a file here with a subclass of :class:`~captum_clrp.evaluation.metrics.base.MapMetric` (or, if it runs
the network itself, :class:`~captum_clrp.evaluation.metrics.base.PerImageMetric`) that has a ``name``.
"""

from captum_clrp.evaluation.metrics.base import METRICS, Curve, MapMetric, PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Case, Measured, over_cases
from captum_clrp.evaluation.registry import import_all

__all__ = ["METRICS", "Bench", "Case", "Curve", "MapMetric", "Measured", "PerImageMetric", "Quantity", "over_cases"]

import_all(__name__)
