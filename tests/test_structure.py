"""The shape of the package: imports go downwards only, and the contributors' guide names files that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import torch

import captum_clrp

PACKAGE = Path(captum_clrp.__file__).parent
ROOT = Path(__file__).resolve().parents[1]

# From top to bottom. A file imports from its own floor or from one below; no files of a floor form a circle.
FLOORS = [
    ["__main__", "cli", "app"],
    ["evaluation"],
    ["classifiers", "geometry", "images", "visualization"],
    ["__init__"],
    ["methods", "inspection", "neuron", "layer", "attribution"],
    ["explanation", "targets", "contrast", "theory"],
    ["engine", "composites", "rules", "bounds"],
    ["errors", "files", "tables"],
]


def files() -> dict[str, Path]:
    """Files of the package by module name: ``captum_clrp.engine.trace``; a package by its own."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = files()


def imported(module: str) -> set[str]:
    """Files of the package that ``module`` imports anywhere, inside functions too; for types alone does not count."""

    def names(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{module} imports relatively; imports in the package are absolute"
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    yield whole if whole in FILES else str(child.module)
            yield from names(child)

    return {name for name in names(ast.parse(FILES[module].read_text(encoding="utf-8"))) if name in FILES} - {module}


IMPORTS = {module: imported(module) for module in FILES}


def floor(module: str) -> int:
    room = module.partition(".")[2].partition(".")[0] or "__init__"
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def test_every_file_stands_on_a_floor() -> None:
    known = {room for rooms in FLOORS for room in rooms}
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES.values()}
    assert rooms <= known, f"which floor is for {sorted(rooms - known)}?"


def test_imports_go_downwards() -> None:
    climbing = [(m, other) for m, others in IMPORTS.items() for other in others if floor(other) < floor(m)]
    assert not climbing, "imports that climb: " + ", ".join(f"{m} of {other}" for m, other in sorted(climbing))


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail("imports in a circle: " + " of ".join(error.args[1]))


@pytest.mark.parametrize("module", FILES)
def test_no_file_imports_a_private_name_of_another(module: str) -> None:
    private = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == PACKAGE.name
        for alias in node.names
        if re.match("_(?!_)", alias.name) and f"{node.module}.{alias.name}" not in FILES
    ]
    assert not private, f"{module} imports {private}; give what two files use a public name"


def own_names(tree: ast.AST) -> set[str]:
    """What a file defines or assigns: functions, classes, variables, attributes; and what it takes as an argument."""
    defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return defined | {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store)
    }


OF_NAMED_TUPLES = {"_replace", "_asdict", "_fields"}  # public, in spite of the underscore
OF_PYTHON = {"os._exit", "sys._getframe"}


@pytest.mark.parametrize("module", sorted(set(FILES) - {f"captum_clrp.engine._{gate}" for gate in ("captum", "torch")}))
def test_nothing_uses_an_underscore_of_another_file(module: str) -> None:
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    own = own_names(tree) | OF_NAMED_TUPLES
    foreign = {
        f"{ast.unparse(node)} (line {node.lineno})"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and node.attr not in own
        if ast.unparse(node) not in OF_PYTHON
    }
    assert not foreign, f"{module} uses {sorted(foreign)}; give what two files use a public name"


