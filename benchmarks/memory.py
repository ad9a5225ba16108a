"""Peak memory of one call: of a process on a CPU, of torch's allocator on a GPU."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak_of(prepare: Callable[[], Callable[[], object]], device: str = "cpu") -> dict[str, int]:
    """Peak memory, in bytes, of preparing a call (network, inputs, method) and making it twice.

    On a CPU run it in a process of its own: memory that earlier work freed but the allocator kept
    would hide part of the peak.

    Args:
        prepare: builds everything and returns the call.
        device: ``"cpu"`` or a CUDA device.

    Returns:
        ``prepared``: held before the first call; ``peak``: the most that was held during the two.
        Both above what the process (the allocator) held at the beginning.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    start = _held(device)
    call = prepare()
    gc.collect()
    prepared = _held(device) - start
    _reset_peak(device)
    for _ in range(2):
        call()
    return {"prepared": prepared, "peak": _peak(device) - start}


def _held(device: str) -> int:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def _peak(device: str) -> int:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM")


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text("5")  # proc(5): 5 sets the peak to what is resident now


def _status(key: str) -> int:
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
