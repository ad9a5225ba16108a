"""What a result was made with: versions, commit, machine, date."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch

import captum_clrp

_PACKAGES = ("torch", "torchvision", "captum", "numpy", "timm", "torchmetrics", "pillow")


def packages(others: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Versions of this package and of others that are installed.

    Args:
        others: Their names. Default: what computes.
    """
    found = {"captum_clrp": captum_clrp.__version__}
    for package in others:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def versions(device: torch.device) -> dict[str, str]:
    """Versions of what computes, where it runs, and when."""
    found = packages() | {"python": platform.python_version()}
    found["date"] = today()
    found["processor"] = f"{processor()}, {os.cpu_count()} cores"
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    found["threads"] = str(torch.get_num_threads())
    return found


def today() -> str:
    """The date in UTC, as in ``2024-12-31``."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def processor() -> str:
    """Name of the processor, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def commit() -> str | None:
    """The git commit of the package's source, with ``-dirty`` if files differ; ``None`` for an installed package."""
    root = Path(captum_clrp.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()
