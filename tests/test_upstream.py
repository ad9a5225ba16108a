"""The changes for Captum: lines are inserted where they belong or refused, and all of them pass on a copy of Captum."""

import difflib
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import captum
import pytest

UPSTREAM = Path(__file__).resolve().parent.parent / "upstream"

pytestmark = pytest.mark.skipif(not UPSTREAM.is_dir(), reason="tests run apart from the checkout")
for_its_captum = pytest.mark.skipif(
    importlib.metadata.version("captum") != "0.9.0", reason="the changes are made for captum 0.9.0"
)


@pytest.fixture
def check() -> ModuleType:
    """``upstream/check.py`` as a module."""
    spec = importlib.util.spec_from_file_location("upstream_check", UPSTREAM / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = """import torch

class A:
    def f(self, x):
        return x

    def f(self, x, y):
        return x

class B:
    def f(self):
        pass
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("after import torch", 2),
        ("before import torch", 1),
        ("in A.f | after return", 9),
        ("in B.f | before pass", 12),
        ("from class A | after return x", 6),
        ("from def f(self, x, y) | from class B | after def f", 12),
        ("end", 13),
    ],
)
def test_lines_go_where_they_belong(check: ModuleType, tmp_path: Path, place: str, line: int) -> None:
    target, source = tmp_path / "a.py", tmp_path / "a.py.add"
    target.write_text(SOURCE)
    source.write_text(f"@@ {place}\n# ours\n# also\n")
    expected = SOURCE.splitlines()
    expected[line - 1 : line - 1] = ["# ours", "# also"]
    assert check.added(source, target).splitlines() == expected


def test_each_of_a_name_and_replacing(check: ModuleType, tmp_path: Path) -> None:
    target, source = tmp_path / "a.py", tmp_path / "a.py.add"
    target.write_text(SOURCE)
    source.write_text("@@ each A.f | after return\n# ours\n\n@@ replace import\nimport os\n")
    assert check.added(source, target) == SOURCE.replace("return x\n", "return x\n# ours\n").replace(
        "import torch", "import os"
    )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("after import numpy", "0 lines begin with 'import numpy'"),
        ("after return", "2 lines begin with 'return'"),
        ("in A.g | after return", "there is no A.g"),
        ("in B.f | after return", "0 lines begin with 'return'"),
        ("from class B | after return", "0 lines begin with 'return'"),
        ("somewhere", "a place is"),
    ],
)
def test_a_missing_place_is_named(check: ModuleType, tmp_path: Path, place: str, message: str) -> None:
    target, source = tmp_path / "a.py", tmp_path / "a.py.add"
    target.write_text(SOURCE)
    source.write_text(f"@@ {place}\n# ours\n")
    with pytest.raises(check.ChangeError, match=message) as error:
        check.added(source, target)
    assert str(source) in str(error.value)
    assert str(target) in str(error.value)


def test_every_change_has_a_text_and_tests_or_pages(check: ModuleType) -> None:
    assert [change.name[0] for change in check.CHANGES] == ["1", "2", "3", "4"]
    for change in check.CHANGES:
        assert (change / "pull_request.md").read_text(encoding="utf-8").startswith("# ")
        assert [*change.glob("tests/attr/test_*.py"), *change.glob("docs/*.add")]


@for_its_captum
def test_the_page_counts_the_lines_that_a_reviewer_reads(check: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "captum"
    shutil.copytree(Path(captum.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    page = (UPSTREAM.parent / "docs" / "upstream.md").read_text(encoding="utf-8")
    for change in check.CHANGES[:3]:
        before = {path: path.read_text(encoding="utf-8").splitlines() for path in root.rglob("*.py")}
        made = [path for path in check.apply(change, tmp_path) if path.suffix == ".py" and root in path.parents]
        added = [
            line
            for path in made
            for line in difflib.unified_diff(before.get(path, []), path.read_text(encoding="utf-8").splitlines(), n=0)
            if line.startswith("+") and not line.startswith("+++")
        ]
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{change.name}` |")]
        assert row.endswith(f" {len(added)} |"), f"{change.name} adds {len(added)} lines"


def test_the_proposal_tells_what_was_measured() -> None:
    results = UPSTREAM.parent / "docs" / "results"
    networks = json.loads((results / "architectures.json").read_text(encoding="utf-8"))["networks"]
    found = [n["realistic"] for n in networks if n["source"] == "torchvision" and not n["refused"]]
    assert all(of["default"]["outcome"] == "conserves" for of in found)
    plain, by_hand = ([of[kind]["outcome"] for of in found if kind in of] for kind in ("captum_default", "captum"))
    assert "conserves" not in plain
    speed = (results / "speed-cpu.md").read_text(encoding="utf-8")
    vgg = speed.partition("### vgg16, batch 1\n")[2].partition("###")[0].splitlines()
    rows = {
        cells[1].strip(): [c.strip() for c in cells[2:]] for cells in (line.split("|") for line in vgg) if cells[1:]
    }
    told = " ".join((UPSTREAM / "5-operations" / "proposal.md").read_text(encoding="utf-8").split())
    for sentence in (
        f"of {len(plain)} networks of torchvision",
        f"It refuses {plain.count('refuses')} and returns a map for {plain.count('runs')}",
        f"it conserves relevance on {by_hand.count('conserves')} and refuses {by_hand.count('refuses')}.",
        f"within 1 % on all {len(found)} classifiers of torchvision (Captum's `LRP`, on {len(plain)} of them",
        *(
            f"| {said} | {rows[name][0]} | {rows[name][2]} | {rows[name][6]} |"
            for said, name in (
                ("`Saliency`", "Captum Saliency"),
                ("Captum `LRP`", "Captum LRP, LRP"),
                ("recorded pass, LRP", "captum_clrp, LRP"),
                ("CLRP1 by two calls of Captum's `LRP`", "Captum LRP, CLRP1"),
                ("recorded pass, CLRP1", "captum_clrp, CLRP1"),
            )
        ),
    ):
        assert sentence in told, f"say: {sentence}"


@pytest.mark.slow
@for_its_captum
def test_a_change_that_fails_is_an_exit_status(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(UPSTREAM / "1-rules", tmp_path / "1-rules")
    rules = tmp_path / "1-rules" / "captum" / "attr" / "_utils" / "lrp_rules.py.add"
    text = rules.read_text(encoding="utf-8")
    broken = text.replace("input.clamp(min=0), input.clamp(max=0)", "input.clamp(min=0), input.clamp(min=0)")
    assert broken != text
    rules.write_text(broken, encoding="utf-8")
    monkeypatch.setattr(check, "CHANGES", [tmp_path / "1-rules"])
    monkeypatch.setattr(check.Checks, "types", lambda *_: None)
    monkeypatch.setattr(check.Checks, "style", lambda *_: None)
    assert "tests" in check.check()


@pytest.mark.slow
@for_its_captum
def test_all_changes_pass_on_a_copy_of_captum() -> None:
    done = subprocess.run([sys.executable, str(UPSTREAM / "check.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All passed\n")
