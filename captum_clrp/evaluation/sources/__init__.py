"""What is measured on: photographs, or scenes of several, as the network sees them."""

from captum_clrp.evaluation.sources.base import Explained, Sample, Source, subset
from captum_clrp.evaluation.sources.grids import GridSource, cell_mask, compose_grid
from captum_clrp.evaluation.sources.photographs import PhotographSource

__all__ = ["Explained", "GridSource", "PhotographSource", "Sample", "Source", "cell_mask", "compose_grid", "subset"]
