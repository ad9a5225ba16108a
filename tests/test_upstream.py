"""``tools/upstream.py``: names, style and layout of the change to Captum, and the whole command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture(scope="module")
def upstream() -> Any:
    """``tools/upstream.py`` as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        import upstream

        yield upstream


@pytest.fixture(scope="module")
def reflow() -> Any:
    """``tools/reflow.py`` as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        import reflow

        yield reflow


def test_imports_become_those_that_captum_would_write(upstream):
    ours = (
        "from captum_clrp._captum import LRP, format_output\n"
        "from captum_clrp import LRPZBeta, rules\n"
        "from captum_clrp.errors import InvalidInputError\n"
        "from captum_clrp.handlers.means import pooling\n"
        "import oracles\n"
        "from nets import LOW\n"
        'TEXT = "see captum_clrp.bounds and captum_clrp.LRPZBeta"  # fmt: skip\n'
    )
    assert upstream.translated(ours) == (
        "from captum.attr._core.lrp import LRP\n"
        "from captum._utils.common import _format_output as format_output\n"
        "from captum.attr import LRPZBeta\n"
        "from captum.attr._utils import lrp_relevance_rules as rules\n"
        "from captum.attr._utils.lrp_errors import InvalidInputError\n"
        "from captum.attr._utils.lrp_handlers.means import pooling\n"
        "from tests.helpers import lrp_oracles as oracles\n"
        "from tests.helpers.lrp_nets import LOW\n"
        'TEXT = "see captum.attr._utils.lrp_bounds and captum.attr.LRPZBeta"\n'
    )


def test_every_public_name_goes_along(upstream):
    import captum_clrp

    assert set(upstream.public_names()) == set(captum_clrp.__all__) - {"__version__"}


def test_tests_of_the_core_go_along_and_others_say_why_they_stay(upstream):
    go, stay = upstream.core_tests()
    places = {path.stem: place for path, place in go.items()}
    assert places["test_attribution"] == "tests/attr/test_contrastive_lrp.py"
    assert places["test_layer"] == "tests/attr/layer/test_layer_contrastive_lrp.py"
    assert places["test_rules"] == "tests/attr/test_lrp_relevance_rules.py"
    reasons = {path.stem: reason for path, reason in stay.items()}
    assert reasons["test_taylor"] == "needs captum_clrp.taylor"
    assert "test_upstream" in reasons


def test_fixtures_beyond_the_core_skip(upstream):
    conftest = (
        "import pytest\n\n\n@pytest.fixture\ndef plain():\n    return 1\n\n\n"
        "@pytest.fixture\ndef network():\n    from captum_clrp.cli.classifiers import load\n\n    return load()\n"
    )
    source = upstream.without_outside_fixtures(conftest)
    assert "return 1" in source
    assert "load" not in source
    assert 'pytest.skip("needs captum_clrp.cli' in source


def test_docstrings_and_comments_are_broken_and_paragraphs_close_up(reflow):
    long = (
        '"""One two three four five six\n'
        "seven eight.\n"
        "\n"
        "Args:\n"
        "    low: Lowest value of a thing\n"
        "        that is.\n"
        "    high: The other.\n"
        '"""\n'
        "# one two three four five six seven\n"
        "x = 1  # a comment behind code that is long\n"
    )
    assert reflow.reflow(long, width=24) == (
        '"""One two three four\n'
        "five six seven eight.\n"
        "\n"
        "Args:\n"
        "    low: Lowest value of\n"
        "        a thing that is.\n"
        "    high: The other.\n"
        '"""\n'
        "# one two three four\n"
        "# five six seven\n"
        "# a comment behind code\n"
        "# that is long\n"
        "x = 1\n"
    )


def test_what_cannot_be_broken_is_marked(reflow):
    source = '"""A\n' + "b" * 30 + '\n"""\n\npytest.importorskip("xy")\nimport xy\n'
    assert reflow.excuse(source, width=24) == (
        '"""A\n'
        + "b" * 30
        + '\n"""  # noqa: E501\n\n'
        + 'pytest.importorskip("xy")  # noqa: E501\nimport xy  # noqa: E402\n'
    )


@pytest.mark.slow
def test_the_command_is_green(tmp_path):
    """Style, types and a part of the tests; the command by itself runs all tests of the core."""
    for module in ("ufmt", "black", "usort", "flake8", "mypy"):
        pytest.importorskip(module, reason="the extra 'upstream' is not installed")
    some = ("contrastive_lrp", "lrp_contrast", "lrp_captum", "layer/test_layer_contrastive_lrp")
    tests = [f"tests/attr/{name}.py" if "/" in name else f"tests/attr/test_{name}.py" for name in some]
    command = [sys.executable, TOOLS / "upstream.py", "--output", tmp_path / "captum", "--tests", *tests]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "-- green" in done.stdout
