"""``python -m benchmarks.contrast``: the study. It can be stopped and goes on where it stopped.

The report covers every network that lies in the folder of results, each with the command that measured it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.contrast.jobs import Asked, Job, bench_of, measure
from benchmarks.contrast.measure import PATCH, STEPS
from benchmarks.contrast.summary import differences, figure, summarise, table
from benchmarks.report import describe, environment, read_json, write_json

NETWORKS = ("lite0", "lite1", "lite2")
RESULTS = Path(__file__).parent.parent / "results" / "contrast"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study with the options of the command line."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    given = sys.argv[1:] if arguments is None else arguments
    for name in options.networks:
        _run_network(name, options, " ".join(["python", "-m", "benchmarks.contrast", *given]))
    sys.stdout.write(f"{report(options.output)}-> {options.output}\n")
    return 0


def report(folder: Path) -> str:
    """Write tables and picture of every network that lies in a folder of results.

    Args:
        folder: Where ``lite0.json`` lies, say.

    Returns:
        The tables.
    """
    measured = {name: found for name in NETWORKS if (found := read_json(folder / f"{name}.json"))}
    figure({name: found["metrics"] for name, found in measured.items()}, folder / "contrast.png")
    text = ["# Which contrast?\n"]
    for name, found in measured.items():
        metrics, made = found["metrics"], found["made_with"]
        counts = metrics["deletion"]["images"], metrics["share"]["images"], metrics["share"]["classes"]
        text += [
            f"\n## EfficientNet-{name.capitalize()}\n\n",
            "{} photographs of one object; {} scenes of four photographs, {} classes in them. ".format(*counts),
            f"{describe(made['environment'])}\n\n```bash\n{made['command']}\n```\n\n",
            table(metrics),
            "\nMeans; * where the 95 % interval of the paired difference to lrp leaves 0 out. The main differences:\n\n",
            differences(metrics),
        ]
    (folder / "contrast.md").write_text("".join(text))
    return "".join(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contrast", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--networks", default="lite0", type=_networks, help="of lite0, lite1, lite2 (default: lite0)")
    parser.add_argument(
        "--core", action="store_true", help="strengths of three duals and few other methods: three times as fast"
    )
    parser.add_argument(
        "--methods",
        default=(),
        type=lambda text: tuple(name.strip() for name in text.split(",")),
        metavar="NAMES",
        help="of those, as the tables call them, separated by commas: clrp1,clrp1-s0.9,gradient (default: all)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="photographs (default: all)")
    parser.add_argument(
        "--scenes", type=int, metavar="N", help="scenes of 2 x 2 (default: a quarter of the photographs)"
    )
    parser.add_argument(
        "--scene-classes",
        type=int,
        metavar="N",
        help="classes of each scene whose deletion and insertion are measured, in turn (default: all)",
    )
    parser.add_argument(
        "--steps", type=int, default=STEPS, metavar="N", help=f"of deletion and insertion (default: {STEPS})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photographs (default: 0)")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="FOLDER", help="default: benchmarks/results/contrast"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="which share the images (default: 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each process (default: 1)")
    return parser.parse_args(arguments)


def _networks(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(NETWORKS):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(NETWORKS)}")
    return names


def _run_network(name: str, options: argparse.Namespace, command: str) -> None:
    asked = Asked(name, **{key: getattr(options, key) for key in Asked._fields[1:]})
    try:
        network, settings, others, photographs, grids, _ = bench_of(asked)
    except ValueError as error:
        raise SystemExit(f"--methods: {error}") from None
    folder = options.output / name
    identity = {
        "network": network.name,
        "weights": network.weights,
        "weights_checksum": _checksum(network.model),
        "photographs": photographs.fingerprint(),
        "scenes": grids.fingerprint(),
        "relevance": [
            [s.suffix, {dual: list(of) for dual, of in s.strengths.items()}, list(s.signed)] for s in settings
        ],
        "others": list(others.names),
        "patch": PATCH,
        "steps": options.steps,
        "scene_classes": options.scene_classes,
    }
    before = read_json(folder / "run.json")
    if before is not None and before != identity:
        changed = [key for key in identity if before.get(key) != identity[key]]
        raise SystemExit(f"{folder} holds a run with other {', '.join(changed)}; choose another --output")
    write_json(folder / "run.json", identity)
    paths = [("photograph", i, folder / "records" / f"photograph-{i:04d}.json") for i in range(len(photographs))]
    paths += [("scene", i, folder / "records" / f"scene-{i:04d}.json") for i in range(len(grids))]
    jobs: list[Job] = [(asked, kind, i, path) for kind, i, path in paths if not path.exists()]
    for _ in tqdm(_done(jobs, options), total=len(jobs), desc=name, unit="image", disable=None):
        pass
    records = [record for _, _, path in paths for record in read_json(path)]
    with gzip.GzipFile(options.output / f"{name}-values.json.gz", "w", mtime=0) as file:
        file.write(json.dumps(identity | {"records": records}).encode())
    made = identity | {"command": command, "environment": environment(), "top": _share_on_top(records)}
    write_json(options.output / f"{name}.json", {"made_with": made, "metrics": summarise(records)})


def _done(jobs: Sequence[Job], options: argparse.Namespace) -> Iterator[None]:
    if options.processes == 1:
        yield from map(measure, jobs)
        return
    with ProcessPoolExecutor(
        options.processes, get_context("spawn"), torch.set_num_threads, (options.threads,)
    ) as pool:
        yield from pool.map(measure, jobs)


def _checksum(model: torch.nn.Module) -> str:
    state = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        state.update(key.encode() + tensor.contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def _share_on_top(records: Sequence[Any]) -> float:
    tops = [r["top"] for r in records if r["top"] is not None]
    return sum(tops) / len(tops)


if __name__ == "__main__":
    raise SystemExit(main())
