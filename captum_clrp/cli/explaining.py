"""What ``captum-clrp explain`` does; apart from its options, which need no torch."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from captum_clrp import explain_plan
from captum_clrp.classifiers import Classifier
from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.explained import Drawing, ExplainedPicture
from captum_clrp.cli.jobs import Job, forget, jobs, readable
from captum_clrp.cli.options import asked_classifier, check_cam_layer, default_device, module_named
from captum_clrp.cli.output import check_file, write_whole
from captum_clrp.cli.report import Report
from captum_clrp.cli.targets import Targets, parse_targets
from captum_clrp.contrast import NAMES
from captum_clrp.errors import how_to_install, suggestion
from captum_clrp.methods import AlikeMethods, Method
from captum_clrp.targets import OfTarget, targets_of

_LABELS = {"lrp": "LRP", "clrp1": "CLRP1", "clrp2": "CLRP2", "sglrp": "SGLRP", "other-logits": "other logits"}


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
    methods = _methods(options)
    check_cam_layer(options.cam_layer, [name for name, method in methods.items() if method is None])
    asked = jobs(options)
    if options.report is not None:
        check_file(Path(options.report), [job.source for job in asked if job.source], [".html"], "--report")
    good, refused = readable(asked, lambda some: _progress(some, "checking"))
    drawing = Drawing(options.style, options.sign, options.smooth, options.whole, options.opacity)
    classifier = asked_classifier(options, options.device or default_device())
    targets = _Targets(",".join(options.target or ["top2"]), good, classifier.class_names)
    engine = _Engine(classifier, methods, options)
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


def _methods(options: argparse.Namespace) -> dict[str, Method | None]:
    """The methods, by what the picture calls them; ``None`` for those that are no relevance.

    Names that hold settings, as ``lrp-even`` does, say all of them; the others take those of the options.

    Raises:
        CommandError: for an unknown name, and for options that make no difference.
    """
    asked = list(dict.fromkeys(part.strip() for part in options.method.split(",") if part.strip()))
    if not asked:
        raise CommandError(f"unknown method {options.method!r}; give some of: {NAMES}")
    named = {name: Method.named(name.lower()) for name in asked}
    _check_known([name for name, method in named.items() if method is None])
    found: dict[str, Method | None] = {}
    used = {"bounds"} if any(named.values()) else set()
    chosen: dict[str, Any] = {key: getattr(options, key) for key in Method().settings}
    for given, method in named.items():
        if method is None:
            found[given] = None
            continue
        name = given.lower()
        plain = method.settings == Method().settings
        weighed = options.strength is not None and method.dual is not None and "-s" not in name
        changes = (chosen if plain else {}) | ({"strength": options.strength} if weighed else {})
        used.update(changes)
        made = dataclasses.replace(method, **changes)
        label = _label(name) if plain else name
        found[f"{label} (strength {made.strength:g})" if made.strength != 1 and (plain or weighed) else label] = made
    _check_used(options, used, asked)
    return found


def _label(name: str) -> str:
    """What a picture calls a contrast; its strength stands behind."""
    contrast = name.partition("-s")[0]
    return _LABELS.get(contrast, contrast.replace("rivals", "rivals "))


_PROPAGATION = {
    "--avg-pool": ("avg_pool", "proportional"),
    "--conserve": ("conserve", False),
    "--rules": ("rules", "auto"),
    "--precision": ("precision", "float32"),
    "--bounds": ("bounds", "pixels"),
}
"""Attributes and defaults of the options of propagation."""


def _check_used(options: argparse.Namespace, used: set[str], methods: Sequence[str]) -> None:
    """Refuse options of propagation where no method takes them."""
    if options.strength is not None and "strength" not in used:
        raise CommandError(
            "--strength makes no difference: none of the methods is a contrast without a strength of its own; "
            "give --method clrp1, say"
        )
    given = [
        flag for flag, (name, default) in _PROPAGATION.items() if name not in used and getattr(options, name) != default
    ]
    if given:
        raise CommandError(
            f"{', '.join(given)} makes no difference to {', '.join(methods)}; it is for methods such as lrp and clrp1; those "
            "that carry settings in their names, as lrp-gamma-even-conserve does, have no others"
        )


def _check_known(names: Sequence[str]) -> None:
    """Whether ``captum-clrp evaluate`` knows methods of these names.

    Raises:
        CommandError: if it is not installed.
        InvalidInputError: if it does not.
    """
    if not names:
        return
    try:
        from captum_clrp.evaluation.methods import check_methods
    except ImportError as error:
        raise CommandError(
            f"unknown method {', '.join(names)}; {suggestion(names[0], ('lrp', 'clrp1', 'clrp2', 'other-logits', 'sglrp'))}"
            f"give some of: {NAMES}; for those of captum-clrp evaluate, "
            f"{how_to_install('eval')}"
        ) from error
    check_methods(names)


class _Engine:
    """Logits and maps of pictures."""

    def __init__(
        self, classifier: Classifier, methods: Mapping[str, Method | None], options: argparse.Namespace
    ) -> None:
        self.classifier = classifier
        self.methods = methods
        self.bounds: str = options.bounds
        low, high = classifier.bounds if options.bounds == "pixels" else (None, None)
        relevance = {name: method for name, method in methods.items() if method is not None}
        self._groups = AlikeMethods.groups(relevance, classifier.model, low, high)
        self._others: Any = None
        if others := [name for name, method in methods.items() if method is None]:
            from captum_clrp.evaluation.methods import MethodSet

            layer = None if options.cam_layer is None else module_named(classifier, options.cam_layer)
            self._others = MethodSet(classifier, others, layer=layer)

    def maps(
        self, inputs: Tensor, choose: Callable[[Tensor], Tensor], names: Sequence[str]
    ) -> tuple[Tensor, dict[str, NDArray[np.float32]], dict[str, str]]:
        """One forward pass for all methods of relevance that are alike; the first says which classes are explained.

        Args:
            inputs: ``(N, 3, H, W)``.
            choose: From the logits ``(N, m)`` to the classes ``(N, K)``.
            names: The images' names.

        Returns:
            The logits, on the CPU; for each method ``(N, K, C, H, W)``, of contrasts with both signs; and for each method of
            relevance the composite by which it went.
        """
        logits = classes = None
        relevance: dict[str, Tensor] = {}
        composites: dict[str, str] = {}
        for group in self._groups:
            with group.run(inputs) as passed:
                if classes is None:
                    logits = passed.output.float().cpu()
                    classes = choose(logits)
                relevance |= passed.relevance([OfTarget(one) for one in targets_of(classes)])
                composites |= dict.fromkeys(group.methods, passed.composite)
        if logits is None or classes is None:
            with torch.no_grad():
                logits = self.classifier.model(inputs).float().cpu()
            classes = choose(logits)
        if self._others is not None:
            others = self._others.maps(inputs, list(classes.split(1, dim=1)), list(names))
            relevance |= {name: maps[:, :, None] for name, maps in others.items()}
        return logits, {name: relevance[name].float().cpu().numpy() for name in self.methods}, composites

    def plans(self, job: Job) -> Mapping[str, str]:
        """The rule of every operation, by the name of the composite."""
        inputs = self.classifier.inputs(job.open())
        asked = dict.fromkeys((one.rules, one.avg_pool) for one in self.methods.values() if one is not None)
        return {
            f"{rules}, average pooling {avg_pool}": str(
                explain_plan(self.classifier.model, inputs, avg_pool=avg_pool, rules=rules)
            )
            for rules, avg_pool in asked
        }


def _explained(
    engine: _Engine, asked: Sequence[Job], targets: _Targets, batch: int
) -> Iterator[tuple[ExplainedPicture, Job]]:
    remaining = iter(_progress(asked, "explaining"))
    while some := list(itertools.islice(remaining, batch)):
        try:
            explained = _together(engine, some, targets)
        except torch.cuda.OutOfMemoryError as error:
            raise CommandError(
                f"the memory of {engine.classifier.device} is too small for {engine.classifier.name}; use --device cpu, a smaller "
                "--batch or fewer classes"
            ) from error
        yield from zip(explained, some, strict=True)


def _together(engine: _Engine, some: Sequence[Job], targets: _Targets) -> list[ExplainedPicture]:
    """Pictures that go through the network together."""
    classifier = engine.classifier
    photographs = [job.open() for job in some]
    pixels = torch.stack([classifier.prepare(one) for one in photographs])
    classes: list[list[int]] = []

    def choose(logits: Tensor) -> Tensor:
        if not bool(logits.isfinite().all()):
            named = ", ".join(job.name for job in some)
            raise CommandError(f"{classifier.name} gives no finite logits for {named}; check the --weights")
        classes[:] = [targets.of(job, of_image) for job, of_image in zip(some, logits, strict=True)]
        most = max(map(len, classes))
        return torch.tensor([of_image + of_image[:1] * (most - len(of_image)) for of_image in classes])

    inputs = classifier.normalize(pixels).to(classifier.device)
    logits, maps, composites = engine.maps(inputs, choose, [job.name for job in some])
    return [
        ExplainedPicture(
            job.name,
            photographs[n],
            pixels[n],
            classifier,
            logits[n],
            classes[n],
            {name: of_method[n, : len(classes[n])] for name, of_method in maps.items()},
            engine.methods,
            composites,
            engine.bounds,
        )
        for n, job in enumerate(some)
    ]


def _progress(asked: Sequence[Job], doing: str) -> Iterable[Job]:
    return tqdm(asked, desc=doing, unit="image", disable=None if len(asked) > 1 else True, leave=False)


def _say(text: str) -> None:
    """Print below or above a progress bar without tearing it."""
    tqdm.write(text, file=sys.stdout)
