"""Parts of pages that are written from the code itself, or from the results of commands, before every build.

They land in ``docs/_build/generated`` and are included by the pages:

- ``operations.md``: :data:`captum_clrp.engine.operations.ROWS` and ``REFUSED`` as tables.
- ``command-*.md``: the help of each command, from its ``argparse`` parser.
- ``reference/evaluation/*.md``: a page for each metric of :mod:`captum_clrp.evaluation` and for each other part of it.
- ``result-*.md``, ``evaluation-*.md``: what a command wrote to ``docs/results``; empty where nothing was measured.

The notebooks in ``tutorials/`` are copied to ``docs/tutorials``.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent.parent
RESULTS = DOCS / "results"
GENERATED = DOCS / "_build" / "generated"
TUTORIALS = DOCS.parent / "tutorials"

WIDE = 6
"""Tables of more columns keep their first column in sight while they scroll."""

LONG = 30
"""Tables of more lines are folded away below their summary."""

COLUMNS = 88
"""What a line of code may hold, so that none is cut off beside the sidebar."""

# -- operations ---------------------------------------------------------------------------------------------------


def operations() -> str:
    """The operation table, neighbours with one rule in one line; what is refused comes last."""
    from captum_clrp.engine.operations import REFUSED, ROWS

    together = itertools.groupby(ROWS, key=lambda row: (row.rule, row.source, row.conserved))
    lines = [(_names(" ".join(row.functions for row in rows)), *texts) for texts, rows in together]
    return "\n".join(
        [
            _table(("operations", "how relevance is shared", "source", "what is conserved"), lines),
            "## Refused\n",
            _table(("operations", "why"), [(_names(names), why) for names, why in REFUSED.items()]),
        ]
    )


def _names(functions: str) -> str:
    return " ".join(f"`{name}`" for name in functions.split())


# -- commands -----------------------------------------------------------------------------------------------------


def command(parser: argparse.ArgumentParser) -> str:
    """Usage and options of a parser, and of its subcommands."""
    parts = list(_command(parser, "##"))
    return "\n".join(parts)


def _command(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    if hasattr(parser, "complete"):
        parser.complete()  # a command whose options come when it is asked for
    subparsers: dict[str, argparse.ArgumentParser] = {}
    yield f"{heading} {parser.prog}\n"
    if parser.description:
        yield _escape(parser.description) + "\n"
    usage = _usage(parser)
    yield "```console\n$ " + re.sub(r"\n +", "\n      ", usage) + "\n```\n"
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            subparsers = dict(action.choices)
        elif action.help != argparse.SUPPRESS:
            rows.append((_option(action), _help(parser, action)))
    if rows:
        yield _table(("argument", "what it does"), rows)
    if parser.epilog and issubclass(parser.formatter_class, argparse.RawDescriptionHelpFormatter):
        yield f"```text\n{parser.epilog}\n```\n"
    elif parser.epilog:
        yield _escape(parser.epilog) + "\n"
    for sub in subparsers.values():
        yield from _command(sub, heading + "#" if len(heading) < 4 else heading)


def _usage(parser: argparse.ArgumentParser) -> str:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)
    try:
        return textwrap.dedent(parser.format_usage().removeprefix("usage: ").strip())
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _option(action: argparse.Action) -> str:
    metavar = action.metavar if action.metavar is not None else action.dest.upper()
    value = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    takes_value = action.nargs != 0
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{name} {value}`" if takes_value else f"`{name}`" for name in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    return _escape(formatter._expand_help(action)) if action.help else ""


def _escape(text: str) -> str:
    """Plain text as Markdown that looks the same."""
    return re.sub(r"([*_`<>\[\]|$])", r"\\\1", text)


# -- evaluation ---------------------------------------------------------------------------------------------------


def evaluation_pages() -> dict[str, str]:
    """The reference of the evaluation: a page for each metric, and one for each other part."""
    import captum_clrp.evaluation as package

    pages: dict[str, list[str]] = {}
    for name in package.__all__:
        pages.setdefault(_page_of(getattr(package, name, None)), []).append(name)
    pages.setdefault("metrics.base", [])
    return {
        page.rpartition(".")[2]: _reference(page, names)
        for page, names in pages.items()
        if page  # constants stand with what they list, classes from elsewhere where they come from
    }


def _page_of(value: Any) -> str:
    """The part of the evaluation that a name belongs to, such as ``metrics.pointing_game`` or ``datasets``."""
    if not isinstance(value, type) and not inspect.isroutine(value):
        return ""
    package, _, rest = value.__module__.partition("captum_clrp.evaluation.")
    parts = rest.split(".")
    return "" if package or not rest else rest if parts[0] == "metrics" else parts[0]


_CONSTANTS = {
    "methods": "methods.METHODS",
    "metrics.base": "metrics.base.METRICS",
    "datasets": "datasets.base.DATASETS",
}
_BESIDE = {
    "metrics.maps": ("maps.Point",),
    "metrics.bench": ("bench.Case", "bench.over_cases"),
    "metrics.pooling_indices": ("pooling_indices.BorderWinners",),
    "metrics.pooling_observation": ("pooling_observation.Pooling",),
    "metrics.insertion_deletion": ("insertion_deletion.Scores",),
    "metrics.patch_ablation": ("patch_ablation.Drop",),
    "methods": ("base.Family", "base.Setting"),
    "results": ("summary.Row", "summary.CurveRow", "records.Record"),
    "datasets": ("base.Readable",),
}
"""What is not in the package's own list of names and belongs on a page all the same."""


