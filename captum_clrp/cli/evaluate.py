"""``captum-clrp evaluate``: the paper's experiments on any dataset, with any method, in any number of processes.

Metrics, datasets and methods, and the options of each, are those of their registries in :mod:`captum_clrp.evaluation`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.options import (
    add_cam_layer,
    add_model_options,
    asked_classifier,
    check_cam_layer,
    default_device,
    module_named,
    number,
)
from captum_clrp.errors import InvalidInputError
from captum_clrp.files import write_whole

if TYPE_CHECKING:
    from captum_clrp.classifiers import Classifier
    from captum_clrp.evaluation import PerImageMetric, Run, Source, Summary, Team

_EXAMPLES = """examples:
  captum-clrp evaluate pointing
  captum-clrp evaluate energy-pointing --data ilsvrc:/data/imagenet --model vgg16 --methods lrp-even,clrp1-even
  torchrun --nproc-per-node=4 -m captum_clrp evaluate ablation --data photographs/ --output results/ablation"""


def add_parser(subparsers: Any) -> None:
    """Add the ``evaluate`` command to the parser of ``captum-clrp``; its options come when it is asked for."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure explanations on a dataset",
        description="Measure explanations of an image classifier. Results are kept image by image; a run that was stopped "
        "continues where it was when it is started again. Without further options: EfficientNet-Lite0 on photographs "
        "that come with the package.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.fill = _fill
    parser.set_defaults(
        run=run,
        needs=("captum_clrp.classifiers", "captum_clrp.evaluation", "captum_clrp.evaluation.results.figures", "timm"),
        interrupted="start it again with the same arguments to go on",
    )


