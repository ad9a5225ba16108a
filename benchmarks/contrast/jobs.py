"""The parts of the study that its processes share: the data, and one photograph or scene at a time."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.contrast.maps import CORE, CORE_OTHERS, OTHERS, SETTINGS, other_methods
from benchmarks.contrast.measure import mean_pixels, measure_photograph, measure_scene
from benchmarks.report import write_json
from captum_clrp.classifiers import Classifier, load_classifier
from captum_clrp.evaluation import Dataset, Embedded, GridSource, ImageFolder, PhotographSource

FAITHFUL_ON_SCENES = (
    "lrp",
    "clrp1",
    "clrp1-s0.9",
    "clrp2",
    "clrp2-s0.9",
    "rivals5",
    "rivals5-s0.9",
    "gradient",
    "random",
)

Job = tuple[tuple[str, bool, int | None, int | None, int], str, int, int, Path]


@cache
def bench_of(name: str, core: bool, limit: int | None, scenes: int | None, seed: int) -> tuple[Any, ...]:
    """Network, settings, other methods, photographs, scenes, and the mean image; once in each process."""
    network = load_classifier(f"tf_efficientnet_{name}", None, "cpu")
    photographs = PhotographSource(photographs_of(network), network.geometry, limit=limit, seed=seed)
    count = scenes if scenes is not None else max(1, len(photographs) // 4)
    grids = GridSource(photographs_of(network), network.geometry, 2, limit=count, seed=seed)
    mean = network.inputs(mean_pixels(photographs[i] for i in range(len(photographs))))
    settings, others = (CORE, CORE_OTHERS) if core else (SETTINGS, OTHERS)
    return network, settings, other_methods(network, others, seed), photographs, grids, mean


def photographs_of(network: Classifier) -> Dataset:
    """The photographs of ``CLRP_SAMPLE_IMAGES``, or the embedded ones."""
    folder = os.environ.get("CLRP_SAMPLE_IMAGES")
    if folder is None:
        return Embedded(collages=False)
    return ImageFolder(Path(folder) / "imagenet_samples", network.class_names)


def measure(job: Job) -> None:
    """Measure one photograph or scene, unless its record is there."""
    bench, kind, index, steps, path = job
    network, settings, others, photographs, grids, mean = bench_of(*bench)
    if kind == "photograph":
        records = [measure_photograph(network, settings, others, photographs[index], mean, steps)]
    else:
        records = measure_scene(network, settings, others, grids[index], FAITHFUL_ON_SCENES.__contains__, steps)
    write_json(path, records)
