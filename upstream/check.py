"""Apply the changes for Captum to a copy of the installed Captum, one by one, and test, lint and type-check each.

    pip install ".[upstream]"
    python upstream/check.py                        # all of it; the exit status is not 0 if anything fails
    python upstream/check.py --captum ../captum     # with a clone of Captum as well: its own tests and pages
    python upstream/check.py --apply ../captum 3    # write changes 1 to 3 into that clone, to look at `git diff`

A change is a folder. What ends in ``.add`` holds lines to insert into a file of Captum: below ``@@`` and a place come lines
of ours, up to the next ``@@``. Every other file of a change is new. Places are::

    @@ end                                  at the end of the file
    @@ after TEXT                           below the only line that begins with TEXT; ``before`` and ``replace`` likewise
    @@ from TEXT | after TEXT               below the next line that begins with the second text; ``from`` may be repeated
    @@ in NAME | after TEXT                 within a class, function or method (the last one of that name)
    @@ each NAME | after TEXT               within each of that name: overloads and what they stand for

A place that is not there, or not the only one, is an error that names it.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHANGES = sorted(folder for folder in HERE.glob("[0-9]-*") if (folder / "pull_request.md").exists())
VERSION = "0.9.0"
ADDITION = ".add"
OURS_ALONE = {"pull_request.md"}  # what describes a change and is no part of it


class ChangeError(Exception):
    """A change that does not fit the file it is made for."""


# -- applying ---------------------------------------------------------------------------------------------------


def apply(change: Path, root: Path) -> list[Path]:
    """Make one change in a copy of Captum; in all of its files or, if it does not fit, in none.

    Args:
        change: Folder of the change.
        root: Folder that holds ``captum/`` and, in a clone, the rest. Additions to files that are not there, because a
            wheel does not hold them, are left out.

    Returns:
        The files that were changed or made.

    Raises:
        ChangeError: if a place is missing in a file, or there is more than one.
    """
    texts = {}
    for source in sorted(path for path in change.rglob("*") if path.is_file() and path.name not in OURS_ALONE):
        target = root / source.relative_to(change)
        if source.suffix == ADDITION:
            target = target.with_suffix("")
            if target.exists() or target.relative_to(root).parts[0] == "captum":
                texts[target] = added(source, target)
        elif "__pycache__" not in source.parts:
            texts[target] = source.read_text(encoding="utf-8")
    for target, text in texts.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return list(texts)


def added(source: Path, target: Path) -> str:
    """The text of ``target`` with the lines of ``source``."""
    if not target.exists():
        raise ChangeError(f"{source}: there is no {target}")
    lines = target.read_text(encoding="utf-8").splitlines()
    present, ours_by_place = "\n".join(lines), list(blocks(source.read_text(encoding="utf-8")))
    for place, ours in ours_by_place:
        if len(ours) > 3 and "\n".join(ours) in present:
            raise ChangeError(f"{source}: @@ {place}: the lines are there already, in {target}")
    for place, ours in ours_by_place:
        try:
            for start, end in reversed(places(place, lines)):
                lines[start:end] = ours
        except ChangeError as error:
            raise ChangeError(f"{source}: @@ {place}: {error} in {target}") from None
    return "\n".join(lines) + "\n"


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Places and the lines that belong there; an empty line right before the next place is not one of them."""
    head, *pairs = re.split(r"^@@ (.*)\n", text, flags=re.MULTILINE)
    if head or not pairs:
        raise ChangeError("additions begin with '@@ ' and a place")
    for place, ours in zip(pairs[::2], pairs[1::2], strict=True):
        yield place.strip(), ours.removesuffix("\n").removesuffix("\n").split("\n")


def places(place: str, lines: list[str]) -> list[tuple[int, int]]:
    """Slices of ``lines`` that a place stands for, to be replaced by our lines."""
    if place == "end":
        return [(len(lines), len(lines))]
    scope, _, step = place.rpartition(" | ")
    how, _, text = step.partition(" ")
    shift = {"before": (0, 0), "after": (1, 1), "replace": (0, 1)}.get(how)
    if shift is None or not text:
        raise ChangeError("a place is 'end', or 'after', 'before' or 'replace' and the beginning of a line")
    kind, _, name = scope.partition(" ")
    if kind == "from":
        first, *further = name.split(" | from ")
        start = beginning(first, lines, 0, len(lines))[0]
        for next_one in [*further, text]:
            start = beginning(next_one, lines, start + 1, len(lines), several=True)[0]
        found = [start]
    else:
        found = [one for first, last in scopes(kind, name, lines) for one in beginning(text, lines, first, last)]
    return [(line + shift[0], line + shift[1]) for line in found]


def beginning(text: str, lines: list[str], first: int, last: int, *, several: bool = False) -> list[int]:
    """Numbers of the lines that begin with ``text``; exactly one, unless ``several`` may be."""
    found = [number for number in range(first, last) if lines[number].lstrip().startswith(text)]
    if not found or (len(found) > 1 and not several):
        raise ChangeError(f"{len(found)} lines begin with {text!r}; one is expected")
    return found


def scopes(kind: str, name: str, lines: list[str]) -> list[tuple[int, int]]:
    """First and last line of what has this name; the whole file without a name."""
    if not kind:
        return [(0, len(lines))]
    found = [(node.lineno - 1, node.end_lineno or 0) for node in named(ast.parse("\n".join(lines)), name.split("."))]
    if not found:
        raise ChangeError(f"there is no {name}")
    return found if kind == "each" else found[-1:]