def _fill(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Add the options; those of a metric or a dataset from elsewhere too, which reading METRIC and DATA imports."""
    if {"-h", "--help"} & set(arguments) and not any(":" in argument for argument in arguments):
        _add_arguments(parser, json.loads(CATALOGUE.read_text(encoding="utf-8")), str, str)  # at once, without torch
        return
    try:
        from captum_clrp.evaluation import METRICS
        from captum_clrp.evaluation.datasets import find_dataset
    except ImportError as error:
        raise CommandError(str(error)) from error
    if os.getcwd() not in sys.path:  # where python -m looks, and the console script does not
        sys.path.append(os.getcwd())
    first = type(parser)(prog=parser.prog, add_help=False)
    _add_arguments(first, catalogue(), METRICS.find, find_dataset, nargs="?")
    first.parse_known_args(arguments)
    _add_arguments(parser, catalogue(), METRICS.find, find_dataset)


CATALOGUE = Path(__file__).parents[1] / "data" / "evaluate.json"
"""What :func:`catalogue` says of the package itself, so that help needs not wait for torch."""


def catalogue() -> dict[str, Any]:
    """What can be named, and which options each takes: all that the help tells of metrics, datasets and methods."""
    from captum_clrp.evaluation import DATASETS, METHODS, METRICS
    from captum_clrp.evaluation.methods import FAMILIES

    def options(kind: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": o.name,
                "help": o.help,
                "metavar": o.metavar,
                "switch": o.parse is bool,
                "default": o.default(kind),
            }
            for o in kind.options
        ]

    datasets = {}
    for key, kind in sorted(DATASETS.items()):
        named = "FOLDER" if key == "folder" else f"{key}:FOLDER" if kind.takes_folder else key
        datasets[key] = {"named": named, "about": kind.holds, "options": options(kind)}
    return {
        "metrics": {n: {"named": n, "about": k.asks, "options": options(k)} for n, k in sorted(METRICS.items())},
        "datasets": datasets,
        "methods": [
            ", ".join(METHODS),
            *sorted((f.usage for f in FAMILIES if f.usage), key=lambda usage: ":" in usage),
        ],
    }


def _add_arguments(
    parser: argparse.ArgumentParser,
    known: dict[str, Any],
    find_metric: Callable[[str], Any],
    find_data: Callable[[str], Any],
    **of_metric: Any,
) -> None:
    parser.epilog = _epilog(known)
    positive = number(int, "not a whole number of at least 1", 1)
    parser.add_argument(
        "metric", type=_read_by(find_metric), metavar="METRIC", help="what to measure, see below", **of_metric
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=_read_by(find_data),
        default="embedded",
        metavar="DATA",
        help="on what, see below (default: embedded)",
    )
    data.add_argument("--limit", type=positive, metavar="N", help="only N images (or scenes), drawn by the seed")
    data.add_argument(
        "--grid",
        type=number(int, "not a whole number of at least 2", 2),
        metavar="N",
        help="scenes of N x N photographs (default for grid: 2)",
    )
    data.add_argument("--shrink", action="store_true", help="scenes as large as the network's input, not N times")
    _add_declared(data, known["datasets"])
    add_model_options(parser)
    methods = parser.add_argument_group("methods")
    methods.add_argument(
        "-m", "--methods", metavar="METHODS", help="methods, separated by commas (default: all that apply)"
    )
    add_cam_layer(methods)
    metric = parser.add_argument_group("metric")
    metric.add_argument("--average", choices=("images", "classes"), default="images", help="what means are taken over")
    _add_declared(metric, known["metrics"])
    _add_run_options(parser.add_argument_group("run"), positive)


def _add_run_options(group: Any, positive: Callable[[str], int]) -> None:
    group.add_argument("-o", "--output", metavar="FOLDER", help="folder for the results (default: evaluation/METRIC)")
    group.add_argument("--restart", action="store_true", help="discard what the folder holds and start over")
    group.add_argument("--batch", type=positive, default=8, metavar="N", help="images at once (default: 8)")
    seed = number(int, "not a whole number of at least 0", 0)
    group.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of everything that is random (default: 0)"
    )
    group.add_argument("--cache", metavar="FOLDER", help="where mean images are kept (default: the user's cache)")
    group.add_argument("--no-figures", action="store_true", help="write no pictures")
    group.add_argument(
        "--figures", choices=("png", "pdf", "svg"), default="png", help="format of the pictures (default: png)"
    )
    group.add_argument(
        "--figure-width",
        type=number(float, "no number of inches from 3 to 20", 3, 20),
        default=6.4,
        metavar="INCHES",
        help="width of bars and curves: 3.3 for a column of a paper (default: 6.4)",
    )
    group.add_argument("--quiet", action="store_true", help="show no progress")


def _add_declared(group: Any, known: dict[str, Any]) -> None:
    """Options that classes declare; text stays text until it is known which of them it is for."""
    for name, owners in _owners(known).items():
        told = {owner: o["default"] for owner, o in owners.items() if o["default"] not in (None, False)}
        several = len(set(told.values())) > 1
        values = (
            ", ".join(f"{v} for {k}" for k, v in told.items()) if several else "".join(map(str, set(told.values())))
        )
        option = next(iter(owners.values()))
        text = f"{', '.join(owners)}: {option['help']}{f' (default: {values})' if values else ''}".replace("%", "%%")
        how = {"action": "store_true"} if option["switch"] else {"metavar": option["metavar"]}
        try:
            group.add_argument(_flag(name), dest=name, default=argparse.SUPPRESS, help=text, **how)
        except argparse.ArgumentError as error:
            raise CommandError(
                f"the option {_flag(name)} of {', '.join(owners)} has another use here; rename it"
            ) from error


def _owners(known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by name, each as its owners declare it."""
    found: dict[str, dict[str, Any]] = {}
    for owner, told in known.items():
        for option in told["options"]:
            found.setdefault(option["name"], {})[owner] = option
    return found


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_by(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """For argparse, which reports the message of no other error."""

    @functools.wraps(parse, assigned=("__name__",), updated=())
    def read(text: str) -> Any:
        try:
            return parse(text)
        except InvalidInputError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _epilog(known: dict[str, Any]) -> str:
    lines = []
    for title, kinds in (("METRIC", known["metrics"]), ("DATA", known["datasets"])):
        lines += [f"{title} is one of:", *(f"  {told['named']:20s}{told['about']}" for told in kinds.values())]
        lines += ["  PACKAGE.MODULE:NAME for a class of your own", ""]
    return "\n".join([*lines, "METHODS are separated by commas:", *(f"  {m}" for m in known["methods"]), "", _EXAMPLES])


def run(options: argparse.Namespace) -> int:
    """Evaluate; under ``torchrun``, together with the other processes.

    Raises:
        CommandError: if the request cannot be met.
    """
    from captum_clrp.evaluation import team_of_environment

    _check_options(options)
    with team_of_environment() as team:
        job = _job(options, team)
        summary = job.go()
        if summary is not None:
            _finish(job, summary, options)
    return 0


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that would make no difference.

    Raises:
        CommandError: naming the option and what it belongs to.
    """
    known = catalogue()
    for kinds, chosen, join, owners_are in (
        (known["metrics"], options.metric.name, " and ", "{}"),
        (known["datasets"], options.data[0].key, " or ", "data of {}"),
    ):
        for name, owners in _owners(kinds).items():
            if hasattr(options, name) and chosen not in owners:
                belongs = owners_are.format(join.join(owners))
                raise CommandError(f"{_flag(name)} is for {belongs}; it makes no difference to {chosen}")
    if options.shrink and not (options.grid or options.metric.scenes):
        raise CommandError("--shrink is for scenes: give --grid N as well")
    if options.methods is not None and not options.metric.uses_methods:
        raise CommandError(f"--methods makes no difference to {options.metric.name}, which compares no methods")


def _given(kind: Any, options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the options that a class declares, as its constructor takes it.

    Raises:
        CommandError: for a text that is no such value.
    """
    found = {}
    for option in kind.options:
        given = getattr(options, option.name, None)
        if given is not None:
            try:
                found[option.argument] = given if isinstance(given, bool) else option.parse(given)
            except InvalidInputError:
                raise
            except ValueError as error:
                raise CommandError(f"{_flag(option.name)}: {given!r} cannot be read ({error})") from error
    return found


def _job(options: argparse.Namespace, team: Team) -> Run:
    from captum_clrp.evaluation import Bench, MethodSet, Run
    from captum_clrp.evaluation.running.mean_image import cache_folder

    metric: PerImageMetric = options.metric(average=options.average, **_given(options.metric, options))
    names = _methods(options, metric)
    network = asked_classifier(options, _device(options.device, team))
    layer = None if options.cam_layer is None else module_named(network, options.cam_layer)
    return Run(
        metric,
        _source(options, network),
        Bench(network, MethodSet(network, names, seed=options.seed, layer=layer) if metric.uses_methods else None),
        Path(options.output or Path("evaluation") / metric.name).expanduser(),
        batch=options.batch,
        seed=options.seed,
        team=team,
        cache=Path(options.cache).expanduser() if options.cache else cache_folder(),
        quiet=options.quiet,
        restart=options.restart,
    )


def _finish(job: Run, summary: Summary, options: argparse.Namespace) -> None:
    from captum_clrp.evaluation.results.figures import figures
    from captum_clrp.evaluation.results.records import read_records
    from captum_clrp.evaluation.results.report import report
    from captum_clrp.visualization import encoded

    if not options.no_figures:
        records = read_records(job.folder / "records")
        (job.folder / "figures").mkdir(exist_ok=True)
        drawn = figures(job.metric, summary, records, job.source, job.bench, options.figure_width)
        for name, figure in drawn.items():
            content = encoded(
                figure, options.figures, title=f"{summary.title}: {name}", description=str(summary.made_with)
            )
            write_whole(job.folder / "figures" / f"{name}.{options.figures}", content)
    sys.stdout.write(report(job.metric, summary, job.folder))


def _methods(options: argparse.Namespace, metric: PerImageMetric) -> list[str]:
    from captum_clrp.evaluation.methods import check_methods

    asked = [name.strip() for name in (options.methods or "").split(",") if name.strip()]
    names = check_methods(asked) if options.methods is not None else list(metric.default_methods)
    check_cam_layer(options.cam_layer, names)
    return names


def _source(options: argparse.Namespace, network: Classifier) -> Source:
    from captum_clrp.evaluation import GridSource, PhotographSource

    kind, folder = options.data
    side = options.grid or options.metric.scenes
    try:
        dataset = kind.open(folder, network.class_names, scenes=bool(side), **_given(kind, options))
    except ImportError as error:
        raise CommandError(str(error)) from error
    if not side:
        return PhotographSource(dataset, network.geometry, limit=options.limit, seed=options.seed)
    return GridSource(
        dataset,
        network.geometry,
        side,
        shrink=options.shrink,
        rounds=kind.scene_rounds,
        limit=options.limit,
        seed=options.seed,
    )


def _device(asked: str | None, team: Team) -> str:
    if asked is None and default_device() == "cuda":
        import torch

        return f"cuda:{team.local_rank % torch.cuda.device_count()}"
    return asked or "cpu"
