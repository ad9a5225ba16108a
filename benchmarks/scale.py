"""What a run over a folder costs beside the attributions in it, and how it grows with batch and processes.

    python -m benchmarks.scale                           # a minute on two idle cores
    python -m benchmarks.scale --images 16 --batches 8 --processes 1 --rounds 1

The folder is made for it: the photographs of the package again and again, as JPEG files of 500 pixels. A run is that of
``captum-clrp evaluate``, from the look at the data to the summary, without the start of Python and without figures; the loop
reads a photograph, prepares it, and explains a batch, one after the other, and writes nothing. Both take turns in one
process; several processes are started by torchrun. Writes ``scale-cpu.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import report
from captum_clrp.classifiers import Classifier, load_classifier
from captum_clrp.evaluation import (
    METRICS,
    Bench,
    Embedded,
    ImageFolder,
    MethodSet,
    PhotographSource,
    Run,
    team_of_environment,
)
from captum_clrp.evaluation.metrics.bench import concepts_of
from captum_clrp.evaluation.results.records import Recorder
from captum_clrp.evaluation.running import provenance, runner
from captum_clrp.evaluation.running.processes import Team
from captum_clrp.evaluation.sources.base import Explained, Sample, as_pixels

SIDE = 500
"""Pixels of the longer side, as most photographs of ImageNet have."""
PARTS = {
    "read": "decoding",
    "prepare": "preparing",
    "attributions": "attributions",
    "model": "other forward passes",
    "metric": "metric",
    "records": "records",
    "ends": "data, weights, summary",
}
"""Where the time goes, by what tables call it."""
MOST = 1.15
"""Goal: seconds of a run in terms of the attributions in it."""


def photographs(folder: Path, count: int) -> None:
    """Fill a folder with ``count`` photographs, named by their classes."""
    known = Embedded(collages=False)
    for number in range(count):
        photograph = known[number % len(known)]
        picture = photograph.read()
        size = [round(side * SIDE / max(picture.size)) for side in picture.size]
        name = f"{photograph.targets[0].label}_{number:04d}.jpg"
        picture.resize((size[0], size[1])).save(folder / name, quality=90)


class Clock:
    """Seconds of the parts of a run, by their names."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timing(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, whose time is added to that of ``part``."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - began

        return timed

    @contextlib.contextmanager
    def watching(self, places: Sequence[tuple[str, Any, str]]) -> Iterator[None]:
        """Time what stands at ``places``: part, owner and name."""
        with contextlib.ExitStack() as stack:
            for part, owner, name in places:
                stack.enter_context(mock.patch.object(owner, name, self.timing(part, getattr(owner, name))))
            yield


def a_run(job: Run) -> dict[str, Any]:
    """Seconds of a run and of its parts; reading is done by threads beside the rest."""
    clock = Clock()
    places = [
        ("reading", type(job.source), "sample"),
        ("prepare", Bench, "inputs"),
        ("metric", type(job.metric), "score"),
        ("records", Recorder, "add"),
        ("ends", type(job.source), "fingerprint"),
        ("ends", Classifier, "checksum"),
        ("ends", provenance, "commit"),
        ("ends", provenance, "versions"),
        ("ends", runner, "summarise"),
    ]
    with clock.watching(places):
        began = time.perf_counter()
        job.go()
        seconds = time.perf_counter() - began
    parts = dict(clock.seconds) | {"attributions": job.bench.attribution_seconds, "model": job.bench.model_seconds}
    beside = parts.pop("reading", 0.0)
    return {"seconds": seconds, "images": len(job.source), "read_beside": beside, "parts": parts}


def a_loop(source: PhotographSource, network: Classifier, methods: MethodSet, batch: int, team: Team) -> dict[str, Any]:
    """Seconds of a plain loop over the photographs of this process, and of its parts."""
    clock = Clock()
    read = clock.timing("read", lambda photograph: photograph.read())
    prepare = clock.timing("prepare", lambda picture: as_pixels(source.geometry.picture(picture)))
    stack = clock.timing("prepare", lambda samples: network.inputs(torch.stack([one.pixels for one in samples])))
    explain = clock.timing("attributions", methods.maps)
    own = team.share(list(range(len(source))))
    began = time.perf_counter()
    for some in (own[k : k + batch] for k in range(0, len(own), batch)):
        found = [source.dataset[index] for index in some]
        samples = [
            Sample(one.id, prepare(read(one)), tuple(Explained(t.label, t.name) for t in one.targets)) for one in found
        ]
        explain(stack(samples), concepts_of(samples), [sample.id for sample in samples])
    team.wait()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "images": len(source), "parts": dict(clock.seconds)}


def measure(
    network: Classifier, folder: Path, method: str, metric: str, batches: Sequence[int], rounds: int, team: Team
) -> list[dict[str, Any]]:
    """The fastest run and the fastest loop for each batch, in this team of processes."""
    source = PhotographSource(ImageFolder(folder), network.geometry)
    methods = MethodSet(network, [method])
    found = []
    for batch in batches:
        a_loop(
            PhotographSource(ImageFolder(folder), network.geometry, limit=batch * team.size),
            network,
            methods,
            batch,
            team,
        )
        runs, loops = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as place:
                out = Path(team.broadcast(place))
                fresh = PhotographSource(ImageFolder(folder), network.geometry)  # so that the data are looked at
                job = Run(METRICS[metric](), fresh, Bench(network, methods), out, batch=batch, team=team, quiet=True)
                team.wait()
                runs.append(a_run(job))
                team.wait()
            loops.append(a_loop(source, network, methods, batch, team))
        fastest = {"run": min(runs, key=_seconds), "loop": min(loops, key=_seconds)}
        found.append({"batch": batch, "processes": team.size} | fastest)
    return found


