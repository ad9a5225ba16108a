"""What an explanation costs, beside Captum, Zennit and autoLRP.

    python -m benchmarks.speed                                   # CPU: six networks, batches 1 and 8
    python -m benchmarks.speed --networks vgg16 --batches 1 --rounds 5
    python -m benchmarks.speed --device cuda                     # batches 1, 32, 128; three precisions
    python -m benchmarks.speed --quick                           # a minute, to see that it works

All methods of a setting are timed in one process, one call each per round; the table gives the
fastest and the middle round, ratios of fastest rounds, and peak memory above the bare process (a CPU
case runs in a process of its own for that). A contrast costs peers two propagations: their CLRP1
shares a forward pass where the peer can, their CLRP2 goes through a network with negated weights.

Results go to ``speed-<device>.json`` and ``.md``. ``python -m benchmarks.growth`` measures and plots
how the cost grows.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import math
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.cases import BRIEF, CASES, NAMES, Bench, Case, Setting, card_limits
from benchmarks.isolation import isolated, one_line
from benchmarks.memory import peak_of
from benchmarks.timing import REPEATS, interleaved

TURN = 1.0
"""Seconds for which a call is repeated when it is its turn."""

PAPER_SECONDS = 0.1824
"""CLRP on VGG16, one picture, Tesla K80 (paper, section 4.1)."""


def measure(setting: Setting, cases: Sequence[Case], *, rounds: int, budget: float, memory: bool) -> dict[str, Any]:
    """Time and, where asked for, memory of the cases in one setting, ready for JSON."""
    bench = Bench(setting)
    calls, failed = {}, {}
    for case in cases:
        try:
            calls[case.key] = bench.call(case)
        except Exception as problem:
            failed[case.key] = one_line(problem)
    timings = interleaved(calls, rounds=rounds, synchronize=bench.synchronize, budget=budget, turn=TURN)
    results: dict[str, dict[str, Any]] = {}
    for case in cases:
        timing = timings.get(case.key)
        error = failed.get(case.key) or (timing.error if timing else None)
        if error or timing is None:
            results[case.key] = {"error": error}
        else:
            results[case.key] = {
                "minimum": timing.minimum,
                "median": timing.median,
                "rounds": len(timing.seconds),
                "seconds": timing.seconds,
            }
    record: dict[str, Any] = {
        **dataclasses.asdict(setting),
        "title": setting.title,
        "turn": TURN,
        "pixels": setting.pixels,
        "positive_weights": bench.positive_weight_bytes(),
        "forward_operations": bench.forward_operations(),
        "results": results,
    }
    if setting.device.startswith("cuda"):
        record["limits"] = card_limits(setting)
        for case in cases:
            if "minimum" in results[case.key]:
                results[case.key]["kernels"] = kernels_launched(calls[case.key])
    del bench, calls, timings
    if memory:
        _add_memory(setting, cases, results)
    return record


def _add_memory(setting: Setting, cases: Sequence[Case], results: dict[str, dict[str, Any]]) -> None:
    todo = [(setting, case) for case in cases if "error" not in results[case.key]]
    if setting.device == "cpu":
        for outcome in isolated(memory_of, todo, limit=300, reuse=False):
            key = outcome.argument[1].key
            results[key].update(outcome.value or {"memory_error": outcome.error})
    else:
        for argument in todo:
            results[argument[1].key].update(memory_of(argument))


def memory_of(argument: tuple[Setting, Case]) -> dict[str, int]:
    """Peak memory of one case in this process; see :func:`benchmarks.memory.peak_of`.

    The case runs on a toy network before, so that libraries loaded at first use are not counted.
    """
    setting, case = argument
    with contextlib.suppress(Exception):
        import timm  # noqa: F401
        import torchvision  # noqa: F401

        Bench(Setting("toy/plain", device=setting.device)).call(case)()
    return peak_of(lambda: Bench(setting, alone=True).call(case), setting.device)


def table(record: dict[str, Any], cases: Sequence[Case] = CASES) -> str:
    """The Markdown table of one setting."""
    results = record["results"]
    saliency = results.get("saliency: gradient", {})
    rows = []
    for case in cases:
        result = results.get(case.key)
        if result is None:
            continue
        if "minimum" not in result:
            rows.append([case.title, "fails", str(result["error"]).split(":")[0], *[""] * 6])
            continue
        same_work = f"ours: {case.work.partition(',')[0]}"
        own = results.get(same_work, results.get("ours: LRP", {})).get("minimum")
        best = result["minimum"]
        peak = result.get("peak")
        rows.append(
            [
                case.title,
                f"{1e3 * best:.1f}",
                f"{1e3 * result['median']:.1f}",
                f"{best / saliency['minimum']:.2f}" if saliency else "",
                f"{_round_by_round(result, saliency):.2f}" if saliency else "",
                f"{best / own:.2f}" if own else "",
                f"{record['batch'] / best:.1f}",
                f"{peak / 2**20:.0f}" if peak else "",
                str(result.get("kernels", "")),
            ]
        )
    header = [
        "",
        "fastest (ms)",
        "median (ms)",
        "/ Saliency",
        "round by round",
        "/ ours",
        "pictures per s",
        "peak MiB",
        "kernels",
    ]
    used = [k for k in range(len(header)) if k == 0 or any(row[k] for row in rows)]
    return report.markdown_table([header[k] for k in used], [[row[k] for k in used] for row in rows])


def _round_by_round(result: dict[str, Any], saliency: dict[str, Any]) -> float:
    """Middle one of the ratios of the calls that stood side by side in a round."""
    pairs = zip(result["seconds"], saliency["seconds"], strict=True)
    return statistics.median(own / gradient for own, gradient in pairs)


def kernels_launched(call: Callable[[], object]) -> int:
    """Kernels that one call starts on a CUDA device."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        call()
        torch.cuda.synchronize()
    return sum(e.count for e in profiled.key_averages() if e.key.endswith("LaunchKernel"))


