"""Measure which rules tell classes apart: ``python -m benchmarks.digits.measure``.

    python -m benchmarks.digits.measure --networks cnn-relu convnext --rules paper --methods CLRP1 CLRP2 random
    python -m benchmarks.digits.measure --tried            # what was tried besides the composites that have a name
    python -m benchmarks.digits.measure --networks vit --keep    # the rest stays as the last run wrote it

Each trained network sees held-out collages whose four digits are its four best classes, with a positive logit each. All four are
targets. A map is good if its positive relevance lies in the target's cell (chance: 0.25), if its best patches are worth much to the
target, and if it differs between the classes. Results go to ``digits.json`` and ``digits.md``, the values of each collage to
``digits-collages.json.gz``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.digits import scores
from benchmarks.digits.collages import CELLS, draw
from benchmarks.digits.methods import BASELINES, ONLY_FOR, OURS, RULES, TRIED, UNDEFINED, baseline, relevance
from benchmarks.digits.networks import NETWORKS
from benchmarks.digits.train import WEIGHTS, load
from captum_clrp.errors import UnsupportedOperationError

COLLAGES = 40
QUANTITIES = {
    "patches": "share of positive relevance in the target's cell, by 4x4 patches",
    "pixels": "share of positive relevance in the target's cell, by pixels",
    "pointing": "how often the target's cell has most positive relevance, by patches",
    "faithfulness": "patches replaced by background: the target's logit less the mean logit, least relevant first minus most "
    "relevant first",
    "similarity": "mean cosine similarity of the signed maps of each two of the four classes",
    "arrives": "sum of relevance at the input over the logit; for LRP alone, as a contrast has no total to keep",
    "size": "sum of magnitudes of relevance at the input over the logit",
}


COLLAGES_SEED = 3


def select(network: nn.Module, count: int, seed: int = COLLAGES_SEED) -> tuple[Tensor, Tensor]:
    """Held-out collages of four digits that the network finds: its four best classes, each with a positive logit.

    Returns:
        Images (N, 1, 16, 16) and labels (N, 4), the class in each cell; N is ``count``.

    Raises:
        ValueError: for a network that finds too few.
    """
    collages = draw(np.random.default_rng(seed), 100 * count, "held-out", CELLS)
    with torch.no_grad():
        logits = torch.cat([network(part) for part in collages.images.split(500)])
    at_digits = logits.gather(1, collages.labels).amin(1)
    others = logits.masked_fill(collages.present.bool(), -math.inf).amax(1)
    found = (at_digits > others.clamp(min=0)).nonzero()[:count, 0]
    if len(found) < count:
        raise ValueError(
            f"of {100 * count} collages the network finds all four digits in {len(found)}; {count} are needed"
        )
    return collages.images[found], collages.labels[found]


def score(
    network: nn.Module, images: Tensor, labels: Tensor, explain: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, list[float]]:
    """Every quantity for every collage, the mean of its four targets (faithfulness: of one of them).

    Args:
        network: the network.
        images: shape (N, 1, 16, 16).
        labels: class in each cell, shape (N, 4).
        explain: from images (M, 1, 16, 16) and targets (M,) to maps (M, 16, 16).

    Raises:
        FloatingPointError: for a map that is not finite.
    """
    count = len(images)
    targets, cells = labels.flatten(), torch.arange(CELLS).repeat(count)
    maps = explain(images.repeat_interleave(CELLS, 0), targets)  # (4N, 16, 16)
    if not maps.isfinite().all():
        raise FloatingPointError(
            f"{int((~maps.isfinite()).flatten(1).any(1).sum())} of {len(maps)} maps are not finite"
        )
    with torch.no_grad():
        logits = network(images).gather(1, labels).flatten()
    patches = scores.by_patches(maps)
    one = (
        torch.arange(count) * CELLS + torch.arange(count) % CELLS
    )  # one target of each collage, in each cell equally often
    by_target = {
        "patches": scores.share(patches, cells),
        "pixels": scores.share(maps, cells),
        "pointing": scores.pointing(patches, cells),
        "arrives": maps.sum((1, 2)) / logits,
        "size": maps.abs().sum((1, 2)) / logits.abs(),
    }
    by_collage = {quantity: values.unflatten(0, (count, CELLS)).mean(1) for quantity, values in by_target.items()}
    by_collage["faithfulness"] = scores.faithfulness(network, images, targets[one], maps[one])
    by_collage["similarity"] = scores.similarity(maps.unflatten(0, (count, CELLS)))
    return {quantity: by_collage[quantity].tolist() for quantity in QUANTITIES}


def quantities_of(method: str) -> list[str]:
    """What has a meaning for a method: a baseline is not in units of the logit."""
    return [
        q for q in QUANTITIES if not (q == "arrives" and method != "LRP") and not (q == "size" and method in BASELINES)
    ]


def measure(
    name: str, seed: int, rules: Sequence[str], methods: Sequence[str], count: int, collages_seed: int = COLLAGES_SEED
) -> list[dict[str, Any]]:
    """All rows of one network: ``rules`` (``None`` for a baseline), ``method``, and ``collages`` or the reason why there are none."""
    network = load(name, seed)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    images, labels = select(network, count, collages_seed)
    cases = [(None, method) for method in methods if method in BASELINES and name in ONLY_FOR.get(method, (name,))]
    cases += [(rule, method) for rule in rules for method in methods if method in OURS]
    rows = []
    for rule, method in cases:
        row: dict[str, Any] = {"network": name, "seed": seed, "rules": rule, "method": method}

        def explain(images: Tensor, targets: Tensor, rule: str | None = rule, method: str = method) -> Tensor:
            if rule is None:
                return baseline(method, network, images, targets)
            return relevance(method, rule, network, images, targets)

        started = time.process_time()
        try:
            values = score(network, images, labels, explain)
            row["collages"] = {quantity: values[quantity] for quantity in quantities_of(method)}
        except UnsupportedOperationError as error:
            row["refused"] = str(error)
        except FloatingPointError as error:
            row["failed"] = str(error)
        except ImportError as error:
            print(f"{name}-{seed} {method}: left out, since {error}", flush=True)
            continue
        print(f"{name}-{seed} {rule or ''} {method}: {_brief(row)} ({time.process_time() - started:.1f} s)", flush=True)
        rows.append(row)
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, standard error over collages and number of collages of each row; all seeds of a network together."""
    together: dict[tuple[str, str | None, str], list[dict[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["network"], row["rules"], row["method"]), []).append(row)
    found = []
    for (network, rules, method), group in together.items():
        line: dict[str, Any] = {
            "network": network,
            "rules": rules,
            "method": method,
            "seeds": [r["seed"] for r in group],
        }
        fault = next((r for r in group if "collages" not in r), None)
        if fault is not None:
            line |= {key: fault[key] for key in ("refused", "failed") if key in fault}
        else:
            for quantity in quantities_of(method):
                values = [v for r in group for v in r["collages"][quantity]]
                error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
                by_seed = [round(fmean(r["collages"][quantity]), 4) for r in group]
                line[quantity] = {
                    "mean": round(fmean(values), 4),
                    "error": round(error, 4),
                    "n": len(values),
                    "by_seed": by_seed,
                }
        found.append(line)
    return found


def tables(lines: Sequence[dict[str, Any]], accuracies: Sequence[dict[str, Any]]) -> str:
    """All results in Markdown: accuracies, an overview by network, and every quantity of each network."""
    networks = list(dict.fromkeys(line["network"] for line in lines))
    by_case: dict[tuple[str | None, str], dict[str, dict[str, Any]]] = {}
    for line in lines:
        by_case.setdefault((line["rules"], line["method"]), {})[line["network"]] = line
    by_case = dict(sorted(by_case.items(), key=lambda item: item[0][0] is not None))  # baselines first

    parts = ["## Accuracy on held-out digits\n"]
    kinds = list(accuracies[0]["accuracy"])
    parts.append(
        report.markdown_table(
            ["network", "seed", "parameters", "steps", *kinds],
            [
                [a["network"], a["seed"], a["parameters"], a["steps"], *(f"{a['accuracy'][k]:.3f}" for k in kinds)]
                for a in accuracies
            ],
        )
    )
    parts.append(
        f"## Share of positive relevance in the target's cell, by patches\n\nChance is {scores.CHANCE}. n/a: gradient times attention "
        "needs a matrix from all tokens to all, which attention in windows or patches does not have. Empty: not measured.\n"
    )
    named = {case: by_network for case, by_network in by_case.items() if case[0] not in TRIED}
    parts.append(_by_network(named, networks))
    tried = {case: by_network for case, by_network in by_case.items() if case[0] in TRIED}
    if tried:
        parts.append(
            "## What was tried\n\nThe same share for other sets of rules, beside those that `gamma` and `paper` stand for.\n"
        )
        chosen = [n for n in networks if any(n in by_network for by_network in tried.values())]
        beside = {case: by_case[case] for case in (("paper", "CLRP1"), ("gamma", "CLRP1")) if case in by_case}
        parts.append(_by_network({**beside, **tried}, chosen))
    for network in networks:
        rows = []
        for case, by_network in by_case.items():
            if network in by_network:
                rows.append([_title(*case), *(_cell(by_network[network], q) for q in QUANTITIES)])
        parts += [f"## {network}\n", report.markdown_table(["rules and method", *QUANTITIES], rows)]
    return "\n".join(parts)


def _by_network(cases: dict[tuple[str | None, str], dict[str, dict[str, Any]]], networks: Sequence[str]) -> str:
    def cell(method: str, line: dict[str, Any] | None, network: str) -> str:
        return "n/a" if network in UNDEFINED.get(method, ()) else _cell(line, "patches")

    rows = [[_title(*case), *(cell(case[1], lines.get(n), n) for n in networks)] for case, lines in cases.items()]
    return report.markdown_table(["rules and method", *networks], rows)


def _title(rules: str | None, method: str) -> str:
    return method if rules is None else f"{rules} {method}"


def _cell(line: dict[str, Any] | None, quantity: str) -> str:
    if line is None:
        return ""
    if "refused" in line or "failed" in line:
        return "refused" if "refused" in line else "failed"
    if quantity not in line:
        return ""
    mean, error = line[quantity]["mean"], line[quantity]["error"]
    return f"{mean:.3g} ± {error:.1g}" if quantity == "size" else f"{mean:.2f} ± {error:.2f}"


def _brief(row: dict[str, Any]) -> str:
    if "collages" not in row:
        return " ".join(next(row[key] for key in ("refused", "failed") if key in row).split())
    return ", ".join(f"{q} {fmean(v):.3f}" for q, v in row["collages"].items())


def _write_compressed(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The values of each collage with four digits, without a time stamp, so that equal results are equal bytes."""
    rounded = [
        row | {"collages": {q: [float(f"{v:.4g}") for v in values] for q, values in row["collages"].items()}}
        if "collages" in row
        else row
        for row in rows
    ]
    path.write_bytes(gzip.compress(json.dumps(rounded, separators=(",", ":")).encode(), mtime=0))


def _read_compressed(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))
    return rows


def _merged(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], *identity: str) -> list[dict[str, Any]]:
    """Rows of both, those of ``now`` in place of older ones of the same identity, in the order of the tables."""
    together = {tuple(row[key] for key in identity): row for row in (*before, *now)}
    rules = [*RULES, *TRIED]
    places = {"network": list(NETWORKS), "rules": [None, *rules], "method": [*BASELINES, *OURS]}

    def place(row: dict[str, Any]) -> tuple[int, ...]:
        return tuple(places[k].index(row[k]) if row[k] in places.get(k, ()) else row.get("seed", 0) for k in identity)

    return sorted(together.values(), key=place)


def _parser() -> argparse.ArgumentParser:
    names = list(dict.fromkeys(a["network"] for a in report.read_json(WEIGHTS / "accuracy.json")))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rules", nargs="+", default=RULES, metavar="NAME", help=", ".join((*RULES, *TRIED)))
    parser.add_argument(
        "--tried", action="store_true", help="CLRP1 by the rules that were tried and have no name of their own"
    )
    parser.add_argument("--keep", action="store_true", help="keep what the files hold of everything else")
    known = [*BASELINES, *OURS]
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--collages", type=int, default=COLLAGES, help="of each network and seed")
    parser.add_argument(
        "--collages-seed", type=int, default=COLLAGES_SEED, help="draws the collages; another one: others"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder of the reports")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = _parser().parse_args(arguments)
    accuracies = report.read_json(WEIGHTS / "accuracy.json")
    if given.tried:
        given.rules, given.methods = list(TRIED), ["CLRP1"]
    torch.set_num_threads(1)
    chosen = [a for a in accuracies if a["network"] in given.networks]
    rows = [
        row
        for a in chosen
        for row in measure(a["network"], a["seed"], given.rules, given.methods, given.collages, given.collages_seed)
    ]
    lines = summarise(rows)
    values = given.output / "digits-collages.json.gz"
    if given.keep:
        before = report.read_json(given.output / "digits.json") or {"rows": [], "accuracy": []}
        measured = {line["network"] for line in before["rows"]} | set(given.networks)
        chosen = [a for a in accuracies if a["network"] in measured]
        lines = _merged(before["rows"], lines, "network", "rules", "method")
        rows = _merged(_read_compressed(values) if values.exists() else [], rows, "network", "seed", "rules", "method")
    environment = report.environment()
    document = {"environment": environment, "quantities": QUANTITIES, "accuracy": chosen, "rows": lines}
    report.write_json(given.output / "digits.json", document)
    _write_compressed(values, rows)
    head = f"# Digits: which rules tell classes apart?\n\n{report.describe(environment)}\n"
    legend = "\n".join(f"- {quantity}: {meaning}" for quantity, meaning in QUANTITIES.items())
    text = "\n".join(
        [head, f"Means and standard errors over collages, all seeds together.\n\n{legend}\n", tables(lines, chosen)]
    )
    (given.output / "digits.md").write_text(text)


if __name__ == "__main__":
    main()
