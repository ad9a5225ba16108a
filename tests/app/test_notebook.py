"""The page to explore below a cell of a notebook."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("gradio")
pytest.importorskip("timm")

CELL = """
import timm
from captum_clrp.app import explore

page = explore(timm.create_model("test_resnet", pretrained=False).eval())
"""


@pytest.mark.slow
def test_the_page_appears_below_the_cell():
    cells = [nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell("page.close()")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120).execute()
    shown = [
        output.data.get("text/html", "") for output in notebook.cells[0].outputs if output.output_type == "display_data"
    ]
    assert any("<iframe" in html and "http://127.0.0.1:" in html for html in shown), notebook.cells[0].outputs