MOST_GRADIENTS: dict[str, tuple[float, float | None]] = {
    "vgg16": (1.5, 0.95),
    "resnet50": (1.75, 1.3),
    "efficientnet_lite0": (1.6, 1.6),
}
"""Goals on a processor: LRP in float32 and in bfloat16, in gradients."""


def promises(record: dict[str, Any]) -> list[tuple[str, float, float]]:
    """This package's goals in a setting: (what, measured, at most)."""
    results = record["results"]

    def seconds(key: str) -> float:
        return float(results.get(key, {}).get("minimum", float("nan")))

    ours, saliency = seconds("ours: LRP"), seconds("saliency: gradient")
    found: list[tuple[str, float, float]] = []
    if record["device"] == "cpu":
        most, most_brief = MOST_GRADIENTS.get(record["network"], (2.0, None))
        found.append(("LRP / Saliency", ours / saliency, most))
        if most_brief is not None:
            found.append((f"LRP, {BRIEF} / Saliency", seconds(f"ours: LRP, {BRIEF}") / saliency, most_brief))
    elif record["batch"] == 1:
        found.append(("LRP / Saliency", ours / saliency, 1.7))
    if record["device"] == "cpu" and record["network"] == "vgg16":
        found += [
            ("CLRP1 / LRP", seconds("ours: CLRP1") / ours, 1.05),
            ("CLRP2 / LRP", seconds("ours: CLRP2") / ours, 1.05),
            ("5 classes / LRP of one", seconds("ours: classes 5") / ours, 2.2),
            ("LRP / LRP of Zennit", ours / seconds("zennit: LRP"), 1 / 3),
            ("CLRP1 / CLRP1 of Zennit", seconds("ours: CLRP1") / seconds("zennit: CLRP1"), 1 / 6),
            ("CLRP2 / CLRP2 of Zennit", seconds("ours: CLRP2") / seconds("zennit: CLRP2"), 1 / 6),
            ("LRP / LRP of Captum", ours / seconds("captum: LRP"), 1 / 1.4),
        ]
    for peer, title in (("captum", "Captum"), ("zennit", "Zennit"), ("autolrp", "autoLRP")):
        if record["network"] != "vgg16" and "minimum" in results.get(f"{peer}: LRP", {}):
            found.append((f"LRP / LRP of {title}", ours / seconds(f"{peer}: LRP"), 1.0))
    peaks = [results.get(k, {}).get("peak") for k in ("ours: LRP", "saliency: gradient")]
    if all(peaks):
        allowed = 1.3 * peaks[1] + record["positive_weights"]
        found.append(("peak memory / (1.3 Saliency + positive weights)", peaks[0] / allowed, 1.0))
    return [row for row in found if not math.isnan(row[1])]  # what was run


