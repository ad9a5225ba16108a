"""What an experiment is: how a batch is measured, and which quantities and curves come out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captum_clrp.classifiers import Classifier
from captum_clrp.evaluation.methods import METHODS, MethodSet
from captum_clrp.evaluation.results.records import Measured, Record
from captum_clrp.evaluation.sources import Explained, Sample

__all__ = ["Bench", "Curve", "Experiment", "Quantity", "labels_of", "over_targets"]


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
    better: str = "high"


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


@dataclass
class Bench:
    """What all experiments work with.

    Attributes:
        network: The network.
        methods: The compared methods.
        mean: Mean image of the data, as the model takes it, ``(3, H, W)``; ``None`` where no experiment needs it.
        seed: Of everything random.
        batch: Images that the model takes at once where the experiment itself runs it.
        attribution_seconds: Time spent on attributions, in :meth:`maps` and :meth:`timed`.
        model_seconds: Time spent in :meth:`model`: the forward passes that an experiment itself consists of.
    """

    network: Classifier
    methods: MethodSet | None
    mean: Tensor | None = None
    seed: int = 0
    batch: int = 16
    attribution_seconds: float = field(default=0.0, compare=False)
    model_seconds: float = field(default=0.0, compare=False)

    def maps(self, inputs: Tensor, concepts: Sequence[Tensor], ids: Sequence[str]) -> dict[str, Tensor]:
        """Maps of all methods; the time is counted.

        Args:
            inputs: ``(N, C, H, W)``, as the model takes it.
            concepts: K concepts, each ``(N, M)``; see :class:`captum_clrp.evaluation.MethodSet`.
            ids: The images' names.

        Returns:
            For each method ``(N, K, H, W)``, on the CPU.
        """
        methods = self.methods
        assert methods is not None  # the runner makes them for experiments that use them
        maps: dict[str, Tensor] = self.timed(lambda: methods.maps(inputs, concepts, ids))
        return maps

    def logits(self, pixels: Tensor) -> Tensor:
        """What the network says of images ``(N, 3, H, W)`` with pixels in 0 ... 255: ``(N, m)``, on the CPU."""
        with torch.no_grad():
            logits: Tensor = self.network.model(self.network.inputs(pixels))
        return logits.float().cpu()

    def timed(self, attribute: Callable[[], Any]) -> Any:
        """What ``attribute`` returns; its time is counted."""
        began = time.perf_counter()
        result = attribute()
        self.attribution_seconds += time.perf_counter() - began
        return result

    def model(self, inputs: Tensor) -> Tensor:
        """Logits ``(N, m)`` of ``inputs``, float64, without a graph; the time is counted."""
        began = time.perf_counter()
        try:
            with torch.no_grad():
                logits: Tensor = self.network.model(inputs)
            return logits.double()
        finally:
            if inputs.is_cuda:
                torch.cuda.synchronize(inputs.device)
            self.model_seconds += time.perf_counter() - began


class Experiment(ABC):
    """A metric, measured image by image.

    Attributes:
        name: Of the command.
        title: What reports call it.
        quantities: The numbers that come out.
        curves: The curves that come out.
        headline: The quantity that decides about best and worst examples.
        needs_places: Whether targets without a known place are left out.
        needs_mean: Whether the mean image is needed.
        chooses_classes: Whether it decides itself what is explained, so that photographs without class serve as well.
        uses_methods: Whether attribution methods are compared (otherwise parts of the network are).
        default_methods: What is compared if nothing is asked for.
        conventions: In a sentence or two, for reports.
    """

    name: str
    title: str
    quantities: Sequence[Quantity]
    curves: Sequence[Curve] = ()
    headline: str
    needs_places: bool = False
    needs_mean: bool = False
    chooses_classes: bool = False
    uses_methods: bool = True
    default_methods: Sequence[str] = METHODS
    conventions: str = ""

    @abstractmethod
    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        """What each of the ``samples`` of a batch gives, with the network and methods of ``bench``."""

    def check(self, methods: Sequence[str]) -> None:  # noqa: B027
        """Refuse methods that this experiment cannot compare.

        Raises:
            InvalidInputError: naming the method and what is accepted.
        """

    def settings(self) -> dict[str, Any]:
        """What changes the numbers, besides data, network and methods."""
        return {}

    def extra(self, records: Sequence[Record]) -> dict[str, Any]:
        """What the summary of ``records`` holds besides means: tests, matrices. Without NaN."""
        return {}


def labels_of(samples: Sequence[Sample]) -> list[Tensor]:
    """The explained classes of samples with K of them each, as K concepts ``(N, 1)``."""
    return list(torch.tensor([[e.label for e in sample.explained] for sample in samples]).split(1, dim=1))


def over_targets(
    bench: Bench, samples: Sequence[Sample], score: Callable[[Tensor, Explained], Mapping[str, Any]]
) -> list[tuple[Measured, ...]]:
    """Explain every class of every sample and score each map by itself."""
    inputs = bench.network.inputs(torch.stack([sample.pixels for sample in samples]))
    maps = bench.maps(inputs, labels_of(samples), [sample.id for sample in samples])
    return [
        tuple(
            Measured(e.label, e.name, {name: score(of_method[i, k], e) for name, of_method in maps.items()})
            for k, e in enumerate(sample.explained)
        )
        for i, sample in enumerate(samples)
    ]
