"""Lay our classes, tests and docs out against the installed Captum, as a change to it, and check that it holds there.

Captum's package is copied to a folder; our files go where Captum keeps such files, under Captum's names, with its
headers and import paths, in its style. Then Captum's own checks run there (ufmt, flake8 at 88 columns, mypy) and our
tests of the core, with ``captum_clrp`` out of reach:

    pip install ".[test,upstream]"
    python tools/upstream.py --output /tmp/captum-with-clrp

``--list`` prints which file goes where, as a Markdown table, and does nothing else.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from reflow import excuse, reflow

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, TESTS, TUTORIALS = ROOT / "captum_clrp", ROOT / "tests", ROOT / "tutorials"

MODULES = {
    "attribution": "captum.attr._core.contrastive_lrp",
    "layer": "captum.attr._core.layer.layer_contrastive_lrp",
    "neuron": "captum.attr._core.neuron.neuron_contrastive_lrp",
    "rules": "captum.attr._utils.lrp_relevance_rules",
    "_propagation": "captum.attr._utils.lrp_propagation",
}
"""Where modules of the core go; all others become ``captum.attr._utils.lrp_<name>``."""

PACKAGES = ("handlers",)
"""Packages of the core; ``cli`` and ``evaluation`` are none."""

STAY = {"__init__", "__main__", "_captum", "taylor"}
"""What stays with us: the entry points, the gate to Captum's private names, and the derivation that only docs need."""

TESTS_STAY = {
    "test_docs": "is about these docs",
    "test_docstrings": "is about these docs",
    "test_packaging": "is about this package",
    "test_tutorials": "is about these tutorials",
    "test_upstream": "tests this script",
    "pages": "is about these docs",
}

TUTORIAL = ("1_first_explanation.ipynb", "Contrastive_LRP_First_Explanation.ipynb")

PYPROJECT = """\
# The parts of Captum's own configuration that style and tests depend on.
[tool.usort]
first_party_detection = false

[tool.black]
target-version = ["py310"]

[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = ["--import-mode=importlib", "--strict-markers"]
markers = ["slow: takes more than ten seconds"]
"""
FLAKE8 = "[flake8]\nignore = E203, W503, E704\nmax-line-length = 88\n"

GUARD = """\
import sys
from pathlib import Path

import captum

sys.modules["captum_clrp"] = None  # whoever imports it now fails
assert Path(captum.__file__).is_relative_to({output!r}), f"tests would run on {{captum.__file__}}"
"""


# -- what goes where --------------------------------------------------------------------------------------------


def core_modules() -> dict[str, str]:
    """From our modules and packages of the core to Captum's, both as dotted names."""
    names = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in STAY)
    for package in PACKAGES:
        names += [package, *(f"{package}.{p.stem}" for p in parts_of(package))]
    return {f"captum_clrp.{n}": MODULES.get(n, f"captum.attr._utils.lrp_{n.strip('_')}") for n in names}


def parts_of(package: str) -> list[Path]:
    """The modules of a package of the core."""
    return sorted(p for p in (PACKAGE / package).glob("*.py") if p.stem != "__init__")


def file_of(root: Path, module: str, *, is_package: bool) -> Path:
    """Where a module or package lies below ``root``."""
    place = root.joinpath(*module.split("."))
    return place / "__init__.py" if is_package else place.with_name(f"{place.name}.py")


def helper_modules() -> dict[str, str]:
    """From what our tests share (modules in ``tests/`` that need the core alone) to where it goes."""
    shared = [path for path in sorted(TESTS.glob("*.py")) if not path.stem.startswith(("test_", "conftest"))]
    shared = [path for path in shared if path.stem not in TESTS_STAY]
    return {path.stem: f"tests.helpers.lrp_{path.stem}" for path in shared if not outside_core(path)}


def outside_core(path: Path) -> list[str]:
    """What a file imports of ours beyond the core."""
    known = {*core_modules(), "captum_clrp", "captum_clrp._captum"}
    shared = {path.stem for path in TESTS.glob("*.py")}
    outside = {name for name in imported(path) if name.startswith(("captum_clrp.", "benchmarks")) and name not in known}
    for name in imported(path) & shared:
        outside |= {f"tests/{name}.py"} if outside_core(TESTS / f"{name}.py") or name in TESTS_STAY else set()
    return sorted(outside)