def summary(settings: Sequence[dict[str, Any]]) -> str:
    """Three sentences and one table: what each method costs, in gradients."""
    rows, found = [], []
    for record in settings:
        seconds = {key: float(r["minimum"]) for key, r in record["results"].items() if "minimum" in r}
        gradient = seconds.get("saliency: gradient")
        if gradient is None or "ours: LRP" not in seconds:
            continue
        costs = {work: seconds.get(f"ours: {work}", math.nan) / gradient for work in ("LRP", "CLRP1", "CLRP2")}
        if {"ours: classes 1", "ours: classes 5"} <= seconds.keys():
            costs["further class"] = (seconds["ours: classes 5"] - seconds["ours: classes 1"]) / 4 / gradient
        peers = [seconds.get(f"{peer}: LRP", math.nan) / gradient for peer in ("captum", "zennit", "autolrp")]
        found.append(costs)
        cells = (*(costs.get(k, math.nan) for k in ("LRP", "CLRP1", "CLRP2", "further class")), *peers)
        rows.append([record["title"], f"{1e3 * gradient:.0f}", *("" if v != v else f"{v:.1f}" for v in cells)])
    if not rows:
        return ""

    def spread(*works: str) -> str:
        values = [f"{costs[work]:.1f}" for costs in found for work in works if costs.get(work, math.nan) > 0]
        return f"{min(values, key=float)} to {max(values, key=float)}" if values else "(not measured)"

    sentences = (
        f"LRP of one class costs {spread('LRP')} times a gradient. A contrast costs about the same "
        f"({spread('CLRP1', 'CLRP2')} gradients). Each further class of the same picture costs "
        f"{spread('further class')} of a gradient.\n"
    )
    header = ["setting", "gradient (ms)", "LRP", "CLRP1", "CLRP2", "each further class"]
    header += ["LRP of Captum", "LRP of Zennit", "LRP of autoLRP"]
    return sentences + "\n" + report.markdown_table(header, rows)


def goals(settings: Sequence[dict[str, Any]]) -> str:
    """This package's goals, and whether each was met."""
    rows = [
        [record["title"], what, f"{value:.2f}", f"{limit:.2f}", "yes" if value <= limit else "no"]
        for record in settings
        for what, value, limit in promises(record)
    ]
    return report.markdown_table(["setting", "goal", "measured", "at most", "met"], rows) if rows else ""


def markdown(document: dict[str, Any]) -> str:
    """The report: one table for users, then one per setting."""
    commands = dict.fromkeys(record["command"] for record in document["settings"])
    parts = [
        "# What an explanation costs\n",
        summary(document["settings"]),
        report.describe(document["environment"]) + "\n",
        "Random pictures; random weights with calibrated batch norm. The table divides the fastest call of each method "
        "by the fastest call of Captum's `Saliency`, a gradient. Zennit has z+ and z^beta, with its canonizers "
        "on ResNet and VGG and without them elsewhere. Captum's LRP has Alpha1_Beta0 rules set by hand; it has no "
        "z^beta. Neither conserves relevance on all of these networks; the time is what they take all the same.\n",
        "As the paper describes it, a contrast costs the other libraries two propagations. Given the signed "
        "initial relevance of this package, Zennit could compute CLRP1 in one, at the price of its LRP row.\n",
        "Measured with:\n",
        "```bash\n" + "\n".join(commands) + "\n```\n",
        "## Every setting\n",
        "Fastest and median of interleaved rounds in one process; ratios of the fastest, and the median of "
        "the ratios within a round. `/ ours` divides by this package doing the same work.\n",
    ]
    for record in document["settings"]:
        parts += [f"### {record['title']}\n", _rounds(record), table(record), _near_the_limit(record)]
    return "\n".join(part for part in parts if part)


