"""What a metric works with in a run: the network, the compared methods, the mean image, and the time that is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from captum_clrp.classifiers import Classifier
from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods import MethodSet
from captum_clrp.evaluation.sources import Explained, Sample

T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """What was measured for one explained class of an image.

    Attributes:
        label: The class.
        name: What the dataset calls it.
        values: For each method the measured quantities: numbers, or lists of numbers.
        top: Whether it is the class with the highest score.
        negative: Whether its score is negative.
        area: The share of the picture that the object covers; ``None`` where its place is not known.
    """

    label: int
    name: str
    values: Mapping[str, Mapping[str, Any]]
    top: bool = False
    negative: bool = False
    area: float | None = None

    @classmethod
    def of_sample(cls, sample: Sample, values: Mapping[str, Mapping[str, Any]]) -> Measured:
        """What was measured on an image as a whole, under the first class that it shows, if it shows one.

        Args:
            sample: The image.
            values: For each method the measured quantities.
        """
        shown = sample.explained[0] if sample.explained else None
        return cls(shown.label if shown else 0, shown.name if shown else "", values)


@dataclass
class Bench:
    """What all metrics work with.

    Attributes:
        network: The network.
        methods: The compared methods; ``None`` for a metric that compares none.
        mean: Mean image of the data, as the model takes it, ``(3, H, W)``; a run finds it for metrics that need it.
        seed: Seed of everything that is random; a run sets its own.
        batch: Images that the model takes at once where the metric itself runs it.
        attribution_seconds: Time spent on attributions, in :meth:`maps` and :meth:`timed`.
        model_seconds: Time spent in :meth:`model`: the forward passes that a metric itself consists of, and the one that
            tells which class is the network's top one, where no attribution told it.
    """

    network: Classifier
    methods: MethodSet | None
    mean: Tensor | None = None
    seed: int = 0
    batch: int = 16
    attribution_seconds: float = field(default=0.0, compare=False)
    model_seconds: float = field(default=0.0, compare=False)
    _said: tuple[Sequence[Sample], Tensor] = field(default=((), torch.empty(0)), init=False, repr=False, compare=False)

    @property
    def compared(self) -> MethodSet:
        """The compared methods.

        Raises:
            InvalidInputError: if there are none.
        """
        if self.methods is None:
            raise InvalidInputError("this metric compares methods, and there are none; make the Bench with a MethodSet")
        return self.methods

    @property
    def mean_image(self) -> Tensor:
        """The mean image, ``(3, H, W)``.

        Raises:
            InvalidInputError: if there is none.
        """
        if self.mean is None:
            raise InvalidInputError("this metric needs the mean image of the data; make the Bench with mean=...")
        return self.mean

    def maps(self, inputs: Tensor, concepts: Sequence[Tensor], ids: Sequence[str]) -> dict[str, Tensor]:
        """Maps of all methods; the time is counted.

        Args:
            inputs: ``(N, C, H, W)``, as the model takes it.
            concepts: K concepts, each ``(N, M)``; see :class:`captum_clrp.evaluation.MethodSet`.
            ids: The images' names.

        Returns:
            For each method ``(N, K, H, W)``, on the CPU.
        """
        methods = self.compared
        return self.timed(lambda: methods.maps(inputs, concepts, ids))

    def explain(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Maps of every class that the samples show.

        Args:
            samples: A batch, of one size, each with K classes.

        Returns:
            As :meth:`maps`.
        """
        maps = self.maps(self.inputs(samples), concepts_of(samples), [sample.id for sample in samples])
        if self.compared.logits is not None:
            self._said = samples, self.compared.logits.float().cpu()
        return maps

    def said_of(self, samples: Sequence[Sample]) -> Tensor:
        """What the network says of samples: ``(N, m)``, on the CPU.

        Of those that :meth:`explain` has just explained it is known from there, if a method ran the network as it is, and of
        those that were asked for last.

        Args:
            samples: A batch, of one size.
        """
        before, logits = self._said
        if len(samples) != len(before) or any(a is not b for a, b in zip(samples, before, strict=True)):
            logits = self.logits(torch.stack([sample.pixels for sample in samples]))
            self._said = samples, logits
        return logits

    def inputs(self, samples: Sequence[Sample]) -> Tensor:
        """What the model takes, ``(N, 3, H, W)``, of ``samples`` of one size."""
        return self.network.inputs(torch.stack([sample.pixels for sample in samples]))

    def logits(self, pixels: Tensor) -> Tensor:
        """What the network says of images ``(N, 3, H, W)`` with pixels in 0 ... 255: ``(N, m)``, on the CPU."""
        return self.model(self.network.inputs(pixels)).float().cpu()

    def timed(self, attribute: Callable[[], T]) -> T:
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


class Case(NamedTuple):
    """One map: of one method, for one class of one image.

    Attributes:
        position: Position of the image in its batch.
        sample: The image.
        k: Position of the class among those that the image shows.
        method: The method.
    """

    position: int
    sample: Sample
    k: int
    method: str

    @property
    def explained(self) -> Explained:
        """The class."""
        return self.sample.explained[self.k]


def concepts_of(samples: Sequence[Sample]) -> list[Tensor]:
    """The classes of samples with K of them each, as K concepts ``(N, 1)``."""
    return list(torch.tensor([[e.label for e in sample.explained] for sample in samples]).split(1, dim=1))


def over_cases(
    bench: Bench,
    samples: Sequence[Sample],
    score: Callable[[Case, Tensor], Mapping[str, Any]],
    maps: Mapping[str, Tensor] | None = None,
) -> list[tuple[Measured, ...]]:
    """Explain every class that the samples show, as many for each of them, and score each map by itself.

    Args:
        bench: Network and methods.
        samples: A batch, of one size.
        score: From a case and its map ``(H, W)`` to the quantities.
        maps: What :meth:`captum_clrp.evaluation.Bench.explain` returned, where the samples are explained already.

    Returns:
        For each sample what was measured for each of its classes.
    """
    maps = bench.explain(samples) if maps is None else maps
    found = []
    for i, sample in enumerate(samples):
        cases = [[Case(i, sample, k, method) for method in maps] for k in range(len(sample.explained))]
        values = [{case.method: score(case, maps[case.method][i, case.k]) for case in of_class} for of_class in cases]
        areas = [None if e.mask is None else float(e.mask.float().mean()) for e in sample.explained]
        of_sample = zip(sample.explained, values, areas, strict=True)
        found.append(tuple(Measured(e.label, e.name, v, area=area) for e, v, area in of_sample))
    return found
