"""What both benchmarks write: where they ran, a JSON file and Markdown tables."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from captum_clrp.files import write_whole

PACKAGES = ("torch", "torchvision", "timm", "captum", "zennit", "autoLRP", "lxt", "transformers")


def environment(device: str = "cpu") -> dict[str, Any]:
    """Machine, versions and date, for the head of a report."""
    from captum_clrp.evaluation.running import provenance  # processes that are only measured do not load it

    found: dict[str, Any] = {
        "date": provenance.today(),
        "python": platform.python_version(),
        "system": platform.system(),
        "cpu": provenance.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": provenance.packages(PACKAGES),
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(torch.device(device))
        found["gpu"] = properties.name
        found["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def describe(found: dict[str, Any]) -> str:
    """The environment as one paragraph of Markdown."""
    versions = ", ".join(f"{name} {v}" for name, v in found["versions"].items() if v)
    machine = found.get("gpu") or f"{found['cpu']}, {found['threads']} of {found['cores']} cores"
    return f"{found['date']}, {machine}, Python {found['python']}, {versions}."


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A GitHub-flavoured table; the first column is aligned left, the others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(_cell(v) for v in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def write_json(path: Path, content: Any) -> None:
    """Write it whole, so that an interrupted run leaves the last complete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=1) + "\n")


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command that runs ``python -m module`` with ``arguments``, to be pasted into a shell."""
    return shlex.join(["python", "-m", module, *arguments])


def finish(path: Path, document: Any, text: str) -> int:
    """Write a document to ``path`` and its text beside it, print the text, and return the exit status of success."""
    write_json(path, document)
    write_whole(path.with_suffix(".md"), text)
    print(text)
    return 0


def read_json(path: Path) -> Any:
    """Content of a file written by :func:`write_json`, or ``None`` where there is none."""
    return json.loads(path.read_text()) if path.exists() else None
