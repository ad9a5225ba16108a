"""What the metrics share: one value (or one row of values) for each image, kept, synchronised and averaged.

A metric is one class in one file. It is a ``torchmetrics.Metric`` (``update``, ``compute``, ``reset``), and it measures
the images of a run (``measure_batch``). It enters ``METRICS`` by having a ``name``, and the command learns all else from
it: what it asks, its options, what it needs, what it has to show.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_clrp.errors import InvalidInputError, check_choice
from captum_clrp.evaluation.methods import METHODS
from captum_clrp.evaluation.metrics.bench import Bench, Case, Measured, over_cases
from captum_clrp.evaluation.registry import Option, Registry, source_checksum
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import Average

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captum_clrp.evaluation.results.summary import Summary


@dataclass(frozen=True)
class Quantity:
    """A number that is measured for each method.

    Attributes:
        name: Its key in the records.
        title: What reports call it.
        better: ``"high"``, ``"low"``, or ``""`` where neither is.
    """

    name: str
    title: str
    better: Literal["high", "low", ""] = "high"

    @property
    def note(self) -> str:
        """What stands behind its name in tables."""
        return f" ({self.better}er is better)" if self.better else ""


@dataclass(frozen=True)
class Curve:
    """A list of numbers that is measured for each method, over a common axis.

    Attributes:
        name: What files call it.
        title: What figures call it.
        axis: Name of the horizontal axis.
        x: Its values.
        of: From an image's values of one method to the heights of the curve.
    """

    name: str
    title: str
    axis: str
    x: Sequence[float]
    of: Callable[[Mapping[str, Any]], Sequence[float]]


def average(values: Tensor, labels: Tensor, over: Average) -> Tensor:
    """Mean over images, or over classes of the mean over a class's images.

    Args:
        values: ``(n, ...)``.
        labels: ``(n,)``, the class of each.
        over: ``"images"`` or ``"classes"``. With ``"classes"`` a class without images does not count.

    Returns:
        Tensor of shape ``values.shape[1:]``; NaN where there is no image.
    """
    if over == "images" or not len(values):
        return values.mean(0)
    _, group = labels.unique(return_inverse=True)
    count = torch.bincount(group)
    sums = values.new_zeros(len(count), *values.shape[1:]).index_add_(0, group, values)
    return (sums / count.reshape(-1, *[1] * (values.dim() - 1))).mean(0)


class PerImageMetric(Metric):
    """A metric that keeps what it measured on each image, so that intervals can be computed as well.

    A class with a ``name`` can be named on the command line. It says what :meth:`measure_batch` finds in ``quantities``, and
    overrides of the rest what differs.

    Args:
        average: ``"images"`` or ``"classes"``: what the mean is taken over.

    Attributes:
        name: Name on the command line.
        title: What reports call it.
        asks: The question that it answers, for the command's help.
        conventions: How ties, empty maps and the like count; in a sentence or two, for reports.
        quantities: The numbers that come out.
        curves: The curves that come out.
        columns: Names of the values that :meth:`keep` is given for each image. Default: those of the quantities.
        options: What the command takes for it.
        headline: The quantity that decides about best and worst examples. Default: the first.
        needs_places: Whether targets without a known place are left out.
        needs_mean: Whether the mean image is needed.
        chooses_classes: Whether it decides itself what is explained, so that photographs without class serve as well.
        uses_methods: Whether attribution methods are compared (otherwise parts of the network are).
        default_methods: What is compared if nothing is asked for.
        scenes: Photographs along each side of the scenes that it is measured on; 0 for single photographs.

    Raises:
        InvalidInputError: for another ``average``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None  # torchmetrics' word for what all quantities say; None if they differ
    values: list[Tensor]
    labels: list[Tensor]

    name: str
    title: str
    asks: str = ""
    conventions: str = ""
    quantities: Sequence[Quantity] = ()
    curves: Sequence[Curve] = ()
    columns: Sequence[str] = ()
    options: Sequence[Option] = ()
    headline: str
    needs_places: bool = False
    needs_mean: bool = False
    chooses_classes: bool = False
    uses_methods: bool = True
    default_methods: Sequence[str] = METHODS
    scenes: int = 0

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "name" not in cls.__dict__:
            return
        if "quantities" in cls.__dict__ and "headline" not in cls.__dict__:
            cls.headline = cls.quantities[0].name
        if "higher_is_better" not in cls.__dict__:
            better = {quantity.better for quantity in cls.quantities}
            cls.higher_is_better = {"high": True, "low": False}.get(better.pop()) if len(better) == 1 else None
        METRICS.add(cls.name, cls)

    def __init__(self, *, average: Average = "images", **options: Any) -> None:
        super().__init__(**options)
        check_choice("average", average, Average)
        self.average = average
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    # -- as a torchmetrics.Metric --------------------------------------------------------------------------------------

    def keep(self, values: Iterable[Any], labels: Tensor | None) -> None:
        """Remember one row of values for each image of a batch.

        Args:
            values: For each image a number, or as many as there are ``columns``.
            labels: ``(N,)``, the explained classes; ``None`` where they do not matter.

        Raises:
            InvalidInputError: if there are not as many labels as rows.
        """
        rows = [torch.as_tensor(row, dtype=torch.float64, device=self.device) for row in values]
        if not rows:
            return
        if labels is None:
            labels = torch.zeros(len(rows), dtype=torch.long)
        if labels.shape != (len(rows),):
            raise InvalidInputError(
                f"labels of shape {tuple(labels.shape)} do not fit {len(rows)} maps; give one class for each"
            )
        self.values.append(torch.stack(rows))
        self.labels.append(labels.to(self.device, torch.long))

    def per_image(self) -> tuple[Tensor, Tensor]:
        """What was measured: values ``(n, ...)`` and classes ``(n,)``."""
        return _joined(self.values, torch.float64, self.device), _joined(self.labels, torch.long, self.device)

    def compute(self) -> Any:
        """The mean, or the mean of each column by its name, each a scalar; NaN if no image was seen."""
        values, labels = self.per_image()
        columns = self.columns or [q.name for q in self.quantities]
        if len(columns) < 2:
            return average(values, labels, self.average)
        means = average(values.reshape(-1, len(columns)), labels, self.average)
        return dict(zip(columns, means, strict=True))

    # -- in a run ------------------------------------------------------------------------------------------------------

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        """What each of the ``samples`` of a batch gives, with the network and methods of ``bench``."""
        raise NotImplementedError(f"{type(self).__name__} must implement measure_batch to take part in a run")

    def check(self, bench: Bench) -> None:
        """Refuse a network, or methods, that cannot be measured, before anything is.

        Args:
            bench: What is to be measured.

        Raises:
            InvalidInputError: naming what it is and what is accepted.
        """

    def settings(self) -> dict[str, Any]:
        """What changes the numbers, besides data, network and methods."""
        found = {option.name: getattr(self, option.argument) for option in self.options}
        module = type(self).__module__
        return found if module.startswith("captum_clrp.") else found | {"source": source_checksum(module)}

    def extra(self, measured: Sequence[Measured]) -> dict[str, Any]:
        """What the summary of all that was ``measured`` holds besides means: tests, matrices."""
        return {}

    def report(self, summary: Summary) -> list[str]:
        """Further lines of the report of a ``summary``."""
        return []

    def chance(self, quantity: str, area: float | None = None) -> float | None:
        """What a map that knows nothing reaches on average; ``None`` where that is not known.

        Args:
            quantity: The name of the quantity.
            area: The share of a picture that its object covers, averaged as the quantity is; ``None`` where it is not known.
        """
        return None

    def figures(self, bench: Bench, summary: Summary, first: Sample | None) -> dict[str, Figure]:
        """Further figures, by name.

        Args:
            bench: Network and methods.
            summary: What came out.
            first: The first image of the data, if there is one.
        """
        return {}


