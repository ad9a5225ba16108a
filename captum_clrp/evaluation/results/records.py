"""Results image by image, appended to files of JSON lines as they come, so that a killed run can go on.

Each process appends to a file of its own. A line is one image and is written at once; a line that was cut off by the
end of its process does not count, and the image is measured again. A run that is through puts all of them into one small
file, from which its means and intervals can be computed again.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captum_clrp.evaluation.metrics.bench import Measured


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

    def content(self) -> dict[str, Any]:
        """The record as JSON can say it; NaN becomes null."""
        measured = [without_nan(asdict(m)) for m in self.measured]
        return {"id": self.id, "index": self.index, "measured": measured, "skipped": list(self.skipped)}

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> Record:
        """The record of what :meth:`content` gave."""
        measured = tuple(
            Measured(m["label"], m["name"], _from_json(m["values"]), m["top"], m["negative"], m.get("area"))
            for m in content["measured"]
        )
        return cls(content["id"], int(content["index"]), measured, tuple(content["skipped"]))

    def line(self) -> str:
        """The record as one line of JSON."""
        return _json(self.content()) + "\n"

    @classmethod
    def of(cls, line: str) -> Record | None:
        """The record of a line, or ``None`` for a line that is not whole."""
        try:
            return cls.of_content(json.loads(line))
        except (ValueError, KeyError, TypeError):
            return None


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


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
        self._file = self._path.open("ab", buffering=0)
        if torn:  # a line that was cut off must not swallow the next one
            self._file.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Write a record through to the operating system, so that it outlives this process.

        In one piece, so that lines stay whole where another run appends to the same file.
        """
        left = record.line().encode()
        while left:  # a disk takes a part when it becomes full, and then says so
            left = left[self._file.write(left) :]


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


def packed_values(made_with: Mapping[str, Any], records: Iterable[Record]) -> bytes:
    """All records of a run as one compressed file of JSON; the same records give the same bytes.

    Args:
        made_with: What decided about the numbers: data, network, methods, seeds, and the fingerprints of the first two.
        records: In the order of the source.
    """
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
        content = {"made_with": without_nan(made_with), "records": [record.content() for record in records]}
        file.write(_json(content).encode() + b"\n")
    return packed.getvalue()


def read_values(path: str | Path) -> tuple[dict[str, Any], list[Record]]:
    """What lies in a ``values.json.gz``.

    Args:
        path: The file.

    Returns:
        What it was made with, and a record for each image, in the order of the source.
    """
    content = json.loads(gzip.decompress(Path(path).read_bytes()))
    return content["made_with"], [Record.of_content(record) for record in content["records"]]
