"""How the cost of an explanation grows with batch, image size, classes and depth.

    python -m benchmarks.growth                       # some minutes on a CPU
    python -m benchmarks.growth --series classes depth --rounds 3

Batch, image size and classes are varied on ResNet-18 of torchvision, depth over its five ResNets.
Writes ``growth-<device>.json``, ``.md`` and a plot, ``growth-<device>.png``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.cases import Bench, Case, Setting
from benchmarks.timing import interleaved

USUAL = (Case("saliency", "gradient"), Case("ours", "LRP"), Case("ours", "CLRP1"), Case("ours", "CLRP2"))
AXES = {
    "batch": "pictures in the batch",
    "size": "height and width of the picture",
    "classes": "classes explained in one call",
    "depth": "weighted layers of the ResNet",
}
TITLES = {
    "batch": "Pictures in a batch",
    "size": "Size of the picture",
    "classes": "Classes in one call",
    "depth": "Depth of the network",
}
CASES = {
    "saliency: gradient": "gradient (Saliency)",
    "ours: LRP": "LRP",
    "ours: CLRP1": "CLRP1",
    "ours: CLRP2": "CLRP2",
    "ours: classes": "LRP of all these classes",
}
VALUES = {
    "batch": (1, 2, 4, 8, 16),
    "size": (64, 96, 128, 192, 256, 384),
    "classes": (1, 2, 5, 10, 20, 50),
    "depth": (18, 34, 50, 101, 152),
}


def points(series: str, values: Sequence[int], start: Setting) -> Iterator[tuple[int, Setting, list[Case]]]:
    """The value on the axis, the setting and the cases of each point of a series."""
    for value in values:
        cases = list(USUAL)
        setting = start
        if series == "batch":
            setting = replace(start, batch=value)
        elif series == "size":
            setting = replace(start, size=value)
        elif series == "depth":
            setting = replace(start, network=f"torchvision/resnet{value}")
        else:
            cases = [USUAL[0], USUAL[1], Case("ours", f"classes {value}")]
        yield value, setting, cases


def measure(series: str, values: Sequence[int], start: Setting, rounds: int) -> dict[str, Any]:
    """Fastest seconds of each case at each point of a series, ready for JSON."""
    found: list[dict[str, Any]] = []
    for value, setting, cases in points(series, values, start):
        bench = Bench(setting)
        calls = {case.key: bench.call(case) for case in cases}
        timings = interleaved(calls, rounds=rounds, synchronize=bench.synchronize, turn=1.0)
        seconds = {
            "ours: classes" if key.startswith("ours: classes") else key: timing.minimum
            for key, timing in timings.items()
            if timing.error is None
        }
        found.append({"value": value, "seconds": seconds})
        print(f"{series} {value}: {seconds}", flush=True)
    return {"axis": AXES[series], "points": found}


def table(series: dict[str, Any]) -> str:
    """Milliseconds, and in brackets the ratio to Saliency, per point."""
    keys = list(dict.fromkeys(k for p in series["points"] for k in p["seconds"]))
    rows = []
    for point in series["points"]:
        saliency = point["seconds"].get("saliency: gradient")
        cells = [
            f"{1e3 * point['seconds'][k]:.1f} ({point['seconds'][k] / saliency:.2f})"
            if saliency and k in point["seconds"]
            else ""
            for k in keys
        ]
        rows.append([point["value"], *cells])
    return report.markdown_table([series["axis"], *(CASES[key] for key in keys)], rows)


def markdown(document: dict[str, Any]) -> str:
    """The report."""
    text = [
        "# How the cost grows\n",
        report.describe(document["environment"]) + "\n",
        "Milliseconds of the fastest round, in brackets the ratio to the gradient. The picture shows both, the time above "
        "and the ratio below.\n",
    ]
    text += [f"## {TITLES[name]}\n\n{table(series)}" for name, series in document["series"].items()]
    return "\n".join(text)


def plot(document: dict[str, Any], path: Path) -> None:
    """One panel per series: seconds above, ratio to Saliency below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = document["series"]
    figure, axes = plt.subplots(2, len(shown), figsize=(3.6 * len(shown), 6), squeeze=False, sharex="col")
    for column, series in enumerate(shown.values()):
        keys = list(dict.fromkeys(k for p in series["points"] for k in p["seconds"]))
        for key in keys:
            at = [p for p in series["points"] if key in p["seconds"]]
            x = [p["value"] for p in at]
            y = [p["seconds"][key] for p in at]
            ratio = [v / p["seconds"].get("saliency: gradient", float("nan")) for v, p in zip(y, at, strict=True)]
            axes[0, column].plot(x, y, marker="o", label=CASES[key])
            axes[1, column].plot(x, ratio, marker="o")
        axes[0, column].set(yscale="log", xscale="log", ylabel="seconds")
        axes[1, column].set(xlabel=series["axis"], ylabel="ratio to the gradient", ylim=(0, None))
        ticks = [p["value"] for p in series["points"]]
        axes[1, column].set_xticks(ticks, [str(t) for t in ticks], minor=False)
        axes[1, column].minorticks_off()
        axes[0, column].legend(fontsize="x-small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    options = _parser().parse_args(arguments)
    gpu = options.device.startswith("cuda")
    if gpu and not torch.cuda.is_available():
        print("no CUDA device was found; leave out --device to measure on the CPU", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"growth-{'cuda' if gpu else 'cpu'}.json"
    start = Setting(options.network, device=options.device)
    document: dict[str, Any] = {"environment": report.environment(options.device), "series": {}}
    for name in options.series:
        values = VALUES[name][:2] if options.quick else VALUES[name]
        document["series"][name] = measure(name, values, start, options.rounds)
        report.write_json(path, document)
    path.with_suffix(".md").write_text(markdown(document))
    plot(document, path.with_suffix(".png"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--series", nargs="+", choices=list(AXES), default=list(AXES), help="what grows (all)")
    add("--network", default="torchvision/resnet18", help="for all but depth")
    add("--rounds", type=int, default=5, help="rounds per point (5)")
    add("--device", default="cpu", help="cpu or cuda")
    add("--quick", action="store_true", help="two points of each")
    add("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
