"""What relevance in bfloat16 saves and what it costs in accuracy.

    python -m benchmarks.precision                         # about ten minutes on an idle machine
    python -m benchmarks.precision --networks vgg16 --trained lite0 digits/vit --scenes 4

Time: Saliency, LRP and CLRP2 in float32 and in bfloat16 take turns in one process, on random weights; ratios of the
fastest rounds. Accuracy: distance of the signed maps from those of the same network in float64 (relative L2), and the
share of positive relevance in the right cell of grids of four photographs (or digits), on networks with trained weights.
Writes ``precision-<device>.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.cases import AT_REST, BRIEF, KERNELS, Bench, Case, Setting
from benchmarks.timing import interleaved
from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.engine.precision import has_fast_bfloat16

NETWORKS = ("vgg16", "resnet50", "efficientnet_lite0", "torchvision/vit_b_16")
TRAINED = (
    "lite0",
    "lite1",
    "lite2",
    "digits/cnn-relu",
    "digits/convnext",
    "digits/hybrid",
    "digits/vit",
    "digits/swin",
)
METHODS = {"LRP": LRPZBeta, "CLRP1": ContrastiveLRP1, "CLRP2": ContrastiveLRP2}
WORKS = (
    *("LRP", f"LRP, {AT_REST}", f"LRP, {KERNELS}"),
    *(f"LRP, {BRIEF}", f"LRP, {BRIEF}, {AT_REST}", f"LRP, {BRIEF}, {KERNELS}"),
    *("CLRP2", f"CLRP2, {BRIEF}"),
)
Precision = Literal["float32", "bfloat16"]


def times(network: str, batch: int, device: str, rounds: int, budget: float) -> dict[str, Any]:
    """Fastest seconds of each case on one network."""
    bench = Bench(Setting(network, batch, device))
    cases = [Case("saliency", "gradient"), *(Case("ours", work) for work in WORKS)]
    timings = interleaved(
        {case.key: bench.call(case) for case in cases},
        rounds=rounds,
        synchronize=bench.synchronize,
        budget=budget,
        turn=1.0,
    )
    found = {key: timing.minimum for key, timing in timings.items() if timing.error is None}
    failed = {key: timing.error for key, timing in timings.items() if timing.error is not None}
    return {"network": network, "batch": batch, "seconds": found, "failed": failed}


def scenes_of(name: str, count: int) -> tuple[nn.Module, Tensor, Tensor, Any, Any]:
    """A trained network with scenes of four cells: model, ``(N, C, H, W)``, ``(N, 4)`` classes, lowest and highest input."""
    if name.startswith("digits/"):
        from benchmarks.digits.collages import BACKGROUND, INK
        from benchmarks.digits.measure import select
        from benchmarks.digits.train import load

        model = load(name.removeprefix("digits/"), 0)
        images, classes = select(model, count)
        return model, images, classes, BACKGROUND, INK
    from captum_clrp.classifiers import load_classifier
    from captum_clrp.evaluation import Embedded, GridSource, ImageFolder

    network = load_classifier(f"timm/tf_efficientnet_{name}")
    folder = os.environ.get("CLRP_SAMPLE_IMAGES")
    photographs = (
        ImageFolder(Path(folder, "imagenet_samples"), network.class_names) if folder else Embedded(collages=False)
    )
    samples = list(GridSource(photographs, network.geometry, 2, rounds=4, limit=count))
    inputs = torch.cat([network.inputs(sample.pixels[None]) for sample in samples])
    classes = torch.tensor([[explained.label for explained in sample.explained] for sample in samples])
    return network.model, inputs, classes, *network.bounds


def accuracy(name: str, count: int) -> Iterator[dict[str, Any]]:
    """Distance and share of each method in each precision on one trained network."""
    from captum_clrp.evaluation import grid_score

    model, inputs, classes, low, high = scenes_of(name, count)
    double = copy.deepcopy(model).double()
    exact_bounds = [b.double() if isinstance(b, Tensor) else b for b in (low, high)]
    for title, method in METHODS.items():
        signed = {} if title == "LRP" else {"relu_attributions": False}
        exact = method(double, *exact_bounds).attribute_classes(inputs.double(), classes, **signed)
        for precision in ("float32", "bfloat16"):
            explainer = method(model, low, high, precision=precision)
            maps = explainer.attribute_classes(inputs, classes, **signed).double()
            distances = (maps - exact).flatten(2).norm(dim=2) / exact.flatten(2).norm(dim=2)
            shares = [
                grid_score(of_scene[cell].sum(0), cell, 2)[0] for of_scene in maps for cell in range(classes.size(1))
            ]
            yield {
                "network": name,
                "method": title,
                "precision": precision,
                "maps": distances.numel(),
                "distance": float(distances.mean()),
                "largest distance": float(distances.max()),
                "share": fmean(shares),
                "distances": [float(f"{d:.3g}") for d in distances.flatten()],
            }


def markdown(document: dict[str, Any]) -> str:
    """The report."""
    fast = "has" if document["fast"] else "does not have"
    parts = [
        "# Relevance in bfloat16\n",
        report.describe(document["environment"]) + f" The device {fast} arithmetic for bfloat16.\n",
        f"Run as `{document['command']}`.\n",
        "## Time\n",
        "Fastest of interleaved rounds, as multiples of the gradient (Captum's Saliency). Random weights. *Kernels alone*: the "
        "forward pass and the convolutions and matrix products of relevance run by themselves, which an implementation "
        "that calls them cannot go below.\n",
        report.markdown_table(
            ["network", "batch", "Saliency (ms)", *WORKS],
            [
                [
                    row["network"].removeprefix("torchvision/"),
                    row["batch"],
                    f"{1e3 * row['seconds']['saliency: gradient']:.1f}",
                    *(_ratio(row["seconds"], work) for work in WORKS),
                ]
                for row in document["times"]
            ],
        ),
        "## Accuracy\n",
        "Trained weights. Relative L2 distance of signed maps from those in float64: mean and largest; share of positive "
        "relevance in the right cell of four (chance: 0.25).\n",
        report.markdown_table(
            ["network", "method", "maps", "float32", "bfloat16", "largest", "share, float32", "share, bfloat16"],
            [_pair(rows) for rows in _pairs(document["accuracy"])],
        ),
    ]
    return "\n".join(parts)


def _ratio(seconds: dict[str, float], work: str) -> str:
    own = seconds.get(f"ours: {work}")
    return "fails" if own is None else f"{own / seconds['saliency: gradient']:.2f}"


def _pairs(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    yield from zip(rows[::2], rows[1::2], strict=True)


def _pair(rows: tuple[dict[str, Any], dict[str, Any]]) -> list[object]:
    single, brief = rows
    return [
        single["network"],
        single["method"],
        single["maps"],
        f"{single['distance']:.1e}",
        f"{brief['distance']:.1e}",
        f"{brief['largest distance']:.1e}",
        f"{single['share']:.3f}",
        f"{brief['share']:.3f}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--networks", nargs="*", default=list(NETWORKS), metavar="NAME", help="whose time is measured")
    add("--trained", nargs="*", default=list(TRAINED), metavar="NAME", help=f"any of {', '.join(TRAINED)}")
    add("--batches", nargs="+", type=int, default=[1], metavar="N", help="pictures per call (1)")
    add("--scenes", type=int, default=5, metavar="N", help="scenes of four cells for each trained network (5)")
    add("--rounds", type=int, default=7, help="rounds of each network (7)")
    add("--budget", type=float, default=90.0, help="seconds for each network after three rounds (90)")
    add("--device", default="cpu", help="cpu or cuda; accuracy is measured on the CPU")
    add("--threads", type=int, help="threads of torch (its default)")
    add("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="precision='bfloat16'|the contrast of example")
    document: dict[str, Any] = {
        "environment": report.environment(options.device),
        "command": " ".join(["python", "-m", "benchmarks.precision", *given]),
        "fast": has_fast_bfloat16(torch.device(options.device)),
        "times": [],
        "accuracy": [],
    }
    for network in options.networks:
        for batch in options.batches:
            document["times"].append(times(network, batch, options.device, options.rounds, options.budget))
    for name in options.trained:
        document["accuracy"] += accuracy(name, options.scenes)
    path = options.output / f"precision-{'cuda' if options.device.startswith('cuda') else 'cpu'}.json"
    report.write_json(path, document)
    text = markdown(document)
    path.with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
