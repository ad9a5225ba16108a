"""Weights derived from those of the model (such as ``W+``): made when they are needed, kept only on request.

PyTorch does not tell of every write to a parameter (``weight.data.mul_(2)`` counts no version, nor does a fused kernel), and
to look whether a weight is still the same costs as much as to derive it anew. So derived weights live as long as the
operation that asked for them, in memory that was used before (:mod:`captum_clrp.engine.memory`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import NamedTuple

from torch import Tensor, nn

from captum_clrp.engine._torch import version_of


class _Cached(NamedTuple):
    """A derived weight, and the parameter as it was then."""

    weight: nn.Parameter
    state: tuple[object, ...]
    values: Tensor


WeightCache = dict[Hashable, _Cached]

_cache: ContextVar[WeightCache | None] = ContextVar("derived weights", default=None)


@contextlib.contextmanager
def weights_at_rest() -> Iterator[None]:
    """Keep derived weights from call to call, for as long as nothing writes to the model's parameters.

    For many calls on one model: inside, the positive parts of the weights are computed once and kept, at most one copy of
    the weights for each model; they are given back at the end. Writes that PyTorch counts (optimizers, ``load_state_dict``,
    ``copy_``) are noticed all the same; a write through ``.data`` is not, and calls after it would take the old weights.

    The promise holds for the thread that gives it.
    """
    if _cache.get() is not None:
        yield
        return
    token = _cache.set({})
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # left by nobody, and thrown away in another thread
            _cache.reset(token)


def current_cache() -> WeightCache | None:
    """What is kept in this thread; asked while the model runs, for backward passes have threads of their own."""
    return _cache.get()


def derived_weight(
    weight: Tensor, key: Hashable, derive: Callable[[Tensor], Tensor], cache: WeightCache | None = None
) -> Tensor:
    """``derive(weight)``; what is kept of ``weight`` if it is a parameter that rests (see :func:`weights_at_rest`)."""
    if cache is None or not isinstance(weight, nn.Parameter) or weight.is_inference():
        return derive(weight.detach())
    state = (weight.data_ptr(), version_of(weight), weight.dtype, weight.device, weight.shape)
    entry = (id(weight), key)
    found = cache.get(entry)
    if found is None or found.state != state:
        found = cache[entry] = _Cached(weight, state, derive(weight.detach()))
    return found.values