def named(node: ast.AST, parts: list[str]) -> list[ast.ClassDef | ast.FunctionDef]:
    """Classes and functions below ``node`` by their qualified name."""
    children = [
        child
        for child in ast.iter_child_nodes(node)
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and child.name == parts[0]
    ]
    return children if len(parts) == 1 else [one for child in children for one in named(child, parts[1:])]


# -- checking ---------------------------------------------------------------------------------------------------


class Checks:
    """A copy of the installed Captum, and what is run there.

    Args:
        root: An empty folder.
        clone: A clone of Captum, for its tests and pages.
    """

    def __init__(self, root: Path, clone: Path | None = None) -> None:
        self.root = root
        self.failed: list[str] = []
        package = importlib.metadata.distribution("captum").locate_file("captum")
        shutil.copytree(str(package), root / "captum", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tests", "docs", "sphinx", "website") if clone else ():
            shutil.copytree(clone / name, root / name, ignore=shutil.ignore_patterns("presentations"))
        # What Captum's own settings of these tools amount to.
        (root / "pyproject.toml").write_text(
            "[tool.usort]\nfirst_party_detection = false\n[tool.black]\ntarget-version = ['py39']\n"
        )

    def run(self, what: str, *command: str | Path) -> str:
        """Run Python with these arguments in the copy. A failure is shown and remembered.

        Returns:
            What was printed.
        """
        started = time.monotonic()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.root), os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # the networks are small
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLBACKEND": "Agg",
        }
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=self.root, env=environment, text=True, capture_output=True
        )
        printed = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["done"]
        print(f"  {what}: {printed[-1] if done.returncode == 0 else 'FAILED'} ({time.monotonic() - started:.0f} s)")
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n")
            self.failed.append(what)
        return done.stdout

    def test(self, what: str, *paths: str | Path) -> None:
        """Run tests."""
        self.run(
            what, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", "-Wignore", *paths
        )

    def style(self, files: list[Path]) -> None:
        """Captum's formatter and linter on what a change touches."""
        sources = [path for path in files if path.suffix == ".py"]
        if sources:
            self.run("ufmt", "-m", "ufmt", "check", *sources)
            self.run("flake8", "-m", "flake8", "--max-line-length=88", "--ignore=E203,W503,E704", *sources)

    def types(self, files: list[Path]) -> None:
        """Captum's type checker on what the changes touch."""
        sources = [path for path in files if path.suffix == ".py"]
        options = ["--ignore-missing-imports", "--allow-redefinition", "--follow-imports=silent", "--config-file="]
        self.run("mypy", "-m", "mypy", *options, f"--cache-dir={self.root / '.mypy'}", *sources)

    def notebook(self, path: Path) -> None:
        """Run the code of a notebook from top to bottom."""
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        script = self.root / f"{path.stem}.py"
        script.write_text("\n\n".join(code) + "\n", encoding="utf-8")
        self.run(path.name, script)

    def unchanged(self, before: str) -> None:
        """Captum's own maps are the same, bit by bit, as before."""
        after = self.run("maps", HERE / "checks" / "maps.py")
        pairs = zip_longest(after.splitlines(), before.splitlines(), fillvalue="")
        differ = [(new or old).split()[0] for new, old in pairs if new != old]
        if differ or not after:
            print(f"  maps that changed: {', '.join(differ)}")
            self.failed.append("maps")


def check(clone: Path | None = None) -> list[str]:
    """Apply all changes to a copy, one by one, and check each.

    Args:
        clone: A clone of Captum. With it, the pages are changed too, and Captum's own tests of LRP run in the end.

    Returns:
        What failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(Path(folder), clone)
        print("Captum as it is installed")
        before = checks.run("maps", HERE / "checks" / "maps.py")
        touched: list[Path] = []
        for change in CHANGES:
            print(change.name, flush=True)
            files = apply(change, checks.root)
            touched += [path for path in files if path not in touched]
            checks.style(files)
            tests = [path for path in files if path.name.startswith("test_") and path.parent.name == "attr"]
            if tests:
                checks.test("tests", *tests)
            for path in files:
                if path.suffix == ".ipynb":
                    checks.notebook(path)
                elif path.suffix == ".json":
                    json.loads(path.read_text(encoding="utf-8"))
            if any(checks.root / "captum" in path.parents for path in files):
                checks.unchanged(before)
        print("All changes", flush=True)
        checks.test("Captum's cases, and the numbers of captum_clrp", HERE / "checks")
        checks.types(touched)
        if clone:
            names = ["test_lrp.py", "layer/test_layer_lrp.py", "test_hook_removal.py", "test_targets.py"]
            checks.test("Captum's own tests", *(checks.root / "tests" / "attr" / name for name in names))
        return checks.failed


def main() -> int:
    """The command; returns its exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [options]"
    )
    parser.add_argument("--captum", type=Path, metavar="CLONE", help="a clone of Captum, whose tests are run as well")
    parser.add_argument("--apply", nargs=2, metavar=("CLONE", "N"), help="write changes 1 to N into a clone, and stop")
    options = parser.parse_args()
    installed = importlib.metadata.version("captum")
    clone = Path(options.apply[0]) if options.apply else options.captum
    if clone and not (clone / "tests" / "attr").is_dir():
        print(f"{clone} is no clone of Captum: it has no folder tests/attr", file=sys.stderr)
        return 2
    if options.apply:
        try:
            for change in CHANGES[: int(options.apply[1])]:
                print(*apply(change, clone.resolve()), sep="\n")
        except ChangeError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    if installed != VERSION:
        print(f"the changes are made for captum {VERSION}; {installed} is installed", file=sys.stderr)
        return 2
    failed = check(clone.resolve() if clone else None)
    print(f"failed: {', '.join(failed)}" if failed else "All passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
