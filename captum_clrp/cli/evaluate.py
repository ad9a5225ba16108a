"""``captum-clrp evaluate``: the paper's experiments on any dataset, with any method, in any number of processes."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.options import add_model_options, asked_classifier, default_device

if TYPE_CHECKING:
    from captum_clrp.classifiers import Classifier
    from captum_clrp.evaluation import Dataset, Experiment, Source, Team

__all__ = ["DATA", "METRICS", "add_parser", "run"]

METRICS = {
    "pointing": "is the strongest pixel on the object?",
    "energy-pointing": "is the foreground that holds p percent of the energy on the object? (paper, fig. 4)",
    "energy-inside": "share of positive relevance on the object",
    "grid": "is the relevance for a class in the cell of a grid that shows the class?",
    "ablation": "drop of the class when the patch at the maximum is replaced (paper, table 1)",
    "insertion-deletion": "probability while pixels come back or go, of the class and of another one",
    "similarity": "how alike are the maps of different classes? (paper, fig. 1)",
    "neurons": "patch of one neuron against activation of another (paper, fig. 5c)",
    "pooling-indices": "where max pooling's winners lie at the border (supplement B)",
}
DATA = {
    "embedded": "five photographs with boxes, and collages of them, that come with the package",
    "ilsvrc:FOLDER": "ILSVRC2012 validation with its boxes",
    "voc07:FOLDER": "PASCAL VOC 2007",
    "coco:FOLDER": "MS COCO (needs pycocotools)",
    "FOLDER": "photographs named <class index>_..., or in one folder per class (no boxes)",
}
_SCENE_ROUNDS = 8
"""The embedded photographs are dealt out this often, because a single grid of them would be too few."""


def add_parser(subparsers: Any) -> None:
    """Add the ``evaluate`` command to the parser of ``captum-clrp``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure explanations on a dataset",
        description="Measure explanations of an image classifier. Results come image by image; a run that was stopped "
        "goes on where it stopped when it is started again. Without further options: EfficientNet-Lite0 on photographs "
        "that come with the package.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("metric", choices=METRICS, metavar="METRIC", help="what to measure, see below")
    parser.add_argument("--data", default="embedded", metavar="DATA", help="on what, see below (default: embedded)")
    parser.add_argument("--split", metavar="NAME", help="part of voc07 (default: test) or coco (default: val2014)")
    parser.add_argument("--hard", action="store_true", help="voc07, coco: only the difficult set of the pointing game")
    parser.add_argument("--flagged", action="store_true", help='voc07: objects flagged "difficult" count as well')
    parser.add_argument(
        "--class-map", metavar="FILE", help="voc07, coco: JSON from class names to the network's outputs"
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="only N images (or scenes), drawn by the seed")
    add_model_options(parser)
    methods = parser.add_argument_group("methods")
    methods.add_argument(
        "-m", "--methods", metavar="METHODS", help="methods, separated by commas (default: all that apply)"
    )
    methods.add_argument(
        "--cam-layer", metavar="MODULE", help="grad-cam: name of a module (default: the last feature map)"
    )
    metric = parser.add_argument_group("metric")
    metric.add_argument("--average", choices=("images", "classes"), default="images", help="what means are taken over")
    metric.add_argument(
        "--tolerance", type=_tolerance, default=0.0, metavar="PIXELS", help="pointing: still on the object"
    )
    metric.add_argument("--patch", type=_odd, default=9, metavar="SIDE", help="ablation, neurons: pixels (default: 9)")
    metric.add_argument("--steps", type=_positive, default=16, metavar="N", help="insertion-deletion (default: 16)")
    metric.add_argument("--grid", type=_side, metavar="N", help="scenes of N x N photographs (default for grid: 2)")
    metric.add_argument("--shrink", action="store_true", help="scenes as large as the network's input, not N times")
    metric.add_argument(
        "--layer", metavar="MODULE", help="neurons: name of a module (default: fc1, or the last convolution)"
    )
    metric.add_argument("--neurons", type=_positive, default=8, metavar="N", help="neurons: how many (default: 8)")
    run_options = parser.add_argument_group("run")
    run_options.add_argument("-o", "--output", metavar="FOLDER", help="for results (default: evaluation/METRIC)")
    run_options.add_argument("--restart", action="store_true", help="throw away what the folder holds and begin anew")
    run_options.add_argument("--batch", type=_positive, default=8, metavar="N", help="images at once (default: 8)")
    run_options.add_argument("--seed", type=_seed, default=0, metavar="N", help="of everything random (default: 0)")
    run_options.add_argument("--cache", metavar="FOLDER", help="where mean images are kept (default: the user's cache)")
    run_options.add_argument("--no-figures", action="store_true", help="write no pictures")
    run_options.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(defaults={name: parser.get_default(name) for name in _APPLIES})
    parser.set_defaults(
        run=run,
        needs=("captum_clrp.classifiers", "captum_clrp.evaluation", "captum_clrp.evaluation.results.figures", "timm"),
    )
    parser.set_defaults(interrupted="start it again with the same arguments to go on")


