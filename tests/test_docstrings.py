"""Every public name says what it takes, gives back, raises, in which shapes and units, and where it comes from."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import captum_clrp
from captum_clrp.contrast import DualConcept
from captum_clrp.rules import RelevanceRule

# What the reference documents. Other modules are for contributors: their names need a docstring, not all of its parts.
PUBLIC = (
    "captum_clrp",
    "captum_clrp.rules",
    "captum_clrp.contrast",
    "captum_clrp.bounds",
    "captum_clrp.inspection",
    "captum_clrp.errors",
    "captum_clrp.classifiers",
    "captum_clrp.geometry",
    "captum_clrp.theory.taylor",
    "captum_clrp.visualization",
    "captum_clrp.evaluation",
)
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples")
REFERS = re.compile(r"\b[Aa]s (?:for |there|in |:)")
"""An argument that is described elsewhere: "As for :class:`LRPZBeta`"."""
SHAPE = re.compile(r"``\([^`]*\)``|\bshape|\bvalue|\bnumber|\bone\b|\bsize of", re.IGNORECASE)
UNITS = dict.fromkeys(
    ("low", "high", "mean", "std", "tolerance", "pixel_range", "epsilon"),
    r"unit|pixel|normalis|[Aa]s for|As there|likewise|of each|default:|value",
)
SOURCE = re.compile(r"paper|arXiv|\b(?:19|20)\d\d\b|[Ss]ource:")


def is_class(value: Any) -> bool:
    """Whether it is a class; for ``list[int]`` and its like, which Python 3.10 takes for one, not."""
    return isinstance(value, type) and not isinstance(value, types.GenericAlias)


def modules() -> Iterator[Any]:
    yield captum_clrp
    for found in pkgutil.walk_packages(captum_clrp.__path__, "captum_clrp."):
        if found.name != "captum_clrp.__main__":
            yield importlib.import_module(found.name)


def names_of(module: Any) -> dict[str, Any]:
    """What users import from a module; of one for contributors, whatever it defines without an underscore."""
    defined = [name for name, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for name in getattr(module, "__all__", [name for name in defined if not name.startswith("_")])
        if is_class(getattr(module, name)) or inspect.isfunction(getattr(module, name))
    }


def callables() -> dict[str, tuple[Callable[..., Any], str]]:
    """Public functions and methods, each with its docstring; a class stands for its constructor."""
    found: dict[str, tuple[Callable[..., Any], str]] = {}
    seen: set[int] = set()
    for module in map(importlib.import_module, PUBLIC):
        for name, value in names_of(module).items():
            if id(value) in seen:
                continue
            seen.add(id(value))
            if inspect.isfunction(value):
                found[name] = value, inspect.getdoc(value) or ""
                continue
            if "__init__" in vars(value):
                found[name] = (value.__init__, (value.__doc__ and inspect.cleandoc(value.__doc__)) or "")
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    found[f"{name}.{method}"] = (function, inspect.getdoc(getattr(value, method)) or "")
    return found


CALLABLES = callables()
EVERYTHING = {name: value for module in modules() for name, value in names_of(module).items()}
DEFINED = [name for name, value in EVERYTHING.items() if name.startswith(value.__module__ + ".")]


def sections(doc: str) -> dict[str, str]:
    """The sections of a Google-style docstring; what stands before them is under ''."""
    pieces = re.split(rf"^({'|'.join(SECTIONS)})::?\s*$", doc, flags=re.MULTILINE)
    return {"": pieces[0]} | dict(zip(pieces[1::2], map(textwrap.dedent, pieces[2::2]), strict=True))


def described(section: str) -> dict[str, str]:
    """What each name of an ``Args`` section is said to be; names may share a description."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section.strip("\n")) if section.strip() else ():
        names, _, text = entry.partition(":")
        for name in names.split(","):
            found[name.strip().lstrip("*")] = " ".join(text.split())
    return found


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {n: p for n, p in inspect.signature(function).parameters.items() if n not in ("self", "cls")}


