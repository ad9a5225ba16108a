"""The mean of all images of a dataset at each position, which the paper's ablations put in place of a patch.

Pixels are summed as whole numbers, so that the mean is the same for any number of processes and any order; it is
computed once and kept in a file.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import torch
from platformdirs import user_cache_path
from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.running.processes import Team
from captum_clrp.evaluation.sources import Source
from captum_clrp.evaluation.sources.loading import ahead
from captum_clrp.files import write_whole


def cache_folder() -> Path:
    """Where mean images are kept: ``captum-clrp`` in the user's folder of caches (``~/.cache`` on Linux)."""
    return user_cache_path("captum-clrp", appauthor=False)


def mean_image(
    source: Source,
    *,
    cache: Path | None = None,
    team: Team | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Tensor:
    """Mean of all samples of a source, position by position.

    Args:
        source: All of its samples must have one size.
        cache: Folder in which the mean is kept for the next time; ``None`` to keep nothing.
        team: Processes that share the work. Default: this one alone.
        progress: Called with the number of images just added.

    Returns:
        ``(3, H, W)``, float32, pixels in 0 ... 255.

    Raises:
        InvalidInputError: if the source is empty or samples differ in size.
    """
    team = team or Team()
    file = cache / f"mean-{source.fingerprint()}.pt" if cache is not None and team.leads else None
    kept = team.broadcast(_read(file))
    if kept is not None:
        return kept
    if not len(source):
        raise InvalidInputError(f"{source.name} is empty, so it has no mean image")
    total = torch.zeros_like(source[0].pixels, dtype=torch.int64)
    for sample in ahead(source.sample, team.share(list(range(len(source)))), count=8):
        if sample.pixels.shape != total.shape:
            raise InvalidInputError(
                f"{sample.id} is {tuple(sample.pixels.shape[1:])} pixels large, others {tuple(total.shape[1:])}; "
                "a mean image needs one size: use a geometry with a crop"
            )
        total += sample.pixels
        progress(1)
    mean = (team.total(total).double() / len(source)).float()
    if file is not None:
        _write(file, mean)
    return mean


def _read(file: Path | None) -> Tensor | None:
    if file is None or not file.is_file():
        return None
    try:
        kept = torch.load(file, weights_only=True)
    except Exception:  # a damaged file is computed again
        return None
    return kept if isinstance(kept, Tensor) else None


def _write(file: Path, mean: Tensor) -> None:
    """Without a writable cache the mean is computed again next time."""
    content = io.BytesIO()
    torch.save(mean, content)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content.getvalue())
