"""Change one operator, constant or condition of the package's core and see whether a test notices.

    python tools/mutants.py --count 40 --seed 1 --processes 4

draws a seeded random sample of all such changes, runs the core's tests against a copy of the checkout with each one, lists
those that lived and says how many were noticed. A mutant that lives is a place where no test would see a mistake, or a
change that makes no difference (the size of a cache, a shortcut that only saves time): look at each.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CORE = ["attribution", "layer", "neuron", "explanation", "targets", "contrast", "rules", "composites", "bounds"]
# Tests of what stands around the core take long and see it only from far.
LEFT_OUT = [
    "app",
    "benchmarks",
    "classifiers",
    "cli",
    "evaluation",
    "visualization",
    "test_docs.py",
    "test_docstrings.py",
]
LEFT_OUT += ["test_packaging.py", "test_tutorials.py", "test_photographs.py", "test_structure.py", "test_citation.py"]

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


class Mutant(NamedTuple):
    """One change: which file, where, what it says there, and the file's text with it."""

    file: Path
    line: int
    change: str
    text: str


def main() -> int:
    """Draw the sample, run the tests, print what lived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="how many changes to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="how many at a time (default: %(default)s)")
    args = parser.parse_args()
    files = [path for name in CORE if (path := ROOT / "captum_clrp" / f"{name}.py").exists()]
    files += sorted((ROOT / "captum_clrp" / "engine").rglob("*.py"))
    everything = [(file, k) for file in files for k, _ in enumerate(places(ast.parse(file.read_text("utf-8"))))]
    drawn = random.Random(args.seed).sample(everything, min(args.count, len(everything)))
    sample = [mutant(file, number) for file, number in drawn]
    print(f"{len(sample)} of {len(everything)} changes of {checkout()}, seed {args.seed}", flush=True)
    lived = 0
    with ThreadPoolExecutor(args.processes) as pool:
        for one, lives in zip(sample, pool.map(survives, sample), strict=True):
            lived += lives
            where = f"{one.file.relative_to(ROOT)}:{one.line}"
            print(f"{'LIVED  ' if lives else 'noticed'}  {where}: {one.change}", flush=True)
    print(f"{len(sample) - lived} of {len(sample)} noticed")
    return 0


def checkout() -> str:
    """Version and commit of what is changed, so that a rate can be stated with them."""
    version = ast.literal_eval(
        (ROOT / "captum_clrp" / "__init__.py").read_text("utf-8").split("__version__ = ")[1].split("\n")[0]
    )
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%h of %cs"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return f"captum_clrp {version}" + (f" at {commit}" if commit else "")


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """What can be changed, in the order of the text; annotations and texts are left alone."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                if _changeable(child):
                    yield child
                yield from places(child)


def _changeable(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return type(node.ops[0]) in SWAPS
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
        return type(node.op) in SWAPS
    if isinstance(node, (ast.If, ast.IfExp)):  # other conditions are changed where they stand
        return isinstance(node.test, (ast.Name, ast.Attribute, ast.Call))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    return isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float))


def mutant(file: Path, number: int) -> Mutant:
    """The file's change of that number."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    node: Any = next(itertools.islice(places(tree), number, None))
    shown = "test" if isinstance(node, (ast.If, ast.IfExp)) else None
    before = ast.unparse(getattr(node, shown) if shown else node)
    if isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, (ast.If, ast.IfExp)):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.UnaryOp):
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    else:
        node.op = SWAPS[type(node.op)]()
    after = ast.unparse(getattr(node, shown) if shown else node)
    where = f"  in  {text.splitlines()[node.lineno - 1].strip()}" if isinstance(node, ast.Constant) else ""
    return Mutant(file, node.lineno, f"{_short(before)}  ->  {_short(after)}{where}", ast.unparse(tree))


def _short(text: str, length: int = 70) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def survives(one: Mutant) -> bool:
    """Whether the core's tests pass in a copy of the checkout with the change."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("captum_clrp", "tests", "docs", "README.md", "setup.cfg"):
            source, goal = ROOT / part, Path(folder, part)
            if source.is_dir():
                shutil.copytree(source, goal, ignore=shutil.ignore_patterns("__pycache__", "_build"))
            else:
                shutil.copy(source, goal)
        Path(folder, one.file.relative_to(ROOT)).write_text(one.text, encoding="utf-8")
        ignored = [f"--ignore=tests/{name}" for name in LEFT_OUT]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *ignored, "tests"]
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=1800)
        except subprocess.TimeoutExpired:  # it goes round in circles: noticed
            return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