_APPLIES: dict[str, tuple[tuple[str, ...], str]] = {
    "tolerance": (("pointing",), ""),
    "patch": (("ablation", "neurons"), ""),
    "steps": (("insertion-deletion",), ""),
    "layer": (("neurons",), ""),
    "neurons": (("neurons",), ""),
    "split": ((), "voc07 coco"),
    "hard": ((), "voc07 coco"),
    "class_map": ((), "voc07 coco"),
    "flagged": ((), "voc07"),
}
"""Options that belong to some metrics, or to some data."""


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that would make no difference.

    Raises:
        CommandError: naming the option and what it belongs to.
    """
    kind = options.data.partition(":")[0]
    for name, (metrics, data) in _APPLIES.items():
        if getattr(options, name) == options.defaults[name]:
            continue
        option = "--" + name.replace("_", "-")
        if metrics and options.metric not in metrics:
            raise CommandError(f"{option} is for {' and '.join(metrics)}; it makes no difference to {options.metric}")
        if data and kind not in data.split():
            raise CommandError(
                f"{option} is for data of {' or '.join(data.split())}; it makes no difference to {options.data}"
            )
    if options.shrink and not options.grid and options.metric != "grid":
        raise CommandError("--shrink is for scenes: give --grid N as well")
    if options.cam_layer and options.methods and not re.search(r"grad-cam|captum:", options.methods):
        raise CommandError("--cam-layer is for grad-cam and attributions of layers, and none of the --methods is one")


def _epilog() -> str:
    lines = ["METRIC is one of:"]
    lines += [f"  {name:20s}{what}" for name, what in METRICS.items()]
    lines += ["", "DATA is one of:"]
    lines += [f"  {name:20s}{what}" for name, what in DATA.items()]
    lines += [
        "",
        "METHODS are random, centre, gradient, guided-backprop, input-x-gradient, grad-cam, lrp, clrp1, clrp2; "
        "the last",
        "three also with a composite (-paper, -gamma, -epsilon-plus, ...), then -even (the paper's average pooling) and",
        "-conserve; captum:NAME for an attribution of Captum (one that explains a layer takes --cam-layer);",
        "PACKAGE.MODULE:NAME for any function from the model to an object with Captum's attribute.",
        "",
        "examples:",
        "  captum-clrp evaluate pointing",
        "  captum-clrp evaluate energy-pointing --data ilsvrc:/data/imagenet --model vgg16 --methods "
        "lrp-even,clrp1-even",
        "  torchrun --nproc-per-node=4 -m captum_clrp evaluate ablation --data photographs/ --output results/ablation",
    ]
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Evaluate; under ``torchrun``, together with the other processes.

    Raises:
        CommandError: if the request cannot be met.
    """
    _check_options(options)
    try:
        from captum_clrp.evaluation import team_of_environment
    except ImportError as error:
        raise CommandError(str(error)) from error
    with team_of_environment() as team:
        return _run(options, team)


def _run(options: argparse.Namespace, team: Team) -> int:
    from captum_clrp.evaluation import Bench, MethodSet, Run
    from captum_clrp.evaluation.methods import check_methods
    from captum_clrp.evaluation.results.figures import figures
    from captum_clrp.evaluation.results.records import read_records
    from captum_clrp.evaluation.running.mean_image import cache_folder
    from captum_clrp.evaluation.running.runner import write_whole

    experiment = _experiment(options)
    names = check_methods(_names(options.methods)) if options.methods else list(experiment.default_methods)
    experiment.check(names)
    folder = Path(options.output or Path("evaluation") / options.metric).expanduser()
    _make_folder(folder, options.restart, team)
    network = asked_classifier(options, _device(options.device, team))
    source = _source(options, network)
    size = min(network.geometry.crop or (options.patch,))
    if options.patch > size:
        raise CommandError(
            f"a patch of {options.patch} pixels is larger than the network's input of {size}; give a smaller --patch"
        )
    bench = Bench(
        network,
        MethodSet(network, names, seed=options.seed, layer=_layer(network, options.cam_layer))
        if experiment.uses_methods
        else None,
        seed=options.seed,
    )
    job = Run(
        experiment,
        source,
        bench,
        folder,
        batch=options.batch,
        average=options.average,
        seed=options.seed,
        team=team,
        cache=Path(options.cache).expanduser() if options.cache else cache_folder(),
        quiet=options.quiet,
    )
    summary = job.go()
    if summary is None:
        return 0
    if not options.no_figures:
        records = read_records(folder / "records")
        (folder / "figures").mkdir(exist_ok=True)
        for name, content in figures(experiment, summary, records, source, bench).items():
            write_whole(folder / "figures" / name, content)
    sys.stdout.write(_report(experiment, summary, folder))
    return 0


