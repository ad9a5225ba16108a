"""The parts of the study that its processes share: the data, and one photograph or scene at a time."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contrast.maps import CORE, CORE_OTHERS, OTHERS, SETTINGS, chosen, other_methods
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


class Asked(NamedTuple):
    """What of the study is asked for.

    Attributes:
        network: ``"lite0"``, say.
        core: Whether to leave out what the main question does not need.
        methods: Of those the ones to measure; none for all.
        limit: Photographs; ``None`` for all.
        scenes: Scenes; ``None`` for a quarter of the photographs.
        scene_classes: Classes of each scene whose deletion and insertion are measured; ``None`` for all.
        steps: Of deletion and insertion.
        seed: Of the choice of photographs.
    """

    network: str
    core: bool
    methods: tuple[str, ...]
    limit: int | None
    scenes: int | None
    scene_classes: int | None
    steps: int
    seed: int


Job = tuple[Asked, str, int, Path]


@cache
def bench_of(asked: Asked) -> tuple[Any, ...]:
    """Network, settings, other methods, photographs, scenes, and the mean image; once in each process.

    Raises:
        ValueError: for methods that there are not.
    """
    name, core, methods, limit, scenes, _, _, seed = asked
    settings, others = (CORE, CORE_OTHERS) if core else (SETTINGS, OTHERS)
    if methods:
        settings, others = chosen(settings, others, methods)
    network = load_classifier(f"tf_efficientnet_{name}", None, "cpu")
    photographs = PhotographSource(photographs_of(network), network.geometry, limit=limit, seed=seed)
    count = scenes if scenes is not None else max(1, len(photographs) // 4)
    grids = GridSource(photographs_of(network), network.geometry, 2, limit=count, seed=seed)
    mean = network.inputs(mean_pixels(photographs[i] for i in range(len(photographs))))
    return network, settings, other_methods(network, others, seed), photographs, grids, mean


def photographs_of(network: Classifier) -> Dataset:
    """The photographs of ``CLRP_SAMPLE_IMAGES``, or the embedded ones."""
    folder = os.environ.get("CLRP_SAMPLE_IMAGES")
    if folder is None:
        return Embedded(collages=False)
    return ImageFolder(Path(folder) / "imagenet_samples", network.class_names)


def measure(job: Job) -> None:
    """Measure one photograph or scene, unless its record is there."""
    asked, kind, index, path = job
    network, settings, others, photographs, grids, mean = bench_of(asked)
    if kind == "photograph":
        records = [measure_photograph(network, settings, others, photographs[index], mean, asked.steps)]
    else:
        scene = grids[index]
        count = len(scene.explained)
        turn = {(index + j) % count for j in range(count if asked.scene_classes is None else asked.scene_classes)}
        records = measure_scene(
            network, settings, others, scene, lambda k, m: k in turn and m in FAITHFUL_ON_SCENES, asked.steps
        )
    write_json(path, records)