def _seconds(one: Mapping[str, Any]) -> float:
    return float(one["seconds"])


def in_processes(count: int, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """What :func:`measure` finds in ``count`` processes.

    Raises:
        RuntimeError: if they fail; with the end of what they say.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "found.json")
        starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command = [*starter, "-m", "benchmarks.scale", *arguments, "--found", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{count} processes failed: {done.stderr[-1000:]}")
        found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


def ratio(row: Mapping[str, Any]) -> float:
    """Seconds of the run in terms of the attributions in it."""
    return float(row["run"]["seconds"] / row["run"]["parts"]["attributions"])


def markdown(document: Mapping[str, Any]) -> str:
    """The report."""
    rows = document["rows"]
    alone = [row for row in rows if row["processes"] == 1]
    spread = " to ".join(dict.fromkeys(f"{end(map(ratio, rows)):.2f}" for end in (min, max)))
    best = max(rows, key=lambda row: row["run"]["images"] / row["run"]["seconds"])
    speeds = [
        [
            row["processes"],
            row["batch"],
            *(f"{row[kind]['images'] / row[kind]['seconds']:.1f}" for kind in ("run", "loop")),
            f"{ratio(row):.2f}",
            f"{row['loop']['seconds'] / row['loop']['parts']['attributions']:.2f}",
        ]
        for row in rows
    ]
    parts = [
        [f"{kind}, batch {row['batch']}", *(_each(row[kind], part) for part in PARTS), f"{_rest(row[kind]):.1f}"]
        for row in alone
        for kind in ("run", "loop")
    ]
    return "\n".join(
        [
            "# A run over a folder\n",
            f"A run costs {spread} times the attributions in it. Most images "
            f"per second, {best['run']['images'] / best['run']['seconds']:.1f}, came with batches of {best['batch']} in "
            f"{best['processes']} process{'es' if best['processes'] > 1 else ''}. "
            "Threads read the photographs beside the attributions; what else a run does besides explaining is small.\n",
            report.markdown_table(
                [
                    "processes",
                    "batch",
                    "run, images per s",
                    "loop, images per s",
                    "run / its attributions",
                    "loop / its attributions",
                ],
                speeds,
            ),
            "Rows are measured one after the other: where others use the machine meanwhile, ratios within a row can be "
            "compared, images per second of different rows cannot.\n",
            "## Where the time goes\n",
            "Milliseconds for each image, in one process; *rest* is what none of these clocks saw: in a run, waiting for "
            "the threads that read (their own time, which stands in the file, is not in the table), files and progress.\n",
            report.markdown_table(["", *PARTS.values(), "rest"], parts),
            f"{document['images']} photographs of {SIDE} pixels, JPEG; {document['model']}, {document['method']}, metric "
            f"{document['metric']}; the fastest of {document['rounds']} rounds. {report.describe(document['environment'])} "
            f"Made with:\n\n```bash\n{document['command']}\n```\n",
        ]
    )


def _each(one: Mapping[str, Any], part: str) -> str:
    seconds = one["parts"].get(part)
    return "" if seconds is None else f"{1e3 * seconds / one['images']:.1f}"


def _rest(one: Mapping[str, Any]) -> float:
    return 1e3 * float(one["seconds"] - sum(one["parts"].values())) / float(one["images"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--model", default="tf_efficientnet_lite0", help="a network by name (%(default)s)")
    add("--weights", help="its weights (the library's default)")
    add("--images", type=int, default=16, metavar="N", help="photographs (%(default)s)")
    add("--method", default="clrp1", help="what explains (%(default)s)")
    add("--metric", default="sparseness", help="what is measured (%(default)s)")
    add("--batches", nargs="+", type=int, default=[1, 8], metavar="N", help="images at once (1 8)")
    add("--processes", nargs="+", type=int, default=[1, 2], metavar="N", help="how many share a run (1 2)")
    add("--rounds", type=int, default=2, help="rounds of each setting (%(default)s)")
    add("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    add("--found", type=Path, help=argparse.SUPPRESS)  # where processes of torchrun leave what they found
    return parser


def _measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    network = load_classifier(options.model, options.weights, "cpu")
    with team_of_environment() as team, tempfile.TemporaryDirectory() as place:
        folder = Path(team.broadcast(place))
        if team.leads:
            photographs(folder, options.images)
        team.wait()
        chosen = (options.method, options.metric, options.batches, options.rounds)
        found = measure(network, folder, *chosen, team)
        team.wait()
        if options.found is not None and team.leads:
            report.write_json(options.found, found)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    if options.found is not None:
        _measured(options)
        return 0
    rows = []
    for count in options.processes:
        rows += _measured(options) if count == 1 else in_processes(count, given)
    document = {
        "environment": report.environment(),
        "command": report.command_line("benchmarks.scale", given),
        **{name: getattr(options, name) for name in ("model", "method", "metric", "images", "rounds")},
        "rows": rows,
    }
    status = report.finish(options.output / "scale-cpu.json", document, markdown(document))
    most = max(map(ratio, rows))
    print(f"run / its attributions: {most:.2f}, at most {MOST:.2f}: {'met' if most <= MOST else 'missed'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
