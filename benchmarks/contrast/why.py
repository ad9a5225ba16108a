"""Why is the whole contrast less faithful than LRP on photographs of one object?

    python -m benchmarks.contrast.why --network lite1 --limit 24 --seed 1 --output docs/results

Two answers can be told apart. Either the contrast chooses other places (its best half of the patches is another one), or it
puts the same places in another order. So two maps are crossed: one chooses the half of the patches that goes first, the other
orders the patches within each half. If the choice is to blame, the crossed map is as good as the one that chooses; if the order
is, as the one that orders. Besides: the signed contrast (does the positive part matter?), ``conserve`` (does absorption?), and
ties broken by LRP. Writes ``contrast-why.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor

from benchmarks import report
from benchmarks.contrast.__main__ import NETWORKS
from benchmarks.contrast.jobs import photographs_of
from benchmarks.contrast.measure import PATCH, STEPS, by_patches, faithfulness
from captum_clrp import ContrastiveLRP1, LRPZBeta
from captum_clrp.classifiers import Classifier, load_classifier
from captum_clrp.evaluation import PhotographSource
from captum_clrp.evaluation.methods.base import image_seed

ORDERS = {
    "LRP": "LRP",
    "CLRP1": "the whole contrast, its positive part",
    "strength 0.9": "CLRP1 with strength 0.9",
    "LRP chooses, CLRP1 orders": "the half of the patches with most LRP first, each half by CLRP1",
    "CLRP1 chooses, LRP orders": "the half of the patches with most CLRP1 first, each half by LRP",
    "CLRP1, ties by LRP": "CLRP1; patches without a positive value by LRP",
    "signed": "the whole contrast with its negative values",
    "conserve": "CLRP1 with conserve=True",
}


def crossed(chooses: Tensor, orders: Tensor) -> Tensor:
    """A map of patches: the half with the highest values of one map goes first, and each half goes by the other map.

    Args:
        chooses: ``(H, W)``, equal within each patch.
        orders: Likewise.

    Returns:
        ``(H, W)``: ranks, the half that goes first above 1, all else below.
    """
    values = orders.flatten()
    ranks = torch.searchsorted(values.unique(), values).double() / values.numel()
    return (ranks + (chooses.flatten() > chooses.flatten().median())).reshape(orders.shape)


def orders_of(network: Classifier, inputs: Tensor, label: int) -> dict[str, Tensor]:
    """The maps that are compared, each equal within patches, ``(H, W)``."""
    low, high = network.bounds

    def contrast(**options: Any) -> Tensor:
        signed = options.pop("relu_attributions", True)
        maps = ContrastiveLRP1(network.model, low, high, **options).attribute(inputs, label, relu_attributions=signed)
        return by_patches(maps[0].sum(0))

    lrp = by_patches(LRPZBeta(network.model, low, high).attribute(inputs, label)[0].sum(0))
    with torch.no_grad():
        lrp = lrp * network.model(inputs)[0, label].sign()
    clrp = contrast()
    return {
        "LRP": lrp,
        "CLRP1": clrp,
        "strength 0.9": contrast(strength=0.9),
        "LRP chooses, CLRP1 orders": crossed(lrp, clrp),
        "CLRP1 chooses, LRP orders": crossed(clrp, lrp),
        "CLRP1, ties by LRP": torch.where(clrp > 0, 1 + clrp / clrp.max(), lrp / lrp.abs().max() - 1),
        "signed": contrast(relu_attributions=False),
        "conserve": contrast(conserve=True),
    }


def summary(rows: Sequence[Mapping[str, Mapping[str, float]]], metric: str) -> dict[str, dict[str, Any]]:
    """Mean and interval of each map, and of its difference to LRP on the same photographs."""
    found: dict[str, dict[str, Any]] = {}
    for name in ORDERS:
        values = np.array([row[name][metric] for row in rows])
        differences = values - np.array([row["LRP"][metric] for row in rows])
        found[name] = {"mean": float(values.mean())}
        if name != "LRP":
            drawn = scipy.stats.bootstrap((differences,), np.mean, method="percentile", rng=np.random.default_rng(0))
            interval = [float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)]
            found[name] |= {"difference": float(differences.mean()), "interval": interval}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contrast.why", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--network", default="lite1", choices=NETWORKS)
    parser.add_argument("--limit", type=int, metavar="N", help="photographs (default: all)")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"of the curves (default: {STEPS})")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photographs (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    network = load_classifier(f"tf_efficientnet_{options.network}", None, "cpu")
    photographs = PhotographSource(photographs_of(network), network.geometry, limit=options.limit, seed=options.seed)
    rows = []
    for sample in photographs:
        inputs, label = network.inputs(sample.pixels[None]), sample.explained[0].label
        maps = orders_of(network, inputs, label)
        seed = image_seed("why", sample.id)
        rows.append(
            {name: faithfulness(network.model, inputs[0], label, maps[name], options.steps, seed) for name in ORDERS}
        )
    document = {
        "environment": report.environment(),
        "command": " ".join(["python", "-m", "benchmarks.contrast.why", *given]),
        "network": options.network,
        "photographs": len(rows),
        "means": {metric: summary(rows, metric) for metric in ("deletion", "insertion")},
        "values": [{"id": sample.id, **row} for sample, row in zip(photographs, rows, strict=True)],
    }
    report.write_json(options.output / "contrast-why.json", document)
    (options.output / "contrast-why.md").write_text(markdown(document))
    print(markdown(document))
    return 0


def markdown(document: Mapping[str, Any]) -> str:
    """The report."""
    means = document["means"]
    table = report.markdown_table(
        ["map", "patches go", "deletion ↓", "less LRP", "insertion ↑", "less LRP"],
        [[name, ORDERS[name], *_cells(means["deletion"][name]), *_cells(means["insertion"][name])] for name in ORDERS],
    )
    return (
        "# Why is the whole contrast less faithful?\n\n"
        f"{report.describe(document['environment'])}\n\n"
        f"Run as `{document['command']}`: {document['photographs']} photographs of one object each, EfficientNet-"
        f"{document['network'].capitalize()}, patches of {PATCH} x {PATCH} pixels, in brackets 95 % intervals of the "
        f"difference to LRP on the same photographs.\n\n{table}"
    )


def _cells(found: Mapping[str, Any]) -> list[str]:
    if "interval" not in found:
        return [f"{found['mean']:.3f}", ""]
    low, high = found["interval"]
    return [f"{found['mean']:.3f}", f"{found['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"]


if __name__ == "__main__":
    raise SystemExit(main())