def private_parts(module: str) -> set[str]:
    """Which other libraries' private modules and attributes a file names."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name.startswith(("torch.", "nn.", "F.", "torchvision.")):
                found.add(name.replace("nn.", "torch.nn.", 1) if name.startswith("nn.") else name)
            elif node.attr in PRIVATE_OF_TORCH and name != f"self.{node.attr}":
                found.add(f"torch.{node.attr}")
    return {name for name in found if re.search(r"\._(?!_)", name) and not name.startswith("captum_clrp.")}


PRIVATE_OF_TORCH = {name for name in (*dir(torch.Tensor), *dir(torch.nn.Module())) if re.match("_[^_]", name)}


def test_private_parts_of_other_libraries_have_one_gate_each() -> None:
    named = {module: private_parts(module) for module in FILES}
    for library in ("captum", "torch"):
        found = named.pop(f"captum_clrp.engine._{library}")
        assert {name.partition(".")[0] for name in found} == {library}
    beside = {module: names for module, names in named.items() if names}
    assert not beside, f"belongs into a gate of captum_clrp/engine: {beside}"


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="tests run apart from the checkout: there is no guide")
def test_files_that_the_contributors_guide_names_exist() -> None:
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    named = {word for word in re.findall(r"`([\w./-]+)`", text) if re.search(r"/|\.(md|py|cfg|toml|cff|ini)$", word)}
    named -= {"dist/", "imagenet_samples/", "multi_object/"}  # folders of the reader's
    assert len(named) > 20
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing, f"docs/contributing.md names what does not exist: {missing}"
    layout = text.split("```text\ncaptum_clrp/\n")[1].split("```")[0]
    shown = {word for line in layout.splitlines() for word in re.split(r"\s{2,}", line.strip())[0].split()}
    shown = {word.rstrip(",") for word in shown}
    rooms = {path.name if path.is_file() else f"{path.name}/" for path in PACKAGE.rglob("*")}
    assert shown <= rooms, f"the layout in docs/contributing.md shows what does not exist: {sorted(shown - rooms)}"


# -- tests mirror the package ---------------------------------------------------------------------------------------

SEEN_THROUGH = {
    # what is run with each call: its behaviour is seen on whole networks
    "explanation": "test_attribution.py test_layer.py test_neuron.py",
    "engine/handlers/arithmetic": "engine/test_operations.py",
    "engine/handlers/attention": "engine/test_attention.py",
    "engine/handlers/elementwise": "engine/test_operations.py engine/test_normalised_inside.py",
    "engine/handlers/means": "engine/test_operations.py",
    "engine/handlers/moving": "engine/test_operations.py",
    "engine/handlers/operation": "engine/test_operations.py engine/test_edges.py",
    "engine/handlers/refusal": "engine/test_refusals.py engine/test_not_followed.py",
    "engine/handlers/weighted": "engine/test_operations.py engine/test_computed_weights.py",
    "engine/marks": "engine/test_state.py engine/test_edges.py",
    "engine/places": "test_layer.py test_neuron.py",
    "engine/scope": "engine/test_edges.py engine/test_threads.py engine/test_hooks.py",
    "engine/sharing": "engine/test_linear_maps.py",
    "engine/settings": "test_attribution.py test_inspection.py",
    "engine/trace": "engine/test_edges.py engine/test_not_followed.py engine/test_state.py",
    # names and nothing else: a wrong one fails at import
    "engine/_captum": "test_captum.py",
    "engine/_torch": "engine/test_edges.py",
    "evaluation/needed": "test_packaging.py",
    # parts of a command, which is tested whole
    "cli/errors": "cli/test_main.py",
    "cli/explained": "cli/test_explain.py",
    "cli/explaining": "cli/test_explain.py",
    "cli/jobs": "cli/test_explain.py",
    "cli/report": "cli/test_explain.py",
    "files": "cli/test_output.py",
    # parts of a run, which is tested whole
    "evaluation/drawing": "evaluation/results/test_figures.py",
    "evaluation/listed": "evaluation/datasets/test_base.py evaluation/sources/test_base.py",
    "evaluation/datasets/xml_boxes": "evaluation/datasets/test_voc.py evaluation/datasets/test_ilsvrc.py",
    "evaluation/methods/base": "evaluation/methods/test_sets.py",
    "evaluation/metrics/base": "evaluation/metrics/test_metrics_contract.py",
    "evaluation/metrics/bench": "evaluation/running/test_runner.py",
    "evaluation/metrics/maps": "evaluation/metrics/test_metrics_contract.py",
    "evaluation/metrics/pooling_observation": "evaluation/metrics/test_pooling_indices.py",
    "evaluation/running/processes": "evaluation/running/test_runner.py",
    "evaluation/running/provenance": "evaluation/running/test_runner.py",
    "visualization/panels": "visualization/test_drawing.py",
}
"""Modules without a file of tests of their own, and where they are tested."""


def test_tests_mirror_the_package() -> None:
    tests = Path(__file__).parent
    modules = [path.relative_to(PACKAGE).with_suffix("") for path in FILES.values() if not path.stem.startswith("__")]
    alone = {m.as_posix() for m in modules if not (tests / m.parent / f"test_{m.name}.py").exists()}
    assert alone == set(SEEN_THROUGH), "give a module a file of tests, or say in SEEN_THROUGH where it is tested"
    named = {name for names in SEEN_THROUGH.values() for name in names.split()}
    assert not {name for name in named if not (tests / name).exists()}


def test_no_file_is_long() -> None:
    files = [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    long = {path.name: n for path in files if (n := len(path.read_text(encoding="utf-8").splitlines())) > 800}
    assert not long, "cut by topic"