def _reference(page: str, names: list[str]) -> str:
    module = importlib.import_module(f"captum_clrp.evaluation.{page}")
    title = page.rpartition(".")[2].replace("_", " ").capitalize()
    lines = [f"# {'What all metrics share' if page == 'metrics.base' else title}\n", "```{eval-rst}"]
    lines += [
        f".. automodule:: {module.__name__}",
        "   :no-members:",
        "",
        ".. currentmodule:: captum_clrp.evaluation",
        "",
    ]
    if page in _CONSTANTS:
        lines += [f".. autodata:: captum_clrp.evaluation.{_CONSTANTS[page]}", "   :no-value:", ""]
    for name in names:
        lines += _directive(name, getattr(importlib.import_module("captum_clrp.evaluation"), name))
    home = page.partition(".")[0]
    for name in _BESIDE.get(page, ()):
        inside, _, short = name.rpartition(".")
        value = getattr(importlib.import_module(f"captum_clrp.evaluation.{home}.{inside}"), short)
        lines += _directive(f"captum_clrp.evaluation.{home}.{name}", value)
    return "\n".join([*lines, "```", ""])


def _directive(name: str, value: Any) -> list[str]:
    if isinstance(value, type):
        return [f".. autoclass:: {name}", "   :members:", ""]
    return [f".. {'autofunction' if callable(value) else 'autodata'}:: {name}", ""]


# -- results ------------------------------------------------------------------------------------------------------


def result(name: str, how: str) -> str:
    """A report in ``docs/results`` without its title; nothing where it was not measured."""
    path = RESULTS / f"{name}.md"
    if not path.exists():
        return ""
    text = re.sub(r"\A# .*\n+", "", path.read_text(encoding="utf-8"))
    text = text.partition(LEFT_OUT.get(name, "\0"))[0]
    if name in HEADINGS:
        text = f"# {HEADINGS[name]}\n\n{text}"
    text = re.sub(r"^```bash\n(.*?)^```$", _broken_lines, text, flags=re.MULTILINE | re.DOTALL)
    text = _mark_wide_tables(text)
    told = text.replace(" \\\n    ", " ")
    if any(line not in told for line in how.splitlines()):
        text += "\n" + _command_line(how)
    plot = path.with_suffix(".png")
    if plot.exists():
        (GENERATED / plot.name).write_bytes(plot.read_bytes())
        text += f"\n![{PLOTS[name]}]({plot.name})\n"
    return text


