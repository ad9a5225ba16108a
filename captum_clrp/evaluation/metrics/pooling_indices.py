"""Where max pooling's winners lie at the border of the feature map (supplement B of the paper).

In the outermost regions of a max pooling, winners should lie in each of the region's lines equally often. The paper
saw that in torchvision's Inception v3 they lie in the outermost line too often, so that relevance collects on the
border of the image, and suspected the zero padding of the convolutions. Here both are measured, for any network: the
share of winners in the outermost line, against the uniform expectation and against the same share in the interior;
and the same with the zeros of all convolutions' padding replaced by copies of the border.

A region in which several pixels share the maximum (all zero behind a rectifier, say) has no winner and does not
count: the framework would name the first pixel in reading order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics.base import PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Measured
from captum_clrp.evaluation.metrics.pooling_observation import Pooling, measured_with
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import sign_flip_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captum_clrp.evaluation.results.summary import Summary


class BorderWinners(NamedTuple):
    """Counts for one image and one pooling.

    Attributes:
        outer: Winners in the outermost line, over the outermost regions of all four sides.
        regions: Those regions that have a winner.
        expected: Winners in the outermost line if each line were equally likely.
        interior_first: Winners in the first line of interior regions, over the four directions.
        interior_regions: Interior regions with a winner, counted once for each direction.
    """

    outer: int
    regions: int
    expected: float
    interior_first: int
    interior_regions: int

    def shares(self) -> dict[str, float]:
        """``outer``, ``uniform`` and ``interior`` as shares of regions; NaN without any."""
        return {
            "outer": _share(self.outer, self.regions),
            "uniform": _share(self.expected, self.regions),
            "interior": _share(self.interior_first, self.interior_regions),
        }


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def border_winners(pooling: Pooling) -> list[BorderWinners]:
    """Counts for each image of a pooling.

    Regions at a corner belong to two sides and count for each. The outermost line of a side is the outermost one that
    the side's regions see; where a pooling leaves out the last lines of its input, that is not the border itself.
    """
    rows, columns = pooling.lines(0), pooling.lines(1)
    images = pooling.inputs.shape[0]
    outer, regions, first, inside = ([0] * images for _ in range(4))
    expected = [0.0] * images
    sides = ((0, rows[0], 0), (0, rows[-1], -1), (1, columns[0], 0), (1, columns[-1], -1))
    for axis, lines, line in sides:
        across = columns if axis == 0 else rows
        won, counted = _winners(pooling, axis, [lines], across, line)
        for i in range(images):
            outer[i] += int(won[i])
            regions[i] += int(counted[i])
            expected[i] += int(counted[i]) / len(lines)
    for axis, line in itertools.product((0, 1), (0, -1)):
        along, across = (rows, columns) if axis == 0 else (columns, rows)
        won, counted = _winners(pooling, axis, along[1:-1], across[1:-1], line)
        for i in range(images):
            first[i] += int(won[i])
            inside[i] += int(counted[i])
    return [BorderWinners(*counts) for counts in zip(outer, regions, expected, first, inside, strict=True)]


def _winners(
    pooling: Pooling, axis: int, along: Sequence[Sequence[int]], across: Sequence[Sequence[int]], line: int
) -> tuple[Tensor, Tensor]:
    """For each image: winners in one line (0 or -1) of the regions, and regions with a winner."""
    values = pooling.inputs if axis == 0 else pooling.inputs.transpose(2, 3)
    won = torch.zeros(len(values), dtype=torch.long)
    counted = torch.zeros(len(values), dtype=torch.long)
    for size in {len(lines) for lines in across}:
        columns = torch.tensor([lines for lines in across if len(lines) == size])  # (R, k)
        for lines in along:
            strip = values[:, :, list(lines)]  # (N, C, L, W)
            region = strip[:, :, :, columns]  # (N, C, L, R, k)
            largest = region.amax((2, 4), keepdim=True)
            at = region == largest
            unique = at.sum((2, 4)) == 1  # (N, C, R)
            there = at[:, :, line].any(-1) & unique
            won += there.sum((1, 2)).cpu()
            counted += unique.sum((1, 2)).cpu()
    return won, counted


def winner_map(pooling: Pooling) -> Tensor:
    """How often each input position wins in the outermost regions of a ``pooling``, over images and channels; ``(H, W)``."""
    counts = torch.zeros(pooling.inputs.shape[2:], dtype=torch.long)
    rows, columns = pooling.lines(0), pooling.lines(1)
    last_row, last_column = len(rows) - 1, len(columns) - 1
    for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)):
        if i not in (0, last_row) and j not in (0, last_column):
            continue
        region = pooling.inputs[:, :, r][:, :, :, c]  # (N, C, rows, columns)
        at = region == region.amax((2, 3), keepdim=True)
        at &= at.sum((2, 3), keepdim=True) == 1
        counts[r[0] : r[-1] + 1 : _step(r), c[0] : c[-1] + 1 : _step(c)] += at.sum((0, 1)).cpu()
    return counts


def _step(lines: Sequence[int]) -> int:
    return lines[1] - lines[0] if len(lines) > 1 else 1


class PoolingIndices(PerImageMetric):
    """Where max pooling's winners lie: shares of regions, for each pooling of a network; conventions of this file.

    In a run, each max pooling takes the place of a method.

    Raises:
        InvalidInputError: in a run, for a network without max pooling.
    """

    name = "pooling-indices"
    title = "Max pooling's winners at the border (supplement B)"
    asks = "where max pooling's winners lie at the border (supplement B)"
    conventions = (
        "Regions in which several pixels share the maximum do not count. p-values are one-sided, by permutation of "
        "signs over images."
    )
    quantities = (
        Quantity("outer", "winners in the outermost line", ""),
        Quantity("uniform", "uniform expectation", ""),
        Quantity("interior", "same share in the interior", ""),
        Quantity("outer_replicated", "winners in the outermost line, borders replicated instead of zeros", ""),
        Quantity("excess", "outermost minus uniform", ""),
        Quantity("padding_effect", "outermost minus outermost with replicated borders", ""),
    )
    headline = "excess"
    uses_methods = False
    chooses_classes = True

    def update(self, model: nn.Module, images: Tensor) -> None:
        """Measure a batch, always with the same network.

        Args:
            model: In evaluation mode.
            images: ``(N, C, H, W)``, as the model takes them.
        """
        self.keep([[list(v.values()) for v in _values(model, image[None]).values()] for image in images], None)

    def compute(self) -> dict[str, Tensor]:
        """Each quantity of each pooling, ``(P,)``; images without a region that counts are left out."""
        values, _ = self.per_image()
        means = values.reshape(len(values), -1, len(self.quantities)).nanmean(0)
        return {q.name: mean for q, mean in zip(self.quantities, means.unbind(1), strict=True)}

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        results: list[tuple[Measured, ...]] = []
        for sample in samples:
            values = _values(bench.network.model, bench.network.inputs(sample.pixels)[None])
            if not values:
                raise InvalidInputError(
                    f"{bench.network.name} runs no max pooling of two dimensions; choose another network, e.g. vgg16"
                )
            results.append((Measured.of_sample(sample, values),))
        return results

    def extra(self, measured: Sequence[Measured]) -> dict[str, Any]:
        rows = [m.values for m in measured]
        tests: dict[str, dict[str, float]] = {}
        for name in rows[0] if rows else ():
            of_layer = [row[name] for row in rows]
            tests[name] = {
                "above_uniform": sign_flip_test([v["excess"] for v in of_layer]),
                "above_interior": sign_flip_test([v["outer"] - v["interior"] for v in of_layer]),
                "above_replicated": sign_flip_test([v["padding_effect"] for v in of_layer]),
            }
        return {"p_values": tests}

    def report(self, summary: Summary) -> list[str]:
        return [
            f"p-values of {name}: " + ", ".join(f"{k} {'-' if math.isnan(p) else f'{p:.4g}'}" for k, p in tests.items())
            for name, tests in summary.extra["p_values"].items()
        ]

    def figures(self, bench: Bench, summary: Summary, first: Sample | None) -> dict[str, Figure]:
        return {} if first is None else {"winners": draw_winners(bench, first)}


def _values(model: nn.Module, inputs: Tensor) -> dict[str, dict[str, float]]:
    """Quantities of each pooling, for one image ``(1, C, H, W)``."""
    found = {}
    runs = (measured_with(model, inputs, replicate=replicate) for replicate in (False, True))
    for plain, other in zip(*runs, strict=True):
        shares = border_winners(plain)[0].shares()
        without = border_winners(other)[0].shares()["outer"]
        found[plain.name] = shares | {
            "outer_replicated": without,
            "excess": shares["outer"] - shares["uniform"],
            "padding_effect": shares["outer"] - without,
        }
    return found


def draw_winners(bench: Bench, sample: Sample, most: int = 2, corner: int = 9) -> Figure:
    """Where winners lie in the upper left corner of the first poolings' inputs, with zero padding and without."""
    from matplotlib.figure import Figure

    from captum_clrp.evaluation.drawing import draw_counts

    inputs = bench.network.inputs(sample.pixels)[None]
    runs = [measured_with(bench.network.model, inputs, replicate=r)[:most] for r in (False, True)]
    figure = Figure(figsize=(0.4 + 3.0 * len(runs[0]), 6.2), layout="constrained")
    for row, (poolings, how) in enumerate(zip(runs, ("padding as it is", "borders replicated"), strict=True)):
        for column, pooling in enumerate(poolings):
            axes = figure.add_subplot(2, len(poolings), row * len(poolings) + column + 1)
            draw_counts(axes, winner_map(pooling)[:corner, :corner].numpy())
            axes.set_title(f"{pooling.name}, {how}", fontsize=8)
    figure.suptitle(f"Winners in the outermost regions, upper left corner, all channels\n{sample.id}", fontsize=9)
    return figure
