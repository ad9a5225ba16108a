"""What both benchmarks write: where they ran, a JSON file and Markdown tables."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from captum_clrp.files import write_whole

PACKAGES = ("captum_clrp", "torch", "torchvision", "timm", "captum", "zennit", "autoLRP")


def environment(device: str = "cpu") -> dict[str, Any]:
    """Machine, versions and date, for the head of a report."""
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(torch.device(device))
        found["gpu"] = properties.name
        found["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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


def read_json(path: Path) -> Any:
    """Content of a file written by :func:`write_json`, or ``None`` where there is none."""
    return json.loads(path.read_text()) if path.exists() else None
