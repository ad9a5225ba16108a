"""The network where it only measures: for many forward passes of images that differ in some of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Model", "remembering"]

Model = Callable[[Tensor], Tensor]


def remembering(model: Model, images: Sequence[Tensor]) -> Model:
    """The model, which runs some images once and looks them up from then on.

    Channels come last, which makes depthwise convolutions twice as fast on a CPU.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, m)``.
        images: The images, ``(C, H, W)``: those where every curve begins and ends.
    """
    with torch.no_grad():
        known = model(torch.stack(list(images)))

    def run(asked: Tensor) -> Tensor:
        places = [next((k for k, image in enumerate(images) if torch.equal(one, image)), None) for one in asked]
        new = [i for i, place in enumerate(places) if place is None]
        fresh = iter(model(asked[new].contiguous(memory_format=torch.channels_last))) if new else iter(())
        return torch.stack([next(fresh) if place is None else known[place] for place in places])

    return run