def evaluation(name: str, how: str) -> str:
    """The summary of ``captum-clrp evaluate`` in ``docs/results``; nothing where it was not measured."""
    from captum_clrp.evaluation import METRICS

    path = RESULTS / f"{name}.json"
    values = RESULTS / f"{name}-values.json.gz"
    how += f"\ncp evaluation/{name}/summary.json docs/results/{path.name}"
    how += f"\ncp evaluation/{name}/{VALUES} docs/results/{values.name}"
    if not path.exists():
        return ""
    summary = json.loads(path.read_text(encoding="utf-8"))
    metric = METRICS[summary["metric"]]
    quantities = {q.name: q.title + q.note for q in metric.quantities}
    cells = {(row["method"], row["quantity"]): _with_interval(row) for row in summary["rows"]}
    rows = [
        (f"`{method}`", *(cells.get((method, quantity), "") for quantity in quantities))
        for method in dict.fromkeys(row["method"] for row in summary["rows"])
    ]
    made = summary["made_with"]
    count = f"{summary['images']['measured']} of {summary['images']['total']} images"
    skipped = "".join(f" Left out: {n} times because *{why}*." for why, n in summary["skipped"].items())
    found = dict(made["versions"])
    date, processor = found.pop("date", ""), found.pop("processor", "")
    versions = ", ".join(f"{key} {value}" for key, value in found.items())
    first = "layer" if not metric.uses_methods else "method"
    table = _table((first, *quantities.values()), rows)
    return "".join(
        [
            f"## {HEADINGS[name]}\n\n" if name in HEADINGS else "",
            _mark_wide_tables(table) + "\n",
            *_p_values(summary["extra"].get("p_values", {})),
            f"{summary['conventions']} Means with 95 % bootstrap intervals.{skipped}{_explained(metric, made)}\n\n",
            *_curves(name, summary),
            f"\n{made['model']}, {made['weights']}; {count} of *{made['data']}*; seed {made['seed']}; "
            f"fingerprint of the data `{made['data_fingerprint']}`, of the weights `{made['weights_checksum']}`. "
            f"{date}, {processor}; {versions}, commit `{str(made['commit'])[:12]}`. {made['cost']['seconds']:.0f} s. "
            f"{_download(values)}\n\n",
            _command_line(how),
        ]
    )


def _explained(metric: Any, made: dict[str, Any]) -> str:
    """How the network stands to the classes that the data names."""
    targets = made.get("targets")
    if metric.chooses_classes or not targets:
        return ""
    return (
        f" The explained class is the network's top one in {targets['top_class']} of {targets['explained']} cases; its "
        f"score is negative in {targets['negative_score']}."
    )


def _download(values: Path) -> str:
    """Where the values of the images are, if they were kept."""
    where = f"{{download}}`{values.name} <../results/{values.name}>`"
    return f"The values of every image: {where}." if values.exists() else ""


VALUES = "values.json.gz"
"""What a run calls the file with the values of all its images."""


def _p_values(values: dict[str, dict[str, float]]) -> Iterator[str]:
    """The p-values of a run that has them, a line for each layer."""
    if values:
        against = list(next(iter(values.values())))
        header = ("layer", *(f"p, {name.replace('_', ' ')}" for name in against))
        rows = [(f"`{layer}`", *(f"{found[name]:.4f}" for name in against)) for layer, found in values.items()]
        yield _table(header, rows) + "\n"