METRICS: Registry[PerImageMetric] = Registry("metric")
"""All metrics by the name that the command gives them."""


class MapMetric(PerImageMetric):
    """A metric that judges each map by itself: its subclasses need :meth:`score`, a ``name`` and ``quantities``."""

    @abstractmethod
    def score(self, heat: Tensor, mask: Tensor) -> Mapping[str, float]:
        """The quantities of one map.

        Args:
            heat: ``(H, W)`` or ``(C, H, W)``.
            mask: ``(H, W)``, true on the object; nowhere true if its place is not known.
        """

    def update(self, maps: Tensor, masks: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
            masks: ``(N, H, W)``, true on the object; needed by metrics that ask where it is.
            labels: ``(N,)``, the explained classes; needed for ``average="classes"``.

        Raises:
            InvalidInputError: if there are not as many masks as maps.
        """
        if masks is None and self.needs_places:
            raise InvalidInputError(f"{type(self).__name__} asks where the object is; give a mask for each map")
        if masks is not None and len(maps) != len(masks):
            raise InvalidInputError(f"{len(maps)} maps and {len(masks)} masks were given; give one mask for each map")
        if masks is None:
            masks = torch.zeros(len(maps), *maps.shape[-2:], dtype=torch.bool)
        scores = [list(self.score(heat, mask).values()) for heat, mask in zip(maps, masks, strict=True)]
        self.keep([row[0] if len(row) == 1 else row for row in scores], labels)

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        def score(case: Case, heat: Tensor) -> Mapping[str, float]:
            known = case.explained.mask
            return self.score(heat, torch.zeros_like(heat, dtype=torch.bool) if known is None else known)

        return over_cases(bench, samples, score)


def _joined(rows: list[Tensor] | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if isinstance(rows, Tensor):  # after synchronisation
        return rows
    return torch.cat(rows) if rows else torch.zeros(0, dtype=dtype, device=device)