def core_tests() -> tuple[dict[Path, str], dict[Path, str]]:
    """Test files that go along, with their place, and those that stay, with the reason."""
    modules, go, stay = core_modules(), {}, {}
    for path in sorted(TESTS.glob("test_*.py")):
        outside = outside_core(path)
        subject = modules.get(f"captum_clrp.{path.stem.removeprefix('test_')}")
        if path.stem in TESTS_STAY:
            stay[path] = TESTS_STAY[path.stem]
        elif outside:
            stay[path] = f"needs {', '.join(outside)}"
        elif subject is None:
            go[path] = f"tests/attr/test_lrp_{path.stem.removeprefix('test_')}.py"
        else:
            folder, _, name = subject.removeprefix("captum.attr.").rpartition(".")
            folder = folder.removeprefix("_core").removeprefix("_utils").strip(".")
            go[path] = "/".join(part for part in ("tests/attr", folder, f"test_{name}.py") if part)
    return go, stay


def imported(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too; ``from a import b`` counts as ``a.b`` if that is one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                found.add(f"{node.module}.{alias.name}" if is_module(node.module, alias.name) else node.module)
    return found


def is_module(package: str, name: str) -> bool:
    """Whether ``package`` of this repository holds a module or package ``name``."""
    place = ROOT.joinpath(*package.split("."))
    return (place / f"{name}.py").exists() or (place / name / "__init__.py").exists()


# -- from our names to Captum's ---------------------------------------------------------------------------------


def captum_names() -> dict[str, str]:
    """From each name that ``_captum.py`` hands on to the import that Captum itself would write."""
    names = {}
    for node in ast.parse((PACKAGE / "_captum.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                renamed = f" as {alias.asname}" if alias.asname else ""
                names[alias.asname or alias.name] = f"from {node.module} import {alias.name}{renamed}"
    return names


def public_names() -> dict[str, str]:
    """From our public names to Captum's module that will hold them."""
    modules, names = core_modules(), {}
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            names.update({alias.name: modules[node.module] for alias in node.names})
    return names


def translated(source: str) -> str:
    """A file with Captum's import paths in code, docstrings and messages."""
    lines = source.splitlines()
    for node in sorted(ast.walk(ast.parse(source)), key=lambda n: -getattr(n, "lineno", 0)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            replacement = list(_imports(node))
            if replacement:
                indent = " " * node.col_offset
                lines[node.lineno - 1 : node.end_lineno] = [indent + line for line in replacement]
    text = "\n".join(lines) + "\n"
    text = re.sub(r"[ ]*# fmt: (skip|off|on)\b", "", text)
    for ours, theirs in sorted(core_modules().items(), reverse=True):
        text = re.sub(rf"\b{re.escape(ours)}\b", theirs, text)
    text = re.sub(r"\bcaptum_clrp\._captum\b", "captum.attr", text)
    return re.sub(r"\bcaptum_clrp\b", "captum.attr", text)


def _imports(node: ast.ImportFrom | ast.Import) -> Iterator[str]:
    """What an import of ours becomes, where renaming the module alone will not do."""
    helpers, modules = helper_modules(), core_modules()
    if isinstance(node, ast.Import):
        if len(node.names) == 1 and node.names[0].name in helpers:
            yield f"from tests.helpers import lrp_{node.names[0].name} as {node.names[0].asname or node.names[0].name}"
        return
    if node.module == "captum_clrp._captum":
        direct = captum_names()
        for alias in node.names:
            statement = direct[alias.name]
            yield (f"{statement.partition(' as ')[0]} as {alias.asname}" if alias.asname else statement)
    elif node.module == "captum_clrp":
        for alias in node.names:
            module = modules.get(f"captum_clrp.{alias.name}")
            name = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            if module is None:
                yield f"from captum.attr import {name}"
            else:
                package, _, theirs = module.rpartition(".")
                yield f"from {package} import {theirs} as {alias.asname or alias.name}"
    elif node.module in helpers:
        for alias in node.names:
            renamed = f" as {alias.asname}" if alias.asname else ""
            yield f"from {helpers[node.module]} import {alias.name}{renamed}"


def without_outside_fixtures(source: str) -> str:
    """A ``conftest.py`` whose fixtures skip where they need more than the core."""
    lines = source.splitlines()
    for function in reversed([n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]):
        body = "\n".join(lines[function.lineno - 1 : function.end_lineno])
        outside = re.search(r"captum_clrp\.(cli|evaluation)", body)
        if outside:
            skip = f'    pytest.skip("needs {outside.group()}, which is no part of Captum")'
            lines[function.lineno - 1 : function.end_lineno] = [f"def {function.name}() -> None:", skip]
    return "\n".join(lines) + "\n"


# -- laying out -------------------------------------------------------------------------------------------------


def lay_out(output: Path) -> list[Path]:
    """Write the whole tree; returns the Python files that we add or change."""
    import captum

    installed = Path(captum.__file__).parent
    shutil.copytree(installed, output / "captum", ignore=shutil.ignore_patterns("__pycache__"))
    (output / "pyproject.toml").write_text(PYPROJECT)
    (output / ".flake8").write_text(FLAKE8)

    written = []
    for ours, theirs in core_modules().items():
        is_package = ours.rpartition(".")[2] in PACKAGES
        source = file_of(ROOT, ours, is_package=is_package).read_text()
        place = file_of(output, theirs, is_package=is_package)
        written.append(write(place, translated(source), strict=True))
    for name, place in helper_modules().items():
        helper = translated((TESTS / f"{name}.py").read_text())
        written.append(write(output / f"{place.replace('.', '/')}.py", helper))
    for source, place in core_tests()[0].items():
        written.append(write(output / place, translated(source.read_text())))
    conftest = without_outside_fixtures((TESTS / "conftest.py").read_text())
    written.append(write(output / "tests" / "conftest.py", translated(conftest)))
    for folder in sorted({path.parent for path in written if "tests" in path.relative_to(output).parts}):
        (folder / "__init__.py").touch()
    (output / "tests" / "__init__.py").touch()
    written.append(export(output / "captum" / "attr" / "__init__.py"))
    write_docs(output)
    return written


def write(path: Path, source: str, *, strict: bool = False) -> Path:
    """Write a file below Captum's header; ``strict`` where every function is annotated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"#!/usr/bin/env python3\n\n# pyre-{'strict' if strict else 'unsafe'}\n\n"
    path.write_text(header + source)
    return path


def export(init: Path) -> Path:
    """Add our public names to ``captum/attr/__init__.py``."""
    source, names = init.read_text(), public_names()
    imports = "".join(f"from {module} import {name}\n" for name, module in names.items())
    first = re.search(r"^from captum\.attr\._core\.lrp import LRP$", source, re.MULTILINE)
    if first is None:
        raise SystemExit(f"{init} of Captum does not import LRP; bring tools/upstream.py up to date")
    source = source[: first.end() + 1] + imports + source[first.end() + 1 :]
    closing = source.rindex("]")
    listed = "".join(f'    "{name}",\n' for name in names)
    init.write_text(source[:closing] + listed + source[closing:])
    return init


def write_docs(output: Path) -> None:
    """A Sphinx page of the classes, a paragraph for the list of algorithms, and the first tutorial."""
    names = public_names()
    in_core = [n for n, m in names.items() if "._core." in m]
    rst = "Contrastive LRP\n===============\n\n"
    rst += "".join(f".. autoclass:: captum.attr.{name}\n    :members:\n\n" for name in sorted(in_core))
    (output / "sphinx" / "source").mkdir(parents=True)
    (output / "sphinx" / "source" / "contrastive_lrp.rst").write_text(rst)
    (output / "docs").mkdir()
    (output / "docs" / "algorithms_contrastive_lrp.md").write_text(ALGORITHM)
    notebook, name = TUTORIAL
    if (TUTORIALS / notebook).exists():
        (output / "tutorials").mkdir()
        text = (TUTORIALS / notebook).read_text()
        (output / "tutorials" / name).write_text(re.sub(r"\bcaptum_clrp\b", "captum.attr", text))


ALGORITHM = """\
### Contrastive Layer-wise Relevance Propagation
LRP redistributes the score of a class to the inputs, layer by layer. ReLU masks and pooling switches decide most of
where it can go, so maps of different classes look alike. Contrastive LRP subtracts the relevance of a dual concept with
the same score: all other classes (`ContrastiveLRP1`) or the class with negated output weights (`ContrastiveLRP2`).
Because relevance is linear, this takes one backward pass.

To learn more about contrastive LRP, visit the following resources:
- [Original paper](https://arxiv.org/abs/1812.02100)
"""


# -- style and checks -------------------------------------------------------------------------------------------


def restyle(files: list[Path]) -> None:
    """Captum's style: long strings, docstrings and comments broken at 88 columns, then ufmt."""
    preview = ("--line-length=88", "--preview", "--enable-unstable-feature=string_processing")
    steps: list[tuple[str, ...] | Callable[[str], str]] = [
        ("black", "--quiet", *preview),
        reflow,
        ("ufmt", "--quiet", "format"),
        excuse,
        ("ufmt", "--quiet", "format"),
    ]
    for one in steps:
        if not isinstance(one, tuple):
            for path in files:
                path.write_text(one(path.read_text()))
        elif not tool(*one, *files):
            raise SystemExit(f"{one[0]} cannot format the files; install the extra: pip install '.[upstream]'")


def tool(name: str, *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> bool:
    """Run a tool of this environment; whether it was content."""
    return subprocess.run([sys.executable, "-m", name, *map(str, arguments)], cwd=cwd, env=env).returncode == 0


def check(output: Path, files: list[Path], pytest_arguments: list[str]) -> list[str]:
    """Captum's checks on our files, then our tests on the copied Captum; returns what failed."""
    relative = [path.relative_to(output) for path in files]
    core = [path for path in relative if path.parts[0] == "captum"]
    mypy = ("--ignore-missing-imports", "--allow-redefinition", "--follow-imports=silent")
    left = [path for path in relative if re.search(r"\bcaptum_clrp\b", (output / path).read_text())]
    for path in left:
        step(f"captum_clrp is still named in {path}")
    failed = ["names"] if left else []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "only_captum.py").write_text(GUARD.format(output=str(output)))
        env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(output), folder)), "PYTHONDONTWRITEBYTECODE": "1"}
        env.pop("PYTEST_ADDOPTS", None)
        pytest = ("-q", "-p", "only_captum", "-p", "no:cacheprovider", *pytest_arguments)
        commands: list[tuple[str, tuple[str | Path, ...]]] = [
            ("ufmt", ("check", *relative)),
            ("flake8", tuple(relative)),
            ("mypy", (*mypy, *core)),
            ("pytest", pytest),
        ]
        for name, arguments in commands:
            step(name)
            if not tool(name, *arguments, cwd=output, env=env):
                failed.append(name)
    return failed


def step(text: str) -> None:
    """Say what happens now."""
    sys.stdout.write(f"-- {text}\n")
    sys.stdout.flush()


def table() -> str:
    """Which file goes where, in Markdown."""
    rows = [
        tuple(
            file_of(Path(), module, is_package=ours.rpartition(".")[2] in PACKAGES).as_posix()
            for module in (ours, theirs)
        )
        for ours, theirs in core_modules().items()
    ]
    rows += [(f"tests/{n}.py", f"{place.replace('.', '/')}.py") for n, place in helper_modules().items()]
    go, stay = core_tests()
    rows += [(f"tests/{path.name}", place) for path, place in go.items()]
    rows += [(f"tests/{path.name}", f"stays: {reason}") for path, reason in stay.items()]
    return "\n".join(["| here | in Captum |", "|---|---|", *(f"| `{a}` | {b} |" for a, b in rows)])


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--output", type=Path, help="folder to write, new or empty")
    parser.add_argument("--list", action="store_true", help="print which file goes where, and stop")
    parser.add_argument("--tests", nargs="*", default=["-m", "not slow"], help="arguments of pytest there")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.tests = [*options.tests, *unknown]
    if options.list:
        sys.stdout.write(table() + "\n")
        return
    if options.output is None:
        parser.error("give --output FOLDER, or --list")
    output: Path = options.output.resolve()
    if output.exists() and any(output.iterdir()):
        parser.error(f"{output} is not empty; give a new folder")
    output.mkdir(parents=True, exist_ok=True)
    step(f"laying out in {output}")
    files = lay_out(output)
    restyle(files)
    failed = check(output, files, options.tests)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; the files are in {output}")
    step(f"green: {len(files)} files in {output}")


if __name__ == "__main__":
    main()
