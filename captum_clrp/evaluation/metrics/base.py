"""What the metrics share: one value (or one row of values) for each image, kept, synchronised and averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from captum_clrp.errors import InvalidInputError

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError(
        "captum_clrp.evaluation builds on torchmetrics; install it with: pip install 'captum-clrp[eval]'"
    ) from error

__all__ = ["PerImageMetric", "average"]


def average(values: Tensor, labels: Tensor, over: str) -> Tensor:
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

    Args:
        average: ``"images"`` or ``"classes"``: what the mean is taken over.

    Raises:
        InvalidInputError: for another ``average``.
    """

    full_state_update = False
    is_differentiable = False
    values: list[Tensor]
    labels: list[Tensor]

    def __init__(self, *, average: str = "images", **options: Any) -> None:
        super().__init__(**options)
        if average not in ("images", "classes"):
            raise InvalidInputError(f"average={average!r} is not known; choose 'images' or 'classes'")
        self.average = average
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def keep(self, values: Iterable[Any], labels: Tensor | None) -> None:
        """Remember one row of values for each image of a batch."""
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
        """The mean; NaN if no image was seen."""
        return average(*self.per_image(), self.average)


def pairs(maps: Tensor, masks: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """Maps and masks of a batch, image by image.

    Raises:
        InvalidInputError: if there are not as many masks as maps.
    """
    if len(maps) != len(masks):
        raise InvalidInputError(f"{len(maps)} maps and {len(masks)} masks were given; give one mask for each map")
    return zip(maps, masks, strict=True)


def _joined(rows: list[Tensor] | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if isinstance(rows, Tensor):  # after synchronisation
        return rows
    return torch.cat(rows) if rows else torch.zeros(0, dtype=dtype, device=device)
