"""Results image by image, appended to files of JSON lines as they come, so that a killed run can go on.

Each process appends to a file of its own. A line is one image and is written at once; a line that was cut off by the
end of its process does not count, and the image is measured again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from captum_clrp.evaluation.metrics.bench import Measured

__all__ = ["Measured", "Record", "Recorder", "merge", "read_records", "without_nan"]


@dataclass(frozen=True)
class Record:
    """The results of one image.

    Attributes:
        id: The image.
        index: Its position in the source.
        measured: One entry for each explained class; empty if there was none.
        skipped: Classes that were left out, with the reason.
    """

    id: str
    index: int
    measured: tuple[Measured, ...]
    skipped: tuple[str, ...] = ()

    def line(self) -> str:
        """The record as one line of JSON; NaN becomes null."""
        measured = [asdict(m) for m in self.measured]
        content = {"id": self.id, "index": self.index, "measured": measured, "skipped": list(self.skipped)}
        return json.dumps(without_nan(content), separators=(",", ":"), allow_nan=False) + "\n"

    @classmethod
    def of(cls, line: str) -> Record | None:
        """The record of a line, or ``None`` for a line that is not whole."""
        try:
            content = json.loads(line)
            measured = tuple(
                Measured(m["label"], m["name"], _from_json(m["values"]), m["top"], m["negative"])
                for m in content["measured"]
            )
            return cls(content["id"], content["index"], measured, tuple(content["skipped"]))
        except (ValueError, KeyError, TypeError):
            return None


def without_nan(value: Any) -> Any:
    """What JSON can say: NaN becomes null, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return math.nan if value is None else value


class Recorder:
    """Appends records to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Recorder:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.is_file() and not self._path.read_bytes().endswith(b"\n") and self._path.stat().st_size > 0
        self._file: TextIO = self._path.open("a", encoding="utf-8")
        if torn:  # a line that was cut off must not swallow the next one
            self._file.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Write a record through to the operating system, so that it outlives this process."""
        self._file.write(record.line())
        self._file.flush()


def read_records(folder: Path) -> list[Record]:
    """All whole records in a folder's files, each image once, in the order of the source."""
    records = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as file:
            records += [record for line in file if (record := Record.of(line)) is not None]
    return merge([records])


def merge(parts: Iterable[Iterable[Record]]) -> list[Record]:
    """Records of several processes, each image once, in the order of the source."""
    by_id: dict[str, Record] = {}
    for part in parts:
        for record in part:
            by_id.setdefault(record.id, record)
    return sorted(by_id.values(), key=lambda record: record.index)
