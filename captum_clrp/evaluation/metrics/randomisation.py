"""Does the map depend on what the network has learned? Randomisation of its parameters (Adebayo et al. 2018).

Layers are given new random parameters, as many as they had, and the map of the same class is compared with that of the
trained network. A map that stays as it was shows the picture and not the network. Sixt et al. (2020) found that of LRP
does: by its z+ rule, relevance of every class ends up in the same places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from captum_clrp.errors import InvalidInputError, check_choice
from captum_clrp.evaluation.methods.base import image_seed
from captum_clrp.evaluation.metrics.base import Curve, PerImageMetric, Quantity
from captum_clrp.evaluation.metrics.bench import Bench, Case, Measured, concepts_of, over_cases
from captum_clrp.evaluation.metrics.likeness import rank_correlation, structural_similarity
from captum_clrp.evaluation.registry import Option
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import Average

Order = Literal["top-down", "bottom-up", "independent"]
STEPS = 4


def resettable(model: nn.Module) -> list[str]:
    """Names of the modules whose parameters can be drawn anew, the lowest first: those with ``reset_parameters``.

    Convolutions, fully connected layers and normalisations are, as PyTorch initialises them.

    Args:
        model: The network.

    Raises:
        InvalidInputError: if there is none.
    """
    names = [name for name, module in model.named_modules() if callable(getattr(module, "reset_parameters", None))]
    if not names:
        raise InvalidInputError(
            f"{type(model).__name__} has no module with reset_parameters, so that nothing can be randomised"
        )
    return names


def stages(count: int, order: Order = "top-down", steps: int = STEPS) -> list[range]:
    """Which of ``count`` layers are randomised at each step, by their positions from below.

    Args:
        count: Number of layers.
        order: ``"top-down"``, cascading: the last layer, then more and more of those below it, in equal parts;
            ``"bottom-up"``: the same from below; ``"independent"``: the parts one by one, from above, all else as it
            was trained.
        steps: Number of steps (fewer where there are fewer layers).

    Raises:
        InvalidInputError: for an unknown order, or no layers or steps.

    Example::

        >>> stages(7, "top-down", 3)
        [range(6, 7), range(3, 7), range(0, 7)]
        >>> stages(7, "independent", 3)
        [range(6, 7), range(3, 6), range(0, 3)]
        >>> stages(7, "bottom-up", 3)
        [range(0, 1), range(0, 4), range(0, 7)]
    """
    check_choice("order", order, Order)
    if count < 1 or steps < 1:
        raise InvalidInputError(f"{count} layers in {steps} steps cannot be randomised; give at least one of each")
    steps = min(steps, count)
    ends = [1 + round((count - 1) * k / max(1, steps - 1)) for k in range(steps)] if steps > 1 else [count]
    if order == "bottom-up":
        return [range(end) for end in ends]
    if order == "top-down":
        return [range(count - end, count) for end in ends]
    return [range(count - end, count - start) for start, end in zip([0, *ends], ends, strict=False)]


def _reset(module: Any) -> None:
    module.reset_parameters()


@contextlib.contextmanager
def randomised(model: nn.Module, names: Sequence[str], seed: int = 0) -> Iterator[nn.Module]:
    """The model with random parameters in some modules, within the ``with``; afterwards it is as it was, to the bit.

    What a module draws depends on its name and the seed alone, not on what else is randomised.

    Args:
        model: The network.
        names: Modules with ``reset_parameters``.
        seed: Seed of the drawing.
    """
    modules = {name: model.get_submodule(name) for name in names}
    kept: list[tuple[Tensor, Tensor]] = [
        (tensor, tensor.detach().clone())
        for module in modules.values()
        for tensor in (*module.parameters(), *module.buffers())
    ]
    try:
        with torch.random.fork_rng():
            for name, module in modules.items():
                torch.manual_seed(image_seed(seed, "randomised", name))
                _reset(module)
        yield model
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)


class ParameterRandomisation(PerImageMetric):
    """Likeness of a map and that of the network with random parameters, step by step; low is good.

    Steps go from one layer to all: by default, the output layer alone comes first.

    Args:
        order: ``"top-down"`` (default), ``"bottom-up"`` or ``"independent"``.
        steps: Number of steps. Default: 4.
        average: ``"images"`` or ``"classes"``.

    Raises:
        InvalidInputError: for an unknown order or no steps; in a run, for more steps than there are layers.
    """

    name = "randomisation"
    title = "Randomisation of the network's parameters"
    asks = "does the map stay when parameters of the network become random?"
    conventions = (
        "Layers are drawn anew as PyTorch initialises them, normalisations included; the class stays. Ranks and pictures of "
        "maps as they are; an all-equal map is like no other one (0). Methods that do not look at the network score 1."
    )
    quantities = (
        Quantity("first", "rank correlation at the first step", "low"),
        Quantity("rank", "mean rank correlation of all steps", "low"),
        Quantity("ssim_first", "structural similarity at the first step", "low"),
        Quantity("ssim", "mean structural similarity of all steps", "low"),
    )
    options = (
        Option("order", f"which layers are randomised: {', '.join(get_args(Order))}", str, "ORDER"),
        Option("stages", "steps from one layer to all", int, "N", "steps"),
    )

    def __init__(
        self, order: Order = "top-down", steps: int = STEPS, *, average: Average = "images", **options: Any
    ) -> None:
        super().__init__(average=average, **options)
        stages(steps, order, steps)  # refuses what cannot be
        self.order, self.steps = order, steps
        x = list(range(1, steps + 1))
        self.curves = (
            Curve("rank", f"rank correlation, {order}", "step", x, itemgetter("rank_curve")),
            Curve("ssim", f"structural similarity, {order}", "step", x, itemgetter("ssim_curve")),
        )

    def update(self, maps: Tensor, of_random: Tensor, labels: Tensor | None = None) -> None:
        """Measure a batch.

        Args:
            maps: ``(N, H, W)`` or ``(N, C, H, W)``.
            of_random: ``(N, S, H, W)`` or ``(N, S, C, H, W)``, maps at each of S steps.
            labels: ``(N,)``, the explained classes; needed for ``average="classes"``.
        """
        rows = [_likeness(m, random_maps) for m, random_maps in zip(maps, of_random, strict=True)]
        self.keep([[row[q.name] for q in self.quantities] for row in rows], labels)

    def check(self, bench: Bench) -> None:
        layers = len(resettable(bench.network.model))
        if self.steps > layers:
            raise InvalidInputError(
                f"{bench.network.name} has {layers} layers with parameters; give at most as many steps, not {self.steps}"
            )

    def measure_batch(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        model, names = bench.network.model, resettable(bench.network.model)
        inputs, concepts, ids = bench.inputs(samples), concepts_of(samples), [sample.id for sample in samples]
        of_random = []
        for positions in stages(len(names), self.order, self.steps):
            with randomised(model, [names[i] for i in positions], bench.seed):
                of_random.append(bench.maps(inputs, concepts, ids))

        def score(case: Case, heat: Tensor) -> Mapping[str, Any]:
            return _likeness(heat, [maps[case.method][case.position, case.k] for maps in of_random])

        return over_cases(bench, samples, score)


def _likeness(heat: Tensor, of_random: Sequence[Tensor] | Tensor) -> dict[str, Any]:
    ranks = [rank_correlation(heat, other) for other in of_random]
    pictures = [structural_similarity(heat, other) for other in of_random]
    return {
        "first": ranks[0],
        "rank": sum(ranks) / len(ranks),
        "ssim_first": pictures[0],
        "ssim": sum(pictures) / len(pictures),
        "rank_curve": [round(r, 6) for r in ranks],
        "ssim_curve": [round(s, 6) for s in pictures],
    }
