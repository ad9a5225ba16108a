"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment either the old or the complete new one is there.

    Args:
        path: The file; a link stays a link.
        content: What it holds; text becomes UTF-8.
    """
    final = path.resolve()
    partial = final.with_name(f".{final.name[:100]}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, final)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
