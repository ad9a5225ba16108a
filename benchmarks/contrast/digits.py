"""``python -m benchmarks.contrast.digits``: how much of the dual, on small networks of other kinds that were trained on digits.

The networks and their weights are those of :mod:`benchmarks.digits`. On collages of four digits, does the relevance for a class lie
in its cell? On collages of one digit (other cells are blank or hold clutter), does the network's belief in the digit fall when the
patches with most relevance become background, and rise when they come back? Does the map change when the classifier is random?
Belief is the sigmoid of the logit, as the networks were trained.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contrast.maps import CORE, maps_of_setting
from benchmarks.contrast.measure import by_patches
from benchmarks.contrast.summary import figure, summarise, table
from benchmarks.digits.collages import BACKGROUND, CELLS, DIGIT, INK, draw
from benchmarks.digits.measure import select
from benchmarks.digits.scores import GRID, PATCH
from benchmarks.digits.train import load
from benchmarks.report import describe, environment, write_json
from captum_clrp.evaluation import energy_inside, insertion_deletion, pointing_hit
from captum_clrp.evaluation.methods.base import image_seed, noise
from captum_clrp.evaluation.metrics.likeness import rank_correlation, structural_similarity
from captum_clrp.evaluation.metrics.randomisation import randomised, resettable
from captum_clrp.evaluation.metrics.sparseness import gini

NETWORKS = ("cnn-relu", "convnext", "hybrid", "vit", "swin")
RESULTS = Path(__file__).parent.parent / "results" / "contrast"
METHODS = CORE[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study with the options of the command line."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    summaries, kept = {}, {}
    for name in options.networks:
        records = [record for seed in options.seeds for record in measure(name, seed, options.limit)]
        summaries[name], kept[name] = summarise(records), records
    made = environment()
    write_json(options.output / "contrast-digits.json", {"environment": made, "networks": summaries})
    with gzip.GzipFile(options.output / "contrast-digits-values.json.gz", "w", mtime=0) as file:
        file.write(json.dumps(kept).encode())
    figure(summaries, options.output / "contrast-digits.png", ("single digits", "collages"))
    text = _text(summaries, options, describe(made))
    (options.output / "contrast-digits.md").write_text(text)
    print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contrast.digits", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1), help="of the trained weights (default: 0 1)")
    parser.add_argument(
        "--limit", type=int, default=12, metavar="N", help="collages of each kind for each seed (default: 12)"
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="FOLDER", help="default: benchmarks/results/contrast"
    )
    return parser


def measure(name: str, seed: int, count: int) -> Iterator[dict[str, Any]]:
    """One record for each class of a collage of four digits, and one for each collage of one digit.

    Args:
        name: Of the network.
        seed: Of its weights.
        count: Collages of each kind.
    """
    network = load(name, seed)
    for number, (image, labels) in enumerate(zip(*select(network, count), strict=True)):
        id_ = f"{seed}-four-{number}"
        maps = _maps(network, image, labels.tolist(), id_)
        for cell, label in enumerate(labels.tolist()):
            values = {m: _of_four(heat[cell], cell) for m, heat in maps.items()}
            if cell == number % CELLS:  # one class of each collage: this is what takes the time
                for m, heat in maps.items():
                    found = faithfulness(network, image, label, heat[cell], id_ + m)
                    values[m] |= {f"scene_{metric}": value for metric, value in found.items()}
            yield _record(id_, label, values)
    for number, (image, label) in enumerate(single(network, count)):
        id_ = f"{seed}-one-{number}"
        maps = _maps(network, image, [label], id_)
        with randomised(network, resettable(network)[-1:], seed=0):
            of_random = _maps(network, image, [label], id_)
        values = {m: _of_one(network, image, label, heat[0], of_random[m][0], id_ + m) for m, heat in maps.items()}
        yield _record(id_, label, values)


def single(network: nn.Module, count: int) -> list[tuple[Tensor, int]]:
    """Held-out collages of one digit that is the network's best class, with a positive logit; and that class.

    Raises:
        ValueError: for a network that finds too few.
    """
    collages = draw(np.random.default_rng(4), 10 * count, "held-out", 1)
    labels = collages.labels.amax(1)
    with torch.no_grad():
        best = network(collages.images).max(1)
    found = ((best.indices == labels) & (best.values > 0)).nonzero()[:count, 0]
    if len(found) < count:
        raise ValueError(f"of {10 * count} collages the network finds the digit in {len(found)}; {count} are needed")
    return [(collages.images[i], int(labels[i])) for i in found.tolist()]


def _maps(network: nn.Module, image: Tensor, labels: Sequence[int], id_: str) -> dict[str, Tensor]:
    """Maps ``(K, 16, 16)`` of every method, those of chance and of the gradient included."""
    borrowed: Any = SimpleNamespace(model=network, bounds=(BACKGROUND, INK))
    found = dict(maps_of_setting(borrowed, METHODS, image[None], labels))
    x = image.expand(len(labels), -1, -1, -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[range(len(labels)), list(labels)].sum(), x)
    return found | {"random": noise(0, len(labels), image.shape[1:], id_), "gradient": gradient.abs().sum(1)}


def _of_four(heat: Tensor, cell: int) -> dict[str, float]:
    inside = torch.zeros(heat.shape, dtype=torch.bool)
    row, column = divmod(cell, 2)
    inside[row * DIGIT : (row + 1) * DIGIT, column * DIGIT : (column + 1) * DIGIT] = True
    return {"share": energy_inside(heat, inside), "hit": float(pointing_hit(heat, inside))}


def _of_one(
    network: nn.Module, image: Tensor, label: int, heat: Tensor, of_random: Tensor, id_: str
) -> dict[str, float]:
    return faithfulness(network, image, label, heat, id_) | {
        "randomised_rank": rank_correlation(heat, of_random),
        "randomised_ssim": structural_similarity(heat, of_random),
        "gini": gini(heat),
    }


def faithfulness(network: nn.Module, image: Tensor, label: int, heat: Tensor, id_: str) -> dict[str, float]:
    """Areas under deletion and insertion, one patch of 4 x 4 pixels at a time, against background."""

    def present(x: Tensor) -> Tensor:  # the softmax of this and 0 is the sigmoid
        return F.pad(network(x)[:, [label]], (0, 1))

    blank = torch.full_like(image, BACKGROUND)
    scores = insertion_deletion(
        present,
        image,
        0,
        by_patches(heat, PATCH),
        blank,
        start=blank,
        steps=GRID**2,
        batch=GRID**2 + 1,
        generator=torch.Generator().manual_seed(image_seed("ties", id_)),
    )
    deletion, insertion, _ = scores.areas()
    return {"deletion": deletion, "insertion": insertion}


def _record(id_: str, label: int, values: dict[str, dict[str, float]]) -> dict[str, Any]:
    rounded = {m: {metric: round(v, 6) for metric, v in of_method.items()} for m, of_method in values.items()}
    return {"id": id_, "label": label, "values": rounded}


def _text(summaries: dict[str, Any], options: argparse.Namespace, made: str) -> str:
    arguments = f"--networks {' '.join(options.networks)} --seeds {' '.join(map(str, options.seeds))}"
    text = [
        f"# Which contrast, on digits?\n\n{made}\n\nRun as `python -m benchmarks.contrast.digits {arguments} "
        f"--limit {options.limit}`: for each of {len(options.seeds)} sets of trained weights {options.limit} collages of one "
        f"digit (deletion, insertion, the random classifier, Gini) and {options.limit} of four digits (the rest; there, "
        "deletion and insertion for one class of each), 16 patches of 4 x 4 pixels.\n\n"
        "Means; * where the 95 % interval of the paired difference to lrp leaves 0 out.\n"
    ]
    text += [f"\n## {name}\n\n{table(summary)}" for name, summary in summaries.items()]
    return "".join(text)


if __name__ == "__main__":
    raise SystemExit(main())
