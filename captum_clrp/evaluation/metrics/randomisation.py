"""Does the map depend on what the network has learned? Randomisation of its parameters (Adebayo et al. 2018).

Layers are given new random parameters, as many as they had, and the map of the same class is compared with that of the
trained network. A map that stays as it was shows the picture and not the network. Sixt et al. (2020) found that of LRP
does: by its z+ rule, relevance of every class ends up in the same places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods import image_seed

__all__ = ["STEPS", "Order", "randomised", "resettable", "stages"]

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
    if order not in get_args(Order):
        raise InvalidInputError(f"order={order!r} is not known; choose {', '.join(get_args(Order))}")
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
        seed: Of the drawing.
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
