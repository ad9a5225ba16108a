"""Which networks does each implementation of relevance propagation explain without losing relevance?

    python -m benchmarks.architectures                    # every network, about a quarter of an hour
    python -m benchmarks.architectures --networks torchvision timm/vgg11
    python -m benchmarks.architectures --list

Each network runs unmodified, on two pictures and the class that it predicts, with the weights that
the library draws (ours only) and with realistic ones (see ``networks.realistic``). An implementation
*conserves* if the relevance at the input sums to the logit within one per cent on both pictures. For
this package's default, what was absorbed at outputs without positive contributions is part of the
account: it must be named, and sum at the input plus absorbed must be the logit.

Results go to ``architectures.json`` and ``architectures.md``; ``--resume`` goes on where a run
stopped. The exit status is 0 if this package did on every network what it promises.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import networks, peers, report
from benchmarks.isolation import isolated, one_line, time_limit

TOLERANCE = 0.01
"""Largest relative distance of the sum from the logit that counts as conserved."""

OURS = ("default", "conserve", "clrp1", "clrp2")
PEERS = ("captum_default", "captum", "zennit", "zennit_canonized", "autolrp")
TITLES = {
    "default": "ours: accounted",
    "arrives": "ours: at the input",
    "conserve": "ours, conserve=True",
    "clrp1": "CLRP1",
    "clrp2": "CLRP2",
    "fresh": "ours, fresh weights",
    "captum_default": "Captum LRP",
    "captum": "Captum LRP, rules by hand",
    "zennit": "Zennit",
    "zennit_canonized": "Zennit, canonizers",
    "autolrp": "autoLRP",
}


@dataclass(frozen=True)
class Task:
    """One network to survey.

    Args:
        label: its name in :mod:`benchmarks.networks`.
        with_peers: also run the other implementations.
        limit: seconds that one implementation may take on it.
    """

    label: str
    with_peers: bool = True
    limit: float = 60.0


def survey(task: Task) -> dict[str, Any]:
    """Everything measured on one network, ready for JSON."""
    warnings.simplefilter("ignore")
    (network,) = networks.find_networks([task.label])
    low, high = networks.picture_bounds()
    x = networks.pictures(2, network.size, seed=7)
    model = networks.realistic(network.build(), size=network.size)
    record: dict[str, Any] = {
        "network": network.label,
        "source": network.source,
        "family": network.family,
        "size": network.size,
        "refused": network.refused,
        "parameters": sum(p.numel() for p in model.parameters()),
        "realistic": {},
        "fresh": {},
    }
    with torch.no_grad():
        scores, target = model(x).max(1)
    record["scores"] = scores.tolist()
    record["realistic"] = _ours(model, x, target, low, high, task.limit)
    if task.with_peers:
        for name in PEERS:
            record["realistic"][name] = _peer(name, model, x, target, low, high, task.limit)
    del model
    fresh = network.build()
    with torch.no_grad():
        fresh_scores = fresh(x)
    if bool(fresh_scores.any()):  # some libraries start the last layer at zero
        record["fresh"] = _ours(fresh, x, fresh_scores.argmax(1), low, high, task.limit)
    return record


def _ours(model: nn.Module, x: Tensor, target: Tensor, low: Tensor, high: Tensor, limit: float) -> dict[str, Any]:
    import captum_clrp

    with torch.no_grad():
        scores = model(x).gather(1, target.unsqueeze(1)).squeeze(1).double()

    def accounted() -> dict[str, Any]:
        method = captum_clrp.LRPZBeta(model, low, high)
        relevance = method.attribute(x, target=target)
        arrived = relevance.double().flatten(1).sum(1)
        # What each operation says it absorbed: measured where it happens, not taken as the rest.
        absorbed = [
            captum_clrp.check_conservation(model, one, index, method=method).absorbed
            for one, index in zip(x.split(1), target.split(1), strict=True)
        ]
        return {
            **_conserved(arrived + torch.tensor(absorbed, dtype=torch.float64), scores),
            "arrives": [float(v) for v in arrived / scores],
        }

    def conserving() -> dict[str, Any]:
        relevance = captum_clrp.LRPZBeta(model, low, high, conserve=True).attribute(x, target=target)
        return _conserved(relevance.double().flatten(1).sum(1), scores)

    def contrast(name: str) -> dict[str, Any]:
        method = getattr(captum_clrp, name)
        maps = [method(model, low, high, conserve=conserve).attribute(x, target=target) for conserve in (False, True)]
        faults = [fault for fault in map(_fault_of_map, maps) if fault]
        return {"outcome": "fails" if faults else "valid", "error": "; ".join(faults) or None}

    return {
        "default": _attempt(accounted, limit),
        "conserve": _attempt(conserving, limit),
        "clrp1": _attempt(lambda: contrast("ContrastiveLRP1"), limit),
        "clrp2": _attempt(lambda: contrast("ContrastiveLRP2"), limit),
    }


def _fault_of_map(relevance: Tensor) -> str | None:
    """What keeps a contrastive map from being one: each example finite, not negative, not zero."""
    if not bool(relevance.isfinite().all()):
        return "not finite"
    if bool((relevance < 0).any()):
        return "negative"
    if bool((relevance.flatten(1).amax(1) == 0).any()):
        return "zero"
    return None


def _peer(
    name: str, model: nn.Module, x: Tensor, target: Tensor, low: Tensor, high: Tensor, limit: float
) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        relevance = peers.lrp(make_peer(name, peers.own_copy(model), low, high), x, target)
        return _conserved(relevance.double().flatten(1).sum(1), scores)

    with torch.no_grad():
        scores = model(x).gather(1, target.unsqueeze(1)).squeeze(1).double()
    return _attempt(run, limit)


def make_peer(name: str, model: nn.Module, low: Tensor, high: Tensor) -> peers.Peer:
    """The peer of one column; ``model`` becomes its own."""
    if name == "captum_default":
        return peers.CaptumDefault(model, low, high)
    if name == "captum":
        return peers.CaptumLRP(model, low, high)
    if name == "autolrp":
        return peers.AutoLRP(model, low, high)
    return peers.Zennit(model, low, high, canonizers=name == "zennit_canonized")


def _conserved(sums: Tensor, scores: Tensor) -> dict[str, Any]:
    ratios = sums / scores
    off = (ratios - 1).abs()
    conserves = bool((off <= TOLERANCE).all())  # False for NaN
    return {"outcome": "conserves" if conserves else "runs", "ratios": [float(r) for r in ratios]}


def _attempt(run: Callable[[], dict[str, Any]], limit: float) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        with time_limit(limit):
            result = run()
    except Exception as error:
        result = {"outcome": "refuses", "error": one_line(error)}
    return {**result, "seconds": round(time.perf_counter() - start, 3)}


def keeps_its_promise(record: dict[str, Any]) -> bool:
    """Whether this package did on the network what it should, with both kinds of weights."""
    expected = (
        dict.fromkeys(OURS, "refuses")
        if record["refused"]
        else {"default": "conserves", "conserve": "conserves", "clrp1": "valid", "clrp2": "valid"}
    )
    named = "Unsupported" if record["refused"] else ""
    return "failed" not in record and all(
        record[weights][key]["outcome"] == outcome and named in (record[weights][key].get("error") or "")
        for weights in ("realistic", "fresh")
        if record[weights]
        for key, outcome in expected.items()
    )


def cell(result: dict[str, Any] | None) -> str:
    """One result in the table: yes or valid, the worst ratio of sum to logit, or the class of the error."""
    if result is None:
        return ""
    if result["outcome"] == "conserves":
        return "yes"
    if result["outcome"] == "valid":
        return "valid"
    if result["outcome"] == "runs":
        return f"{_worst(result['ratios']):.2g}"
    return str(result.get("error") or "").split(":")[0]


def _worst(ratios: Sequence[float]) -> float:
    return max(ratios, key=lambda r: float("inf") if r != r else abs(r - 1))


def markdown(document: dict[str, Any]) -> str:
    """The report: a summary per library and one row per network."""
    records = sorted(document["networks"], key=lambda r: r["network"].split("/")[0] != "torchvision")
    explained = [r for r in records if not r["refused"] and "failed" not in r]
    parts = [
        "# Relevance conservation\n",
        report.describe(document["environment"]) + "\n",
        "Each network has random weights: those that its library draws, with biases and scales of batch norm drawn "
        "at random and its statistics calibrated on made-up pictures. So the tables show whether an "
        "implementation can follow a network. They do not show how much a *trained* network absorbs, which is "
        "often more: EfficientNet-Lite0 brings more than half of the score to the input with these weights, and 4 % "
        "with its ImageNet weights on the picture of the first page. Two pictures per network, of the size in the "
        "table, and the class that it predicts.\n",
        "- `yes`: the relevance at the input sums to the logit within 1 % (first column: together with what is "
        "reported as absorbed).\n"
        "- A number: it runs, and this is the sum divided by the logit on the worse picture; 1.9e+15 means that "
        "relevance grew on its way until it has nothing to do with the score any more.\n"
        "- A name: it refuses with this error.\n"
        "- `valid`, for the two contrasts: the map is finite, not negative and not zero. Its positive part "
        "has no total to keep.\n",
        "Zennit and autoLRP absorb relevance at outputs without positive contributions as this package does by "
        "default, and do not report how much; autoLRP also gives biases a share by design.\n",
    ]
    for source in dict.fromkeys(r["source"] for r in explained):
        chosen = [r for r in explained if r["source"] == source]
        families = len({r["family"] for r in chosen})
        parts.append(f"## {source}: {len(chosen)} networks of {families} families\n")
        parts += [_summary(chosen), _table(chosen)]
    refused = [r for r in records if r["refused"] and "failed" not in r]
    if refused:
        parts.append("## Refused\n")
        parts.append(
            "By name, each with its reason, by the version that was measured; attention is followed since then.\n"
        )
        parts.append(_table(refused))
    failed = [r for r in records if "failed" in r]
    if failed:
        parts.append("## Not surveyed\n")
        parts.append(report.markdown_table(["network", "why"], [[r["network"], r["failed"]] for r in failed]))
    return "\n".join(parts)


def _summary(records: list[dict[str, Any]]) -> str:
    rows = []
    for key in (*OURS, *PEERS):
        results = [r["realistic"].get(key) for r in records]
        outcomes = [r["outcome"] for r in results if r is not None]
        if outcomes:
            valid = sum(o == "valid" for o in outcomes)
            good = sum(o == "conserves" for o in outcomes)
            bad = sum(o in ("runs", "fails") for o in outcomes)
            contrast = key.startswith("clrp")
            refused = len(outcomes) - good - valid - bad
            rows.append([TITLES[key], "-" if contrast else good, valid if contrast else "-", bad, refused])
    return report.markdown_table(["", "conserves", "valid map", "runs, but not so", "refuses"], rows)


def _table(records: list[dict[str, Any]]) -> str:
    rows = []
    for record in records:
        real = record["realistic"]
        arrives = real["default"].get("arrives")
        fresh = [cell(record["fresh"].get(key)) for key in OURS]
        rows.append(
            [
                record["network"].split("/", 1)[1],
                cell(real["default"]),
                None if arrives is None else f"{100 * min(arrives):.0f} %",
                *(cell(real[key]) for key in ("conserve", "clrp1", "clrp2")),
                next((v for v in fresh if v not in ("yes", "valid")), "yes"),
                *(cell(real.get(key)) for key in PEERS),
                record["size"],
            ]
        )
    return report.markdown_table(["network", *TITLES.values(), "pixels"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    options = _parser().parse_args(arguments)
    chosen = networks.find_networks(options.networks, heavy=options.all)
    if options.list:
        print("\n".join(f"{n.label} ({n.family})" for n in chosen))
        return 0
    path = options.output / "architectures.json"
    environment = {**report.environment(), "threads": options.threads * options.workers}
    earlier = before = (report.read_json(path) or {"networks": []})["networks"]
    given = {n.label for n in chosen}
    if options.again:
        before = [r for r in before if r["network"] not in given]
    resumed = options.resume or options.again
    document: dict[str, Any] = {"environment": environment, "networks": before if resumed else []}
    kept = {r["network"]: r for r in earlier if options.ours_only and "failed" not in r}
    done = {r["network"] for r in document["networks"]}
    order = {n.label: i for i, n in enumerate(networks.find_networks(None, heavy=True))}
    tasks = [
        Task(n.label, with_peers=not options.ours_only, limit=options.limit) for n in chosen if n.label not in done
    ]
    results = isolated(survey, tasks, workers=options.workers, limit=6 * options.limit, threads=options.threads)
    for outcome in results:
        record = outcome.value or _failure(outcome.argument.label, outcome.error or "")
        _carry_over(kept.get(record["network"]), record)
        document["networks"].append(record)
        document["networks"].sort(key=lambda r: order.get(r["network"], -1))
        report.write_json(path, document)
        print(_progress(record, len(document["networks"]), len(chosen)), flush=True)
    (options.output / "architectures.md").write_text(markdown(document))
    broken = [r["network"] for r in document["networks"] if not keeps_its_promise(r)]
    print(f"{len(document['networks']) - len(broken)} of {len(document['networks'])} as promised")
    if broken:
        print("not: " + ", ".join(broken))
    return 1 if broken else 0


def _carry_over(before: dict[str, Any] | None, record: dict[str, Any]) -> None:
    """What an earlier run measured of the peers, which a change of this package does not touch."""
    if before is not None and "failed" not in record:
        for key in PEERS:
            if key in before["realistic"]:
                record["realistic"].setdefault(key, before["realistic"][key])


def _failure(label: str, error: str) -> dict[str, Any]:
    (network,) = networks.find_networks([label])
    return {
        "network": label,
        "source": network.source,
        "family": network.family,
        "refused": network.refused,
        "failed": error,
    }


def _progress(record: dict[str, Any], count: int, total: int) -> str:
    if "failed" in record:
        return f"[{count}/{total}] {record['network']}: FAILED {record['failed']}"
    real = record["realistic"]
    cells = ", ".join(f"{key} {cell(result)}" for key, result in real.items())
    mark = "" if keeps_its_promise(record) else "  <-- ours"
    return f"[{count}/{total}] {record['network']}: {cells}{mark}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.architectures", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="labels, names or sources")
    parser.add_argument("--all", action="store_true", help="also the large ones of each family")
    parser.add_argument("--ours-only", action="store_true", help="keep what the file holds about the other libraries")
    parser.add_argument("--list", action="store_true", help="print the networks and stop")
    parser.add_argument("--resume", action="store_true", help="keep what the file already holds")
    parser.add_argument(
        "--again", action="store_true", help="measure the networks again that are named, keep the others"
    )
    parser.add_argument("--workers", type=int, default=2, help="networks at a time (2)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (1)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds per method (60)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
