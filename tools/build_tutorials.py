"""Make ``tutorials/*.ipynb`` from ``tutorials/sources/*.py``: run each one and keep what it shows.

    pip install ".[tutorials]"
    python tools/build_tutorials.py            # all of them
    python tools/build_tutorials.py 1_first_explanation 8_from_taylor_to_rules

A source is a Python file in cells: ``# %%`` begins code, ``# %% [markdown]`` text. A code cell may begin with a comment
``# alt: ...``, which goes on to the first line that is no comment and describes the picture to those who cannot see it.
Pictures are drawn at 200 dots per inch and shown at half their size, in full colour; photographs and maps as JPEG.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"
SOURCES = TUTORIALS / "sources"
_CELL = re.compile(r"^# %%(?: \[(?P<kind>markdown)\])?\n", re.MULTILINE)
_ALT = re.compile(r"# alt: (?P<text>.*\n(?:#.*\n)*)")
_DPI = 200
_LARGE = 60_000
"""Bytes of a PNG above which a picture is kept as JPEG: it holds photographs or maps, not lines."""


def from_source(text: str) -> Any:
    """The notebook of a source, not yet run."""
    starts = list(_CELL.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    cells = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        content = text[start.end() : end].strip("\n")
        if start["kind"]:
            content = re.sub(r"^# ?", "", content, flags=re.MULTILINE)
            cell = nbformat.v4.new_markdown_cell(content)
        else:
            alt = _ALT.match(content)
            cell = nbformat.v4.new_code_cell(content[alt.end() :] if alt else content)
            if alt:
                words = alt["text"].replace("#", " ").split()
                cell.metadata["mystnb"] = {"image": {"alt": " ".join(words)}}
        cell.id = f"cell-{number}"  # a random one would change with every build
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(notebook: Any, timeout: float = 900) -> None:
    """Run all cells in a fresh kernel; ``timeout`` in seconds for each cell."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "matplotlibrc"
        settings.write_text(f"figure.dpi: {_DPI}\n")
        client = nbclient.NotebookClient(notebook, timeout=timeout, kernel_name="python3", record_timing=False)
        client.execute(env={**os.environ, "MATPLOTLIBRC": str(settings)})
    notebook.metadata = nbformat.from_dict(METADATA)


def tidy(notebook: Any) -> None:
    """Make outputs small, and the same wherever they were made."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept: list[Any] = []
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                width = _shrink(output)
                cell.metadata.setdefault("mystnb", {}).setdefault("image", {})["width"] = f"{width}px"
            if output.get("name") == "stderr":  # warnings name paths of this machine
                continue
            if kept and output.get("name") == kept[-1].get("name") == "stdout":
                kept[-1].text += output.text  # how printed lines are split depends on timing
            else:
                kept.append(output)
        cell.outputs = kept


def _shrink(output: Any) -> int:
    """Encode a picture anew, as small as it looks well; returns the width at which it is shown."""
    picture = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))).convert("RGB")
    file, kind = io.BytesIO(), "image/png"
    picture.save(file, format="png", optimize=True)
    if file.tell() > _LARGE:
        file, kind = io.BytesIO(), "image/jpeg"
        picture.save(file, format="jpeg", quality=88, subsampling=0)
    size = {"width": picture.width // 2, "height": picture.height // 2}
    output["data"] = {kind: base64.b64encode(file.getvalue()).decode()}
    output["metadata"] = {kind: size}
    return size["width"]


def build(source: Path) -> Path:
    """Make one notebook."""
    notebook = from_source(source.read_text())
    started = time.perf_counter()
    execute(notebook)
    tidy(notebook)
    path = TUTORIALS / f"{source.stem}.ipynb"
    nbformat.write(notebook, path)
    seconds, size = time.perf_counter() - started, path.stat().st_size / 1000
    sys.stdout.write(f"{path.name}: {seconds:.0f} s, {size:.0f} kB\n")
    sys.stdout.flush()
    return path


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="tutorials to build, by name; default: all")
    names = parser.parse_args(arguments).names or sorted(p.stem for p in SOURCES.glob("*.py"))
    for name in names:
        build(SOURCES / f"{name}.py")


if __name__ == "__main__":
    main()
