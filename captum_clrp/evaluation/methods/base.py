"""What a family of compared methods is: methods that share their computation, and how they are named."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from captum_clrp.classifiers import Classifier

Concept = Tensor
"""Classes ``(N, M)`` that are explained together; usually M is 1."""


@dataclass(frozen=True)
class Setting:
    """What methods are made for.

    Attributes:
        network: The network.
        seed: Seed of everything that is random.
        layer: The layer of methods that look at one; ``None`` for their own choice.
    """

    network: Classifier
    seed: int = 0
    layer: nn.Module | None = None


class Family(ABC):
    """Methods that share their computation: LRP and its contrasts, say, share the forward pass.

    A subclass that is not abstract enters ``FAMILIES``, and its methods can be named.

    Attributes:
        offers: Methods that are compared if nothing is asked for.
        usage: What else can be named, for the command's help and for errors.
        names: What this one computes.
        logits: What the network said of the inputs of the last call, ``(N, m)``; ``None`` if it was not run as it is.
    """

    offers: ClassVar[Sequence[str]] = ()
    usage: ClassVar[str] = ""
    names: Sequence[str]
    logits: Tensor | None = None

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        place = (cls.__module__, cls.__qualname__)  # one that is defined again replaces itself
        FAMILIES[:] = [f for f in FAMILIES if (f.__module__, f.__qualname__) != place] + [cls]

    @classmethod
    def accepts(cls, name: str) -> bool:
        """Whether ``name`` is one of its methods."""
        return name in cls.offers

    @classmethod
    def takes_layer(cls, name: str) -> bool:
        """Whether the layer that was chosen makes a difference to the method ``name``."""
        return False

    @classmethod
    @abstractmethod
    def make(cls, names: Sequence[str], setting: Setting) -> Iterable[Family]:
        """Those of its methods that were asked for.

        Args:
            names: Methods that it accepts, at least one.
            setting: The network and more.
        """

    @abstractmethod
    def maps(self, inputs: Tensor, concepts: Sequence[Concept], ids: Sequence[str]) -> dict[str, Tensor]:
        """Maps ``(N, K, H, W)`` of each method for K concepts of N images.

        Args:
            inputs: ``(N, C, H, W)``, as the model takes it.
            concepts: K concepts.
            ids: The images' names.
        """


FAMILIES: list[type[Family]] = []
"""All families, in the order in which they were defined; a name belongs to the first that accepts it."""


def image_seed(*parts: object) -> int:
    """A seed that depends on what it is for (image, method, ...) and not on the order of work."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:7], "big")


def noise(seed: int, count: int, size: Sequence[int], id_: str) -> Tensor:
    """Uniform noise ``(count, H, W)``, the same for the same image and seed."""
    generator = torch.Generator().manual_seed(image_seed(seed, "random", id_))
    return torch.rand(count, *size, generator=generator)