def _report(experiment: Experiment, summary: Any, folder: Path) -> str:
    made = summary.made_with
    lines = [
        f"{summary.title}: {made['model']} ({made['weights']}) on {summary.images['measured']} images, {made['data']}",
        summary.table(experiment),
        "Means with 95 % bootstrap intervals. " + summary.conventions,
    ]
    targets = made["targets"]
    lines.append(
        f"The explained class is the network's top one in {targets['top_class']} of {targets['explained']} cases, and its "
        f"score is negative in {targets['negative_score']} (relevance starts with its magnitude, for LRP as well). "
        "In brackets behind a method: its difference to lrp."
    )
    lines += [f"left out: {count} x {reason}" for reason, count in summary.skipped.items()]
    if "p_values" in summary.extra:
        lines += [
            f"p-values of {name}: " + ", ".join(f"{k} {_p(p)}" for k, p in tests.items())
            for name, tests in summary.extra["p_values"].items()
        ]
    cost = made["cost"]
    lines.append(
        f"{cost['images']} images in {cost['seconds']:.1f} s, of which attributions "
        f"{cost['attribution_seconds']:.1f} s"
        + (f" and the metric's own forward passes {cost['model_seconds']:.1f} s" if cost["model_seconds"] else "")
    )
    lines.append(f"-> {folder}")
    return "\n".join(lines) + "\n"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _experiment(options: argparse.Namespace) -> Experiment:
    from captum_clrp.evaluation.experiments import EXPERIMENTS

    settings: dict[str, dict[str, Any]] = {
        "pointing": {"tolerance": options.tolerance},
        "ablation": {"size": options.patch},
        "insertion-deletion": {"steps": options.steps},
        "neurons": {"layer": options.layer, "count": options.neurons, "size": options.patch},
    }
    return EXPERIMENTS[options.metric](**settings.get(options.metric, {}))


def _source(options: argparse.Namespace, network: Classifier) -> Source:
    from captum_clrp.evaluation import GridSource, PhotographSource

    side = options.grid or (2 if options.metric == "grid" else None)
    dataset = _dataset(options, network, collages=side is None)
    if side is None:
        return PhotographSource(dataset, network.geometry, limit=options.limit, seed=options.seed)
    rounds = _SCENE_ROUNDS if options.data == "embedded" else 1
    return GridSource(
        dataset, network.geometry, side, shrink=options.shrink, rounds=rounds, limit=options.limit, seed=options.seed
    )


def _dataset(options: argparse.Namespace, network: Classifier, *, collages: bool) -> Dataset:
    from captum_clrp.evaluation import ILSVRC2012, VOC2007, CocoDetection, Embedded, ImageFolder

    kind, _, folder = options.data.partition(":")
    if kind == "embedded" and not folder:
        return Embedded(collages=collages)
    if kind in ("ilsvrc", "voc07", "coco") and not folder:
        folder = f"./{kind}"  # the reader says what belongs there
    if kind == "ilsvrc":
        return ILSVRC2012(folder)
    if kind == "voc07":
        split = options.split or "test"
        return VOC2007(
            folder, split, flagged=options.flagged, hard=options.hard, class_map=_class_map(options.class_map)
        )
    if kind == "coco":
        try:
            return CocoDetection(
                folder, options.split or "val2014", hard=options.hard, class_map=_class_map(options.class_map)
            )
        except ImportError as error:
            raise CommandError(str(error)) from error
    return ImageFolder(options.data, network.class_names)


def _class_map(file: str | None) -> dict[str, int] | None:
    if file is None:
        return None
    try:
        read = json.loads(Path(file).read_text())
        return {str(name): int(label) for name, label in read.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CommandError(
            f'the class map {file} cannot be used ({error}); give a JSON file such as {{"dog": 207}}'
        ) from error


def _names(text: str) -> Sequence[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _layer(network: Classifier, name: str | None) -> Any:
    if name is None:
        return None
    modules = dict(network.model.named_modules())
    if name not in modules:
        raise CommandError(f"{network.name} has no module {name!r}; its last ones are {', '.join(list(modules)[-5:])}")
    return modules[name]


def _device(asked: str | None, team: Team) -> str:
    if asked is None and default_device() == "cuda":
        import torch

        return f"cuda:{team.local_rank % torch.cuda.device_count()}"
    return asked or "cpu"


def _make_folder(folder: Path, restart: bool, team: Team) -> None:
    problem = None
    if team.leads:
        try:
            if restart and (folder / "run.json").is_file():
                for old in ("records", "figures"):
                    shutil.rmtree(folder / old, ignore_errors=True)
                (folder / "run.json").unlink()
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                problem = f"nothing may be written in {folder}; choose another place with --output"
        except OSError as error:
            problem = f"{folder} cannot be used for results ({error.strerror}); choose another place with --output"
    problem = team.broadcast(problem)
    if problem:
        raise CommandError(problem)


def _positive(text: str) -> int:
    return _whole(text, lambda n: n >= 1, "a whole number of at least 1")


def _tolerance(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no distance in pixels, 0 or more")
    return number


def _seed(text: str) -> int:
    return _whole(text, lambda n: n >= 0, "a whole number of at least 0")


def _odd(text: str) -> int:
    return _whole(text, lambda n: n >= 1 and n % 2 == 1, "an odd number, e.g. 9")


def _side(text: str) -> int:
    return _whole(text, lambda n: n >= 2, "a whole number of at least 2")


def _whole(text: str, accepted: Any, what: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not accepted(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number
