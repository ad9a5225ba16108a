"""What ``captum-clrp explain`` does; apart from its options, which need no torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from captum_clrp import ContrastiveLRP, LRPZBeta
from captum_clrp.classifiers import Classifier
from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.options import asked_classifier, default_device
from captum_clrp.cli.output import output_paths, write_whole
from captum_clrp.cli.targets import Targets, parse_targets
from captum_clrp.contrast import NAMES, DualConcept, contrast_named
from captum_clrp.errors import InvalidInputError
from captum_clrp.images import EXAMPLE_NAME, example_picture, open_picture
from captum_clrp.visualization import Row, draw_maps, encoded

__all__ = ["explain"]

_LABELS = {"lrp": "LRP", "clrp1": "CLRP1", "clrp2": "CLRP2", "sglrp": "SGLRP", "other-logits": "other logits"}
SMOOTH = 3.0
"""Standard deviation, in pixels, of the blur under which maps are drawn over a photograph."""
_UNLIKELY = 0.001
_SHOWN = 5
"""Predictions printed for each picture, besides the classes that are explained."""


@dataclass(frozen=True)
class _Job:
    name: str
    source: Path | None
    output: Path

    def open(self) -> Image.Image:
        return example_picture() if self.source is None else open_picture(self.source)


def explain(options: argparse.Namespace) -> int:
    """Explain all pictures; everything that can be wrong with them is looked at before the network is loaded.

    Raises:
        CommandError: if the request cannot be met, or not for all pictures; those written before that are complete.
    """
    methods = _methods(options.method, options.strength)
    jobs, refused = _readable(_jobs(options.images, options.output))
    classifier = asked_classifier(options, options.device or default_device())
    targets = parse_targets(",".join(options.target or ["top2"]), classifier.class_names)
    explainers = _explainers(classifier, methods, options)
    _say(f"{classifier.name}, weights: {classifier.weights}")
    for job in _progress(jobs, "explaining"):
        explained = _explain(classifier, explainers, job, targets)
        write_whole(job.output, explained.png)
        _say(f"{job.name}\n{explained.predictions}\n  -> {job.output}")
    if refused:
        raise CommandError(f"{len(refused)} of {len(jobs) + len(refused)} pictures left out: " + "; ".join(refused))
    return 0


def _readable(jobs: Sequence[_Job]) -> tuple[list[_Job], list[str]]:
    """The jobs whose pictures can be read, and why the others cannot.

    Raises:
        InvalidInputError: if there is none.
    """
    readable, refused = [], []
    for job in _progress(jobs, "checking"):
        try:
            job.open()
            readable.append(job)
        except InvalidInputError as error:
            if len(jobs) == 1:
                raise
            refused.append(str(error))
    if not readable:
        raise InvalidInputError("; ".join(refused))
    return readable, refused


def _methods(text: str, strength: float | None) -> dict[str, tuple[DualConcept | None, float]]:
    """Dual concept and strength of each method, by what the picture calls it."""
    asked = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    named = {name: contrast_named(name) for name in asked}
    unknown = [name for name in asked if named[name] is None]
    if unknown or not asked:
        raise CommandError(f"unknown method {', '.join(unknown) or text!r}; give some of: {NAMES}")
    found: dict[str, tuple[DualConcept | None, float]] = {}
    changed = False
    for name, (dual, own) in ((name, contrast) for name, contrast in named.items() if contrast is not None):
        of_option = strength is not None and dual is not None and "-s" not in name
        changed |= of_option
        share = strength if of_option and strength is not None else own
        label = _LABELS.get(name.partition("-s")[0]) or name.partition("-s")[0].replace("rivals", "rivals ")
        found[label if share == 1 else f"{label} (strength {share:g})"] = dual, share
    if strength is not None and not changed:
        raise CommandError(
            "--strength makes no difference: none of the methods is a contrast without a strength of its own; "
            "give --method clrp1, say"
        )
    return found


def _jobs(images: Sequence[str], output: str | None) -> list[_Job]:
    sources = [Path(image) for image in images]
    if not sources:
        return [_Job(EXAMPLE_NAME, None, output_paths([Path(EXAMPLE_NAME)], output, reading=())[0])]
    outputs = output_paths(sources, output, reading=sources)
    return [_Job(str(source), source, path) for source, path in zip(sources, outputs, strict=True)]


def _explainers(
    classifier: Classifier, methods: dict[str, tuple[DualConcept | None, float]], options: argparse.Namespace
) -> dict[str, LRPZBeta]:
    low, high = (classifier.low, classifier.high) if options.bounds == "pixels" else (None, None)
    chosen = {"avg_pool": options.avg_pool, "conserve": options.conserve, "rules": options.rules}
    return {
        label: LRPZBeta(classifier.model, low, high, **chosen)
        if dual is None
        else ContrastiveLRP(classifier.model, low, high, dual=dual, strength=strength, **chosen)
        for label, (dual, strength) in methods.items()
    }


@dataclass(frozen=True)
class _Explained:
    png: bytes
    predictions: str


def _explain(classifier: Classifier, explainers: dict[str, LRPZBeta], job: _Job, targets: Targets) -> _Explained:
    pixels = classifier.prepare(job.open())
    inputs = classifier.normalize(pixels).unsqueeze(0).to(classifier.device)
    try:
        with torch.no_grad():
            logits = classifier.model(inputs)[0].float().cpu()
        if not bool(logits.isfinite().all()):
            raise CommandError(f"{classifier.name} gives no finite logits for {job.name}; check the --weights")
        classes = targets.of(logits.argsort(descending=True).tolist())
        # (K, 3, H, W) for each method
        maps = [one.attribute_classes(inputs, classes)[0].float().cpu().numpy() for one in explainers.values()]
    except torch.cuda.OutOfMemoryError as error:
        raise CommandError(
            f"the memory of {classifier.device} is too small for {classifier.name}; use --device cpu or fewer classes"
        ) from error
    chances = logits.softmax(0)
    rows = [
        _row(
            classifier.class_names[index],
            [per_class[row] for per_class in maps],
            explainers,
            chances[index],
            logits[index],
        )
        for row, index in enumerate(classes)
    ]
    title, settings = Path(job.name).name, _settings(classifier, explainers)
    figure = draw_maps(pixels, list(explainers), rows, smooth=SMOOTH, title=title, settings=settings)
    png = encoded(figure, title=title, description=settings)
    told = [_predictions(classifier, chances, logits, classes)]
    for row, index in enumerate(classes):
        sums = [f"{name} {float(of_class[row].sum()):.3g}" for name, of_class in zip(explainers, maps, strict=True)]
        told.append(
            f"    {classifier.class_names[index]}: relevance sums to {', '.join(sums)} (logit {logits[index]:.2f})"
        )
        if (why := _unlikely(chances[index], logits[index])) is not None:
            told.append(
                f"    {classifier.class_names[index]} {why}: a contrast then shows what speaks for it most, not that it is there"
            )
    return _Explained(png, "\n".join(told))


def _settings(classifier: Classifier, explainers: dict[str, LRPZBeta]) -> str:
    """Network, weights and what was chosen for the propagation."""
    settings = next(iter(explainers.values())).settings
    return (
        f"{classifier.name}, weights {classifier.weights}; rules {settings.rules.name}, average pooling {settings.avg_pool}, "
        f"conserve {'on' if settings.conserve else 'off'}; sums are in units of the logit"
    )


def _unlikely(chance: Tensor, logit: Tensor) -> str | None:
    """Why a map of the class may mislead."""
    if logit < 0:
        return "has a negative score"
    return "has a probability below 0.1 %" if chance < _UNLIKELY else None


def _row(name: str, maps: Sequence[Any], explainers: dict[str, LRPZBeta], chance: Tensor, logit: Tensor) -> Row:
    """A class of the picture, with what became of its score."""
    score, why = float(logit), _unlikely(chance, logit)
    absorbed = [
        None if explainer.dual is not None else score - float(one.sum())
        for explainer, one in zip(explainers.values(), maps, strict=True)
    ]
    return Row(
        name,
        maps,
        detail=f"probability {_percent(chance)}, logit {score:.2f}",
        remark=f"{why}: a contrast then shows what speaks for the class most, not that it is there" if why else "",
        score=score,
        absorbed=absorbed,
    )


def _predictions(classifier: Classifier, chances: Tensor, logits: Tensor, classes: Sequence[int]) -> str:
    """A table of the leading classes and those explained, which are marked."""
    leading = logits.argsort(descending=True)[:_SHOWN].tolist()
    shown = leading + [index for index in classes if index not in leading]
    width = max(len(classifier.class_names[index]) for index in shown)
    return "\n".join(
        f"  {'*' if index in classes else ' '} {classifier.class_names[index]:{width}s} {index:5d}"
        f"  probability {_percent(chances[index]):>7s}  logit {logits[index]:7.2f}"
        for index in shown
    )


def _percent(chance: Tensor) -> str:
    return f"{100 * float(chance):.1f} %"


def _progress(jobs: Sequence[_Job], doing: str) -> Iterator[_Job]:
    bar = tqdm(jobs, desc=doing, unit="image", disable=None if len(jobs) > 1 else True, leave=False)
    yield from bar


def _say(text: str) -> None:
    """Print below or above a progress bar without tearing it."""
    tqdm.write(text, file=sys.stdout)
