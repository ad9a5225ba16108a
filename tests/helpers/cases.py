"""One call of a torch function as a case, and the tensors that such cases take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

torch.manual_seed(11)

IMAGE = (2, 4, 6, 6)
C = torch.randn(2, 4, 6, 6).double()
"""A constant shaped as the input, of both signs."""
DRAWN = torch.rand(2, 4, 3).double()
MASK = torch.rand(2, 4, 6, 6) > 0.5
W4 = torch.randn(4).double()
INDEX = torch.randint(0, 4, (2, 4, 6, 6))
ORDER = torch.tensor([3, 1, 2, 0]).reshape(1, 4, 1, 1)


@dataclass(frozen=True)
class Case:
    """One call.

    ``kind`` names the oracle: "pass" (relevance as it is), "gradient" (what the operation's own Jacobian, of zeros and
    ones, returns), "mean" and "sum" (shares of positive parts), "branches" (a sum of several tensors, listed by
    ``parts``), "follows" (the gradient of ``parts``, i.e. of the signal alone), "weighted" (z+), "absorbs" (conserved
    but for what is accounted for), "lost" (values from elsewhere take relevance), "conserved" (no more than that).
    """

    names: str
    function: Callable[[Tensor], Any]
    kind: str = "pass"
    shape: tuple[int, ...] = IMAGE
    positive: bool = False
    parts: Callable[[Tensor], Any] | None = None

    def __str__(self) -> str:
        return f"{self.names} {self.kind}"


def every_second(x: Tensor) -> Tensor:
    """Indices of the places in a picture twice as large from which ``x`` was pooled."""
    size = x.shape[2:]
    return torch.arange(size.numel()).mul(2 ** len(size)).reshape(size).expand(x.shape)


def pad_twice(x: Tensor) -> Tensor:
    return F.pad(x, (1, 2, 0, 1))


def bn(x: Tensor, **how: Any) -> Tensor:
    return F.batch_norm(x, W4, W4.abs() + 0.3, W4, W4, **how)


def set_item(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, 1:] = x[:, :3]
    return y


def set_part(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :2] = C[:, :2]
    return y


def swap_data(x: Tensor) -> Tensor:
    return x.data * 2


def each(names: str, home: Any, *args: Any, **how: Any) -> list[Case]:
    """A case for each function of ``home``, called with ``args`` after the tensor."""
    kinds = {key: how.pop(key) for key in ("kind", "shape", "positive") if key in how}
    functions = {name: getattr(home, name) for name in names.split()}
    return [
        Case(name, lambda x, f=function: f(x, *args, **how), **kinds)  # type: ignore[misc]
        for name, function in functions.items()
    ]


def each_dimension(names: str, *args: Any, shape: Callable[[int], tuple[int, ...]], **how: Any) -> list[Case]:
    """A case for dimensions 1 to 3 of a pooling function; its first result is taken."""

    def of(dimensions: int) -> Case:
        function = getattr(F, names.replace("#", str(dimensions)).removesuffix("_with_indices"))
        return Case(
            names.replace("#", str(dimensions)),
            lambda x: first(function(x, *args, **how)),
            "gradient",
            shape(dimensions),
        )

    return [of(dimensions) for dimensions in (1, 2, 3)]


def reversed_pieces(method: str, *args: Any, dim: int = 1) -> Callable[[Tensor], Tensor]:
    """Split and put together again in reverse order."""
    return lambda x: torch.cat(getattr(x, method)(*args)[::-1], dim)


def joined(names: str) -> list[Case]:
    functions = {name: getattr(torch, name) for name in names.split()}
    return [Case(n, lambda x, f=f: f([x, x.flip(0)]), "gradient") for n, f in functions.items()]  # type: ignore[misc]


def added(names: str) -> list[Case]:
    functions = {name: getattr(torch, name) for name in names.split()}
    return [Case(n, lambda x, f=f: x + f(x)) for n, f in functions.items()]  # type: ignore[misc]


def in_place(name: str, *args: Any, **kwargs: Any) -> Callable[[Tensor], Tensor]:
    """The in-place method on a copy."""
    return lambda x: getattr(x.clone(), name)(*args, **kwargs)


def inputs_of(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(case.shape, generator=generator, dtype=torch.float64)
    return x.abs() + 0.1 if case.positive else x


def first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]