def _rounds(record: dict[str, Any]) -> str:
    rounds = max((r.get("rounds", 0) for r in record["results"].values()), default=0)
    turn = record.get("turn", 0)
    more = (
        f"; in each a call is repeated for {turn:g} s, at most {REPEATS} times, and its fastest counts"
        if turn
        else ", each method called once in a round"
    )
    return f"{rounds} rounds{more}.\n"


def _near_the_limit(record: dict[str, Any]) -> str:
    """How near LRP comes to what the card can do, for GPU settings."""
    best = record["results"].get("ours: LRP", {}).get("minimum")
    if "limits" not in record or best is None:
        return ""
    rate = 3 * record["forward_operations"] / best  # forward, denominators, transposed pass
    share = rate / record["limits"]["operations_per_second"]
    return (
        f"LRP: {rate / 1e12:.1f} Tflop/s counting three passes, {100 * share:.0f} % of a large "
        f"matrix product on this card; {record['batch'] / best:.0f} explanations per second, "
        f"{best / record['batch']:.4f} s each (paper, VGG16 on a Tesla K80: {PAPER_SECONDS} s).\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    gpu = options.device.startswith("cuda")
    if gpu and not torch.cuda.is_available():
        print("no CUDA device was found; leave out --device to measure on the CPU", file=sys.stderr)
        return 2
    if options.threads:
        torch.set_num_threads(options.threads)
    names = options.networks or (["alexnet", "efficientnet_lite0"] if options.quick else [*NAMES])
    batches = options.batches or ([1] if options.quick else [1, 32, 128] if gpu else [1, 8])
    rounds = options.rounds or (2 if options.quick else 20 if gpu else 7)
    several = gpu and not options.quick
    precisions = options.precisions or (["float32", "tf32", "bfloat16"] if several else ["float32"])
    layouts = options.layouts or (["contiguous", "channels_last"] if several else ["contiguous"])
    cases = [c for c in CASES if c.method in options.methods and c.work in options.works]
    path = options.output / f"speed-{'cuda' if gpu else 'cpu'}.json"
    document: dict[str, Any] = {"environment": report.environment(options.device), "settings": []}
    if options.resume and path.exists():
        document["settings"] = report.read_json(path)["settings"]
    done = {r["title"] for r in document["settings"]}
    command = shlex.join(["python", "-m", "benchmarks.speed", *given])
    for name, batch, precision, layout in itertools.product(names, batches, precisions, layouts):
        setting = Setting(name, batch, options.device, precision, layout)
        if setting.title in done:
            continue
        record = measure(setting, cases, rounds=rounds, budget=options.budget, memory=not options.no_memory)
        document["settings"].append(record | {"command": command})
        report.write_json(path, document)
        path.with_suffix(".md").write_text(markdown(document))
        print(f"## {setting.title}\n\n{table(record)}", flush=True)
    print(goals(document["settings"]), end="")
    return 0


def _any(choices: Sequence[str]) -> str:
    return "any of " + ", ".join(f"'{c}'" if " " in c else c for c in choices)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--networks", nargs="+", metavar="NAME", help=f"any of {', '.join(NAMES)}, or a label")
    add("--batches", nargs="+", type=int, metavar="N", help="pictures per call")
    add("--rounds", type=int, help="rounds per setting (7; on a GPU 20)")
    add("--budget", type=float, default=300.0, help="seconds per setting after 3 rounds (300)")
    add("--device", default="cpu", help="cpu or cuda")
    add("--precisions", nargs="+", choices=("float32", "tf32", "bfloat16"), help="arithmetic (float32; on a GPU all)")
    add(
        "--layouts",
        nargs="+",
        choices=("contiguous", "channels_last"),
        help="order in memory (contiguous; on a GPU both)",
    )
    methods, works = sorted({c.method for c in CASES}), sorted({c.work for c in CASES})
    add("--methods", nargs="+", choices=methods, default=methods, metavar="METHOD", help=_any(methods))
    add("--works", nargs="+", choices=works, default=works, metavar="WORK", help=_any(works))
    add("--threads", type=int, help="threads of torch (its default)")
    add("--no-memory", action="store_true", help="time only")
    add("--resume", action="store_true", help="keep the settings that the file already holds")
    add("--quick", action="store_true", help="two networks, one picture, two rounds")
    add("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