def raised(function: Callable[..., Any]) -> set[str]:
    """Names of the errors that a function raises itself."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except OSError:
        return set()
    calls = [n.exc for n in ast.walk(tree) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
    return {c.func.id for c in calls if isinstance(c.func, ast.Name)} - {"NotImplementedError", "AttributeError"}


@pytest.mark.parametrize("name", DEFINED)
def test_every_name_begins_with_a_sentence(name: str) -> None:
    doc = EVERYTHING[name].__doc__
    assert doc, f"{name} has no docstring"
    first = inspect.cleandoc(doc).partition("\n\n")[0]
    assert re.search(r"[.:?]$", first), f"{name}: {first!r} is no sentence"
    assert len(first.split()) > 2, f"{name}: {first!r} says too little"


@pytest.mark.parametrize("name", CALLABLES)
def test_arguments_are_described(name: str) -> None:
    function, doc = CALLABLES[name]
    wanted = {n for n in parameters(function) if n not in ("args", "kwargs", "options")}
    if not wanted or is_handed_down(function):
        return
    told = described(sections(doc).get("Args", ""))
    if not told and re.search(r"\b[Aa]rguments as for ", doc):
        return
    if not told:  # a sentence may say it all
        unnamed = {n for n in wanted if not re.search(rf"\b{n}\b", doc)}
        assert not unnamed, f"{name} says nothing of {sorted(unnamed)}"
        return
    assert wanted <= set(told), f"{name} does not describe {sorted(wanted - set(told))}"
    assert set(told) <= set(parameters(function)), (
        f"{name} describes {sorted(set(told) - wanted)}, which it does not take"
    )
    empty = [n for n, text in told.items() if not text]
    assert not empty, f"{name} says nothing of {empty}"


def is_handed_down(function: Callable[..., Any]) -> bool:
    """A method without a docstring of its own does what the method it overrides says."""
    return not function.__doc__


@pytest.mark.parametrize("name", CALLABLES)
def test_results_are_described(name: str) -> None:
    function, doc = CALLABLES[name]
    annotation = inspect.signature(function).return_annotation
    if annotation in (None, "None", inspect.Signature.empty) or is_handed_down(function) or not parameters(function):
        return
    told = sections(doc)
    assert {"Returns", "Yields"} & set(told) or is_a_noun(told[""]), f"{name} does not say what it returns"


def is_a_noun(summary: str) -> bool:
    """A summary such as "The share of ..." or "Whether ..." is what is returned."""
    verbs = r"(?:Return|Compute|Make|Read|Run|Load|Check|Give|Add|Share|Keep|Refuse|Explain)\b"
    return not re.match(verbs, summary.strip())


@pytest.mark.parametrize("name", CALLABLES)
def test_errors_are_described(name: str) -> None:
    function, doc = CALLABLES[name]
    told = sections(doc).get("Raises", "")
    owner = EVERYTHING.get(name.rpartition(".")[0])
    of_class = sections(inspect.getdoc(owner) or "").get("Raises", "") if is_class(owner) else ""
    missing = {e for e in raised(function) if e not in told + of_class}
    assert not missing, f"{name} raises {sorted(missing)} and does not say so"
    for entry in re.split(r"\n(?=\S)", told.strip("\n")) if told else ():
        assert re.match(r"\w+(?:, \w+)*: \S", entry), f"{name}: 'Raises' needs 'Error: when', not {entry!r}"


@pytest.mark.parametrize("name", CALLABLES)
def test_tensors_have_shapes(name: str) -> None:
    function, doc = CALLABLES[name]
    if is_handed_down(function):
        return
    told = sections(doc)
    arguments = described(told.get("Args", ""))
    for parameter, details in parameters(function).items():
        if re.search(r"\bTensor\b", str(details.annotation)) and parameter in arguments:
            text = arguments[parameter]
            assert SHAPE.search(text) or REFERS.search(text) or "likewise" in text, (
                f"{name}: which shape has {parameter}?"
            )
    if str(inspect.signature(function).return_annotation) in ("Tensor", "torch.Tensor") and "Returns" in told:
        assert SHAPE.search(told["Returns"]) or REFERS.search(told["Returns"]), f"{name}: which shape is returned?"


@pytest.mark.parametrize("name", CALLABLES)
def test_quantities_have_units(name: str) -> None:
    function, doc = CALLABLES[name]
    if is_handed_down(function):
        return
    for argument, text in described(sections(doc).get("Args", "")).items():
        if argument in UNITS:
            assert re.search(UNITS[argument], text) or REFERS.search(text), f"{name}: in which unit is {argument}?"


@pytest.mark.parametrize(
    "kind",
    [v for v in dict.fromkeys(EVERYTHING.values()) if is_class(v) and issubclass(v, RelevanceRule | DualConcept)],
    ids=lambda kind: kind.__name__,
)
def test_rules_and_duals_say_where_they_come_from(kind: type) -> None:
    if kind in (RelevanceRule, DualConcept):
        return
    doc = inspect.cleandoc(kind.__doc__ or "")
    assert SOURCE.search(doc) or kind.__name__ in OURS, f"{kind.__name__} needs a source"
    if issubclass(kind, RelevanceRule) and kind.__name__ != "Identity":
        assert ".. math::" in doc or kind.__name__ in IN_WORDS, f"{kind.__name__} needs its equation"


OURS = {"TheseClasses", "Identity"}
"""What has no source outside this package."""
IN_WORDS = {"Flat"}
"""Rules that a sentence says completely."""


def test_the_checks_find_what_is_missing() -> None:
    doc = inspect.cleandoc(
        """Share something.

        Args:
            low, high: Bounds, in normalised pixels.
            x: Tensor of shape ``(N, C)``,
                on any device.

        Raises:
            ValueError: if it is empty.
        """
    )
    told = sections(doc)
    assert list(described(told["Args"])) == ["low", "high", "x"]
    assert described(told["Args"])["x"] == "Tensor of shape ``(N, C)``, on any device."
    assert "Returns" not in told
    assert not is_a_noun(told[""])
    assert SHAPE.search("``(N, C)``")
    assert not SHAPE.search("A tensor of the model")

    def fails() -> None:
        raise KeyError("x")

    assert raised(fails) == {"KeyError"}
