"""What is true of every metric: clones, pickles, resets, batches that add up, and processes that add up."""

import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torchmetrics import Metric

from captum_clrp.evaluation import METRICS as REGISTRY
from captum_clrp.evaluation import (
    ClassSimilarity,
    EnergyInside,
    EnergyPointingGame,
    GridPointingGame,
    InsertionDeletion,
    MapMetric,
    NeuronAblation,
    ParameterRandomisation,
    PatchAblation,
    PointingGame,
    PoolingIndices,
    RandomLogit,
    Sensitivity,
)

N = 6


def data() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "maps": torch.rand(N, 8, 8, generator=generator),
        "masks": torch.rand(N, 8, 8, generator=generator) < 0.6,
        "labels": torch.tensor([0, 1, 2, 0, 0, 1]),
        "cells": torch.tensor([0, 1, 2, 3, 0, 1]),
        "images": torch.rand(N, 3, 8, 8, generator=generator),
        "many": torch.rand(N, 4, 8, 8, generator=generator),
    }


def model() -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)]
    return nn.Sequential(*layers).eval()


def of_maps(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(d["maps"], d["masks"], d["labels"])


def of_cells(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(d["maps"], d["cells"], d["labels"])


def of_many(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(d["many"], d["labels"])


def of_maps_and_many(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(d["maps"], d["many"], d["labels"])


def of_pairs(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(d["maps"], d["many"][:, 0], d["labels"])


def of_model(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(model(), d["images"], d["labels"], d["maps"])


def of_bystanders(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(model(), d["images"], d["labels"], d["maps"], (d["labels"] + 1) % 3)


def of_neurons(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    network = model()
    for image, maps in zip(d["images"], d["many"], strict=True):
        metric.update(network, network[5], image, [0, 1, 2], maps[:3])


def of_images(metric: Metric, d: dict[str, torch.Tensor]) -> None:
    metric.update(model(), d["images"])


MEAN = torch.zeros(3, 8, 8)
METRICS: list[tuple[type[Metric], dict[str, Any]]] = [
    (PointingGame, {"tolerance": 1.0}),
    (PointingGame, {"average": "classes"}),
    (EnergyPointingGame, {}),
    (EnergyPointingGame, {"average": "classes", "shares": (0.01, 0.1)}),
    (EnergyInside, {}),
    (GridPointingGame, {"n": 2}),
    (PatchAblation, {"mean_image": MEAN, "size": 3}),
    (InsertionDeletion, {"baseline": MEAN, "steps": 4}),
    (ClassSimilarity, {"measure": "rank"}),
    (NeuronAblation, {"mean_image": MEAN, "size": 3}),
    (PoolingIndices, {}),
    (ParameterRandomisation, {"order": "independent"}),
    (RandomLogit, {}),
    (Sensitivity, {"average": "classes"}),
]
UPDATES: dict[type[Metric], Callable[[Metric, dict[str, torch.Tensor]], None]] = {
    PointingGame: of_maps,
    EnergyPointingGame: of_maps,
    EnergyInside: of_maps,
    GridPointingGame: of_cells,
    PatchAblation: of_model,
    InsertionDeletion: of_bystanders,
    ClassSimilarity: of_many,
    NeuronAblation: of_neurons,
    PoolingIndices: of_images,
    ParameterRandomisation: of_maps_and_many,
    RandomLogit: of_pairs,
    Sensitivity: of_maps_and_many,
}


LISTED = {kind for kind, _ in METRICS}
for kind in REGISTRY.values():  # one that judges maps by themselves needs no row
    if kind not in LISTED and issubclass(kind, MapMetric):
        METRICS.append((kind, {}))
        UPDATES[kind] = of_maps


def feed(metric: Metric, part: slice) -> None:
    """Update ``metric`` with a part of the data."""
    d = {name: values[part] for name, values in data().items()}
    if len(d["maps"]):
        UPDATES[type(metric)](metric, d)


every_metric = pytest.mark.parametrize(("kind", "settings"), METRICS)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    return torch.equal(first, second)


def value(metric: Metric) -> Any:
    return metric.compute()


@every_metric
def test_batches_add_up(kind, settings):
    whole, parts = kind(**settings), kind(**settings)
    feed(whole, slice(0, N))
    for start, stop in ((0, 1), (1, 4), (4, N)):
        feed(parts, slice(start, stop))
    assert same(value(whole), value(parts))


@every_metric
def test_a_reset_forgets(kind, settings):
    fresh, used = kind(**settings), kind(**settings)
    feed(used, slice(0, 3))
    value(used)
    used.reset()
    feed(used, slice(3, N))
    feed(fresh, slice(3, N))
    assert same(value(used), value(fresh))


@every_metric
def test_clones_and_pickles_go_on_by_themselves(kind, settings):
    metric = kind(**settings)
    feed(metric, slice(0, 3))
    before = value(metric)
    others = [metric.clone(), pickle.loads(pickle.dumps(metric))]
    feed(metric, slice(3, N))
    for other in others:
        assert same(value(other), before)
        feed(other, slice(3, N))
        assert same(value(other), value(metric))


def worker(rank: int, size: int, port: int, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=size)
    torch.set_num_threads(1)
    try:
        found = []
        for kind, settings in METRICS:
            metric = kind(**settings)
            # Uneven parts: four images for one process and two for the other.
            feed(metric, slice(0, 4) if rank == 0 else slice(4, N))
            found.append(value(metric))
        results[rank] = found
    finally:
        dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port: int = s.getsockname()[1]
        return port


@pytest.mark.slow
def test_two_gloo_processes_add_up():
    manager = mp.Manager()
    results = manager.dict()
    mp.spawn(worker, (2, free_port(), results), nprocs=2)
    for (kind, settings), first, second in zip(METRICS, results[0], results[1], strict=True):
        alone = kind(**settings)
        feed(alone, slice(0, N))
        assert same(first, second)
        assert same(first, value(alone)), kind
