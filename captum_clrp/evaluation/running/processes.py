"""The processes that share a run: one, or several that ``torchrun`` started on one or many hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
_PATIENCE = timedelta(days=7)
"""Processes wait for the slowest one at the end; torchrun ends them all if one of them is lost."""


class Team:
    """Processes that split the work; alone, all of this costs nothing.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        local_rank: Number of this process on its host.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def share(self, work: list[T]) -> list[T]:
        """The part of a list of ``work`` that this process does."""
        return work[self.rank :: self.size]

    def broadcast(self, value: T) -> T:
        """The leader's value, in all processes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Each process's ``value``, in all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def total(self, value: Tensor) -> Tensor:
        """The sum of ``value``, an integer tensor of any shape on the CPU, over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value


@contextmanager
def team_of_environment() -> Iterator[Team]:
    """The team that torchrun describes in the environment, or this process alone.

    Coordination runs over gloo on the CPU; with GPUs, nccl is there as well for metrics that synchronise tensors.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Team()
        return
    started = not dist.is_initialized()
    if started:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield Team(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        if started:
            dist.destroy_process_group()
