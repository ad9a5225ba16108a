"""What pixels become that are taken away, for every metric that takes pixels away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.methods import image_seed
from captum_clrp.evaluation.metrics.bench import Bench
from captum_clrp.evaluation.metrics.imputation import imputed
from captum_clrp.evaluation.registry import Option

Model = Callable[[Tensor], Tensor]
"""From images, ``(N, C, H, W)``, to logits, ``(N, m)``."""
Fill = Literal["mean", "blur", "impute"]
Replaced = Callable[[Tensor], Tensor]
"""From missing pixels, ``(H, W)``, to the image without them, ``(C, H, W)``."""

FILL = Option("fill", f"what missing pixels become: {', '.join(get_args(Fill))} (ROAD)", str, "WHAT")


def stand_in(fill: Fill, image: Tensor, bench: Bench, id_: str) -> Tensor | Replaced:
    """What missing pixels of an image become in a run.

    Args:
        fill: ``"mean"``, the mean image of the data; ``"blur"``, the image, blurred; ``"impute"``, noisy linear imputation
            (ROAD, Rong et al. 2022), with the same noise whatever is missing.
        image: ``(C, H, W)``, as the model takes it.
        bench: With the mean image, and the seed of the noise.
        id_: The image's name.

    Returns:
        An image ``(C, H, W)`` that missing pixels are taken from, or a function from missing pixels, ``(H, W)``, to the
        image without them.
    """
    if fill == "mean":
        return bench.mean_image
    if fill == "blur":
        return blurred(image)
    seed = image_seed(bench.seed, "imputation", id_)
    return lambda missing: imputed(image, missing, generator=torch.Generator().manual_seed(seed))


def fitting(values: Tensor, image: Tensor, what: str) -> Tensor:
    """``values`` as an image like ``image``; for an error, ``what`` they are.

    Raises:
        InvalidInputError: if they do not broadcast to it.
    """
    try:
        return values.to(image).expand_as(image)
    except RuntimeError:
        raise InvalidInputError(
            f"a {what} of shape {tuple(values.shape)} does not fit an image of shape {tuple(image.shape)}"
        ) from None


def blurred(image: Tensor, sigma: float = 5.0) -> Tensor:
    """The image after a Gaussian blur of ``sigma`` pixels, cut at 4 sigma or the image's size; ``(C, H, W)``."""
    radii = [min(round(4 * sigma), int(side) - 1) for side in image.shape[:0:-1]]  # across, then down
    return gaussian_blur(image, [2 * radius + 1 for radius in radii], [sigma, sigma])