def _with_interval(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return ""
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _curves(name: str, summary: dict[str, Any]) -> Iterator[str]:
    from captum_clrp.evaluation import METRICS, Summary
    from captum_clrp.evaluation.results.figures import draw_curve
    from captum_clrp.evaluation.results.summary import CurveRow, Row
    from captum_clrp.visualization import encoded

    curves = [CurveRow(**curve) for curve in summary["curves"]]
    read = Summary(**(summary | {"curves": curves, "rows": [Row(**row) for row in summary["rows"]]}))
    metric = METRICS[summary["metric"]]()
    for curve in metric.curves:
        if any(c.curve == curve.name for c in curves):
            drawn = draw_curve(metric, read, curve.name)
            (GENERATED / f"{name}-{curve.name}.png").write_bytes(encoded(drawn, dpi=240))
            last = [f"{c.method} {c.mean[-1]:.2f}" for c in curves if c.curve == curve.name]
            told = f"{curve.title} over {curve.axis}, one curve for each method; at the right end {', '.join(last)}."
            yield f"\n![{told}]({name}-{curve.name}.png)\n"


def _command_line(how: str) -> str:
    return f"Made with:\n\n```bash\n{broken(how)}\n```\n\n"


def broken(command: str) -> str:
    """A command with its lines broken before options and results, as a shell takes them."""
    lines: list[str] = []
    for line in command.replace(" \\\n    ", " ").splitlines():
        parts = re.split(r" (?=--|docs/)", line)
        current = parts[0]
        for part in parts[1:]:
            if len(current) + 1 + len(part) > COLUMNS - 2:
                lines.append(current + " \\")
                current = "    " + part
            else:
                current += " " + part
        lines.append(current)
    return "\n".join(_at_commas(line) for line in lines)


def _at_commas(line: str) -> str:
    """A list that is still too long goes on at the start of the next line, where a shell joins it."""
    out = ""
    while len(line) > COLUMNS and "," in line[: COLUMNS - 1]:
        cut = line.rindex(",", 0, COLUMNS - 1) + 1
        out, line = f"{out}{line[:cut]}\\\n", line[cut:]
    return out + line


def _broken_lines(match: re.Match[str]) -> str:
    return f"```bash\n{broken(match.group(1).rstrip())}\n```"


def _mark_wide_tables(text: str) -> str:
    def mark(match: re.Match[str]) -> str:
        table = _aligned(match.group(0))
        columns = table.splitlines()[0].count("|") - 1
        lines = len(table.splitlines()) - 2
        if columns > WIDE:
            table = f":::{{container}} wide\n{table}:::\n"
        if lines > LONG:
            table = f"<details><summary>All {lines} lines</summary>\n\n{table}\n</details>\n"
        return table

    return re.sub(r"(?:^\|.*\n)+", mark, text, flags=re.MULTILINE)


def _aligned(table: str) -> str:
    """The table with numbers on the right and text on the left, whatever it said."""
    header, _, *body = table.splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]
    marks = " | ".join("---:" if numbers else "---" for numbers in map(_numbers, zip(*rows, strict=True)))
    return "\n".join([header, f"| {marks} |", *body, ""])


