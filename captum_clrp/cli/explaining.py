"""What ``captum-clrp explain`` does; apart from its options, which need no torch."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from captum_clrp import ContrastiveLRP, LRPZBeta, explain_plan
from captum_clrp.classifiers import Classifier
from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.explained import Drawing, Explained, maps_of
from captum_clrp.cli.jobs import Job, forget, jobs, readable
from captum_clrp.cli.options import asked_classifier, check_cam_layer, default_device, module_named
from captum_clrp.cli.output import check_file, write_whole
from captum_clrp.cli.report import Report
from captum_clrp.cli.targets import Targets, parse_targets
from captum_clrp.contrast import NAMES, DualConcept, SoftmaxGradient, contrast_named
from captum_clrp.errors import how_to_install

_LABELS = {"lrp": "LRP", "clrp1": "CLRP1", "clrp2": "CLRP2", "sglrp": "SGLRP", "other-logits": "other logits"}

_Methods = dict[str, tuple[DualConcept | None, float]]


def explain(options: argparse.Namespace) -> int:
    """Explain all pictures; everything that can be wrong with them is looked at before the network is loaded.

    Raises:
        CommandError: if the request cannot be met, or not for all pictures; those written before that are complete.
    """
    try:
        return _explain_all(options)
    finally:
        forget()


def _explain_all(options: argparse.Namespace) -> int:
    methods, others = _methods(options.method, options.strength)
    if not methods:
        _check_unused(options, others)
    check_cam_layer(options.cam_layer, others)
    asked = jobs(options)
    if options.report is not None:
        check_file(Path(options.report), [job.source for job in asked if job.source], [".html"], "--report")
    good, refused = readable(asked, lambda some: _progress(some, "checking"))
    drawing = Drawing(options.style, options.sign, options.smooth, options.whole, options.opacity)
    classifier = asked_classifier(options, options.device or default_device())
    targets = _Targets(",".join(options.target or ["top2"]), good, classifier.class_names)
    engine = _Engine(classifier, methods, others, options)
    report = Report(drawing) if options.report is not None else None
    if not options.json:
        _say(f"{classifier.name}, weights: {classifier.weights}")
    for one, job in _explained(engine, good, targets, options.batch):
        write_whole(job.output, one.picture(drawing, job.output.suffix))
        if job.maps is not None:
            write_whole(job.maps, one.archive())
        if report is not None:
            report.add(one)
        files = {"output": str(job.output)} | ({} if job.maps is None else {"maps": str(job.maps)})
        _say(
            json.dumps(one.facts() | files)
            if options.json
            else "\n".join([one.text(), *(f"  -> {f}" for f in files.values())])
        )
    if report is not None:
        write_whole(Path(options.report), report.page(engine.plans(good[0]), refused))
        if not options.json:
            _say(f"-> {options.report}")
    if refused:
        raise CommandError(f"{len(refused)} of {len(asked)} pictures left out: " + "; ".join(refused))
    return 0


class _Targets:
    """The classes of each picture."""

    def __init__(self, default: str, asked: Sequence[Job], class_names: Sequence[str]) -> None:
        texts = dict.fromkeys([default, *(job.targets for job in asked if job.targets is not None)])
        if all(job.targets is not None for job in asked):
            del texts[default]
        self._default = default
        self._parsed: dict[str, Targets] = {text: parse_targets(text, class_names) for text in texts}

    def of(self, job: Job, logits: Tensor) -> list[int]:
        return self._parsed[job.targets or self._default].of(logits.argsort(descending=True).tolist())


def _methods(text: str, strength: float | None) -> tuple[_Methods, list[str]]:
    """Dual concept and strength of each contrast, by what the picture calls it; and the names of methods of other kinds."""
    asked = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    named = {name: contrast_named(name.lower()) for name in asked}
    others = _known([name for name in asked if named[name] is None])
    if not asked:
        raise CommandError(f"unknown method {text!r}; give some of: {NAMES}")
    found: _Methods = {}
    changed = False
    for name, (dual, own) in ((name.lower(), contrast) for name, contrast in named.items() if contrast is not None):
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
    return found, others


_PROPAGATION = {
    "--avg-pool": ("avg_pool", "proportional"),
    "--conserve": ("conserve", False),
    "--rules": ("rules", "auto"),
    "--precision": ("precision", "float32"),
    "--bounds": ("bounds", "pixels"),
}
"""Attributes and defaults of the options that are for the methods of :data:`NAMES` alone."""


def _check_unused(options: argparse.Namespace, others: Sequence[str]) -> None:
    """Refuse options of propagation where no method takes them."""
    given = [flag for flag, (name, default) in _PROPAGATION.items() if getattr(options, name) != default]
    if given:
        raise CommandError(
            f"{', '.join(given)} makes no difference to {', '.join(others)}; it is for methods such as lrp and clrp1; those "
            "of captum-clrp evaluate carry settings in their names, as in lrp-gamma-even-conserve"
        )


def _known(names: Sequence[str]) -> list[str]:
    """Names of methods that ``captum-clrp evaluate`` knows.

    Raises:
        CommandError: if it does not, or is not installed.
    """
    if not names:
        return []
    try:
        from captum_clrp.evaluation.methods import check_methods
    except ImportError as error:
        raise CommandError(
            f"unknown method {', '.join(names)}; give some of: {NAMES}; for those of captum-clrp evaluate, "
            f"{how_to_install('eval')}"
        ) from error
    try:
        return check_methods(names)
    except CommandError:
        raise
    except ValueError as error:
        raise CommandError(f"{error}; besides: {NAMES}") from error


class _Engine:
    """Logits and maps of pictures."""

    def __init__(
        self, classifier: Classifier, methods: _Methods, others: Sequence[str], options: argparse.Namespace
    ) -> None:
        self.classifier = classifier
        low, high = classifier.bounds if options.bounds == "pixels" else (None, None)
        chosen = {"avg_pool": options.avg_pool, "conserve": options.conserve, "rules": options.rules}
        chosen["precision"] = options.precision
        self.settings: dict[str, Any] = {**chosen, "bounds": options.bounds}
        self._explainers: dict[str, LRPZBeta] = {
            label: LRPZBeta(classifier.model, low, high, **chosen)
            if dual is None
            else ContrastiveLRP(classifier.model, low, high, dual=dual, strength=strength, **chosen)
            for label, (dual, strength) in methods.items()
        }
        self.plain = [label for label, (dual, _) in methods.items() if dual is None]
        self.contrasts = [label for label, (dual, _) in methods.items() if dual is not None]
        self._others: Any = None
        if others:
            from captum_clrp.evaluation.methods import MethodSet

            layer = None if options.cam_layer is None else module_named(classifier, options.cam_layer)
            self._others = MethodSet(classifier, others, layer=layer)
        self.foreign = [label for label, (dual, _) in methods.items() if isinstance(dual, SoftmaxGradient)]
        self.foreign += [name for name in others if not name.startswith(("lrp", "clrp", "rivals", "other-logits"))]

    def logits(self, inputs: Tensor) -> Tensor:
        """``(N, K)``, on the CPU."""
        with torch.no_grad():
            return self.classifier.model(inputs).float().cpu()

    def maps(self, inputs: Tensor, classes: Tensor, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """For each method ``(N, K, C, H, W)``; of contrasts with both signs.

        Args:
            inputs: ``(N, 3, H, W)``.
            classes: K of each image, ``(N, K)``.
            names: The images' names.
        """
        found = {label: maps_of(one, inputs, classes) for label, one in self._explainers.items()}
        if self._others is not None:
            concepts = list(classes.split(1, dim=1))
            for name, maps in self._others.maps(inputs, concepts, list(names)).items():
                found[name] = maps[:, :, None].float().numpy()
        return found

    def plans(self, job: Job) -> Mapping[str, str]:
        """The rule of every operation, by the name of the composite."""
        inputs = self.classifier.inputs(job.open())
        options: dict[str, Any] = {key: self.settings[key] for key in ("avg_pool", "rules")}
        plan = explain_plan(self.classifier.model, inputs, **options)
        return {f"{options['rules']}, average pooling {options['avg_pool']}": str(plan)}


def _explained(engine: _Engine, asked: Sequence[Job], targets: _Targets, batch: int) -> Iterator[tuple[Explained, Job]]:
    classifier = engine.classifier
    remaining = iter(_progress(asked, "explaining"))
    while some := list(itertools.islice(remaining, batch)):
        photographs = [job.open() for job in some]
        pixels = torch.stack([classifier.prepare(one) for one in photographs])
        inputs = classifier.normalize(pixels).to(classifier.device)
        try:
            logits = engine.logits(inputs)
            if not bool(logits.isfinite().all()):
                named = ", ".join(job.name for job in some)
                raise CommandError(f"{classifier.name} gives no finite logits for {named}; check the --weights")
            classes = [targets.of(job, of_image) for job, of_image in zip(some, logits, strict=True)]
            most = max(map(len, classes))
            even = [of_image + of_image[:1] * (most - len(of_image)) for of_image in classes]
            maps = engine.maps(inputs, torch.tensor(even), [job.name for job in some])
        except torch.cuda.OutOfMemoryError as error:
            raise CommandError(
                f"the memory of {classifier.device} is too small for {classifier.name}; use --device cpu, a smaller --batch or "
                "fewer classes"
            ) from error
        for n, job in enumerate(some):
            own = {name: of_method[n, : len(classes[n])] for name, of_method in maps.items()}
            one = Explained(
                job.name,
                photographs[n],
                pixels[n],
                classifier,
                logits[n],
                classes[n],
                own,
                engine.plain,
                engine.foreign,
                engine.settings,
                engine.contrasts,
            )
            yield one, job


def _progress(asked: Sequence[Job], doing: str) -> Iterable[Job]:
    return tqdm(asked, desc=doing, unit="image", disable=None if len(asked) > 1 else True, leave=False)


def _say(text: str) -> None:
    """Print below or above a progress bar without tearing it."""
    tqdm.write(text, file=sys.stdout)
