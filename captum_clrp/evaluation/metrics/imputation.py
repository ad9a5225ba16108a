"""What stands in for pixels that were taken away: an image that does not give away where they were.

Pixels that become one colour leave their outline, which a network may read. Noisy linear imputation (ROAD, Rong et al.
2022) makes each the mean of its eight neighbours, the missing ones included, and adds a little noise.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

from captum_clrp.errors import InvalidInputError

NOISE = 0.01
"""Standard deviation of the noise, in the units of the image."""
_NEIGHBOURS = tuple(
    (down, right, 1 / 12 if down and right else 1 / 6)
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (down, right) != (0, 0)
)
"""Those at a side count twice as much as those at a corner (Rong et al. 2022, section 4.1)."""


def imputed(
    image: Tensor, missing: Tensor, *, noise: float = NOISE, generator: torch.Generator | None = None
) -> Tensor:
    """The image with pixels replaced by noisy linear imputation.

    Each missing pixel becomes the weighted mean of its neighbours within the image: one system of linear equations for
    all of them, solved exactly.

    Args:
        image: ``(C, H, W)``.
        missing: ``(H, W)``, true where a pixel is replaced.
        noise: Standard deviation of the noise.
        generator: Generator of the noise, on the CPU.

    Returns:
        A new tensor ``(C, H, W)``. An image without any pixel left becomes its own mean.

    Raises:
        InvalidInputError: if ``missing`` does not fit.
    """
    if missing.shape != image.shape[1:]:
        raise InvalidInputError(
            f"missing pixels of shape {tuple(missing.shape)} do not fit an image of shape {tuple(image.shape)}"
        )
    gone = missing.cpu().numpy().astype(bool)
    values = image.detach().cpu().double().numpy()
    filled = values.copy()
    if gone.all():
        filled[:] = values.mean((1, 2), keepdims=True)
    elif gone.any():
        filled[:, gone] = _means_of_neighbours(values, gone).T
    result = torch.from_numpy(filled)
    if noise:
        result += noise * torch.randn(result.shape, generator=generator, dtype=result.dtype) * missing.cpu()
    return result.to(image)


def _means_of_neighbours(values: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Values ``(n, C)`` of the n missing pixels, in reading order."""
    height, width = gone.shape
    row, column = np.nonzero(gone)
    number = np.full((height, width), -1)
    number[gone] = unknown = np.arange(len(row))
    known = np.zeros((len(row), len(values)))
    weight_within = np.zeros(len(row))
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for down, right, weight in _NEIGHBOURS:
        r, c = row + down, column + right
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        at, r, c = unknown[inside], r[inside], c[inside]
        weight_within[at] += weight
        absent = gone[r, c]
        known[at[~absent]] += weight * values[:, r[~absent], c[~absent]].T
        entries.append((at[absent], number[r[absent], c[absent]], np.full(absent.sum(), -weight)))
    entries.append((unknown, unknown, weight_within))
    of, to, weights = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = csc_matrix((weights, (of, to)), shape=(len(row), len(row)))
    solved: np.ndarray = splu(system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(known)
    return solved