def _numbers(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers: with a unit, an interval or a mark, but no words."""
    return all(re.match(r"([-+]?\d[^a-z]*|-|nan|n/a|)$", re.sub("e[-+]", "", cell)) for cell in cells)


# -- writing ------------------------------------------------------------------------------------------------------


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return _aligned("\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines))


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\|", text).replace("\n", " ")


def parsers() -> dict[str, Callable[[], argparse.ArgumentParser]]:
    """Every command of the repository that has options, by the name of its generated file."""

    def ours() -> argparse.ArgumentParser:
        from captum_clrp.cli import _parser

        return _parser()

    def benchmark(name: str) -> Callable[[], argparse.ArgumentParser]:
        def make() -> argparse.ArgumentParser:
            parser: argparse.ArgumentParser = importlib.import_module(f"benchmarks.{name}")._parser()
            return parser

        return make

    return {
        "captum-clrp": ours,
        **{f"benchmark-{name}": benchmark(name) for name in ("architectures", "speed", "growth")},
    }


RESULT_COMMANDS = {
    "architectures": "python -m benchmarks.architectures --output docs/results",
    "speed-cpu": "python -m benchmarks.speed --output docs/results",
    "speed-cuda": "python -m benchmarks.speed --device cuda --output docs/results",
    "other-tasks": "python -m benchmarks.other_tasks --output docs/results",
    "contrast": "python -m benchmarks.contrast --networks lite0 --core --methods lrp,clrp1-s0.9,clrp1-s0.95,clrp1,random "
    "--scene-classes 0\n"
    "python -m benchmarks.contrast --networks lite1 --core --methods lrp,clrp1-s0.5,clrp1-s0.8,clrp1-s0.9,clrp1-s0.95,"
    "clrp1,clrp2-s0.9,clrp2,rivals5-s0.9,rivals5,random,gradient,grad-cam --scene-classes 0\n"
    "python -m benchmarks.contrast --networks lite2 --core --methods lrp,clrp1-s0.8,clrp1-s0.9,clrp1-s0.95,clrp1,clrp2-s0.9,"
    "rivals5-s0.9,random --scene-classes 0",
    "contrast-24": "python -m benchmarks.contrast --networks lite0,lite1,lite2 --core --limit 24 --seed 1",
    "contrast-why": "python -m benchmarks.contrast.why --network lite1 --limit 24 --seed 1 --output docs/results",
    "contrast-full": "python -m benchmarks.contrast --networks lite1 --methods lrp,clrp1-s0.9,clrp1,rivals1-s0.9,rivals1,"
    "other-logits-s0.9,other-logits,sglrp-s0.9,sglrp,lrp-even,clrp1-s0.9-even,clrp1-even,lrp-conserve,clrp1-s0.9-conserve,"
    "clrp1-conserve,lrp-gamma,clrp1-s0.9-gamma,clrp1-gamma,lrp-epsilon-plus,clrp1-s0.9-epsilon-plus,clrp1-epsilon-plus,centre,"
    "input-x-gradient,guided-backprop,IntegratedGradients,SmoothGrad,ZennitEpsilonPlus --scene-classes 0 --processes 2 "
    "--limit 100 --scenes 25 --output benchmarks/results/contrast-full",
    "contrast-joined": "python -m benchmarks.contrast --networks lite1 --methods lrp,clrp1-s0.9,clrp1,Gated,GeometricMean "
    "--scene-classes 0 --limit 40 --scenes 10 --seed 1 --output benchmarks/results/contrast-joined",
    "contrast-digits": "python -m benchmarks.contrast.digits",
    "precision-cpu": "python -m benchmarks.precision --output docs/results",
    "precision-cuda": "python -m benchmarks.precision --device cuda --output docs/results",
    "scale-cpu": "python -m benchmarks.scale --images 64 --rounds 2 --output docs/results",
    "page-cpu": "python -m benchmarks.page --output docs/results",
    "startup-cpu": "python -m benchmarks.startup --output docs/results",
    "digits": "python -m benchmarks.digits.measure",
    "growth-cpu": "python -m benchmarks.growth --output docs/results",
    "growth-cuda": "python -m benchmarks.growth --device cuda --output docs/results",
}
"""The command that writes each report in ``docs/results``."""

_AS_CURVES = "The tables above as curves, one for each column."
PLOTS = {
    "growth-cpu": _AS_CURVES,
    "growth-cuda": _AS_CURVES,
    "contrast": "Two plots for each network: area under the deletion curve on the left and under the insertion "
    "curve on the right, over the share of positive relevance in the cell. As its strength grows, CLRP1 runs level with LRP to "
    "the right, to a share of 0.9, and gets steeply worse in deletion beyond that; random order lies far off at the lower left.",
    "contrast-digits": "Ten plots like those of the photographs, a row for each network. The curves of the three contrasts run level "
    "to the right, to a share of about 0.9 or more, and stay far above random places.",
}
"""What the picture beside a report shows."""

LEFT_OUT = {"digits": "\n## cnn-relu\n"}
"""Where the part of a report begins that a page offers as a download, for it is long."""

HEADINGS = {
    "other-tasks": "Segmentation, detection, video, optical flow",
    "contrast-why": "Why is the whole contrast less faithful?",
    "contrast-24": "Three networks",
    "contrast-full": "More methods",
    "contrast-joined": "LRP and the contrast, joined",
    "contrast-digits": "All contrasts on digits",
    "speed-cuda": "On a GPU",
    "precision-cpu": "Relevance in bfloat16",
    "precision-cuda": "Relevance in bfloat16 on a GPU",
    "scale-cpu": "A run over a folder",
    "page-cpu": "The page with several users",
    "startup-cpu": "How fast the command begins",
    "growth-cpu": "How the cost grows",
    "growth-cuda": "How the cost grows on a GPU",
    "insertion-deletion": "Insertion and deletion",
    "randomisation": "Parameters of the network become random",
    "random-logit": "The map of a class drawn at random",
    "sensitivity": "Small noise",
}
"""Sections that a page has only where they were measured."""

_SANITY = (
    '--data "$CLRP_SAMPLE_IMAGES/imagenet_samples" '
    "--methods random,gradient,guided-backprop,input-x-gradient,grad-cam,lrp,clrp1-s0.9,clrp1,clrp2"
)
_ALL = "random,centre,gradient,guided-backprop,input-x-gradient,grad-cam,lrp-even,lrp,clrp1-even,clrp1,clrp2-even,clrp2"
_ON_PHOTOGRAPHS = f'--data "$CLRP_SAMPLE_IMAGES/imagenet_samples" --methods {_ALL}'
EVALUATIONS = {
    "grid": f"captum-clrp evaluate grid {_ON_PHOTOGRAPHS}",
    "grid-lite2": "captum-clrp evaluate grid --model tf_efficientnet_lite2 "
    '--data "$CLRP_SAMPLE_IMAGES/imagenet_samples" --methods lrp,clrp1,clrp2',
    "ablation": f"captum-clrp evaluate ablation {_ON_PHOTOGRAPHS}",
    "insertion-deletion": f"captum-clrp evaluate insertion-deletion {_ON_PHOTOGRAPHS}",
    "similarity": 'captum-clrp evaluate similarity --data "$CLRP_SAMPLE_IMAGES/imagenet_samples" '
    "--methods lrp-even,lrp,clrp1-even,clrp1,clrp2-even,clrp2",
    "neurons": 'captum-clrp evaluate neurons --data "$CLRP_SAMPLE_IMAGES/imagenet_samples"',
    "pooling-inception": "captum-clrp evaluate pooling-indices --model inception_v3 --weights random",
    "pooling-vgg16": "captum-clrp evaluate pooling-indices --model vgg16 --weights random",
    "energy-pointing": "captum-clrp evaluate energy-pointing",
    "energy-inside": "captum-clrp evaluate energy-inside",
    "randomisation": f"captum-clrp evaluate randomisation {_SANITY}",
    "random-logit": f"captum-clrp evaluate random-logit {_SANITY}",
    "sensitivity": f"captum-clrp evaluate sensitivity {_SANITY}",
}
"""The evaluations that the pages show, by the name of their file in ``docs/results``."""


def write_parts(folder: Path = GENERATED) -> None:
    """Write every part that changed, so that unchanged pages are not built again."""
    for place in (folder, GENERATED):  # pictures land in the latter
        place.mkdir(parents=True, exist_ok=True)
    parts = {"operations": operations()}
    parts |= {f"command-{name}": command(make()) for name, make in parsers().items()}
    parts |= {f"result-{name}": result(name, how) for name, how in RESULT_COMMANDS.items()}
    parts |= {
        f"evaluation-{name}": evaluation(name, f"{how} --output evaluation/{name}") for name, how in EVALUATIONS.items()
    }
    for name, text in parts.items():
        _write(folder / f"{name}.md", text)
    pages = evaluation_pages()
    for old in (DOCS / "reference" / "evaluation").glob("*.md"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        _write(DOCS / "reference" / "evaluation" / f"{name}.md", text)


def copy_tutorials() -> None:
    """Put the notebooks where Sphinx finds them: it reads nothing above its own folder."""
    notebooks = {path.name: path.read_text(encoding="utf-8") for path in TUTORIALS.glob("*.ipynb")}
    for old in (DOCS / "tutorials").glob("*.ipynb"):
        if old.name not in notebooks:
            old.unlink()
    for name, text in notebooks.items():
        _write(DOCS / "tutorials" / name, text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the parts before Sphinx looks for pages."""
    write_parts()
    copy_tutorials()
    return {"parallel_read_safe": True, "parallel_write_safe": True}
