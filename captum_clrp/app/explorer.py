"""What the page shows, without the page: predictions, maps, pictures, files and the Python lines that make them again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_clrp import explain_plan
from captum_clrp.classifiers import Classifier
from captum_clrp.cli.explained import Drawing, ExplainedPicture
from captum_clrp.contrast import DualConcept, TheseClasses, contrast_named
from captum_clrp.errors import InvalidInputError
from captum_clrp.images import example_picture, open_picture
from captum_clrp.methods import AlikeMethods, Method
from captum_clrp.targets import OfTarget
from captum_clrp.visualization import overlaid, smoothed
from captum_clrp.visualization.panels import Style

METHODS = {
    "CLRP1": "clrp1",
    "CLRP2": "clrp2",
    "5 nearest rivals": "rivals5",
    "other logits": "other-logits",
    "SGLRP": "sglrp",
    "LRP": "lrp",
}
"""Names of contrasts, by what the page calls them."""
MOST_CLASSES = 8
"""Classes that are explained at once."""
MOST_PIXELS = 40_000_000
"""Of a photograph that comes over the network."""
_KEPT = 128
_REACH = 0.05
"""Radius of a place that is clicked, as a share of the shorter side."""


def uploaded(path: Path, name: str) -> Image.Image:
    """A photograph that somebody sent, by the decoder of the command.

    Args:
        path: Where it lies.
        name: What its sender calls it: errors tell that, and nothing of where it lies.

    Raises:
        InvalidInputError: as :func:`captum_clrp.images.open_picture`, and for more than :data:`MOST_PIXELS`.
    """
    width = height = 0
    with contextlib.suppress(Exception), Image.open(path) as picture:  # what is wrong with it the decoder says
        width, height = picture.size
    if width * height > MOST_PIXELS:
        raise InvalidInputError(
            f"{name} has {width} x {height} pixels; this page takes {MOST_PIXELS // 1_000_000} million, shrink it first"
        )
    try:
        return open_picture(path)
    except InvalidInputError as error:
        raise InvalidInputError(str(error).replace(str(path), name)) from None


@dataclass(frozen=True)
class MapSettings:
    """How maps are computed.

    Attributes:
        method: A contrast by name, as for ``captum-clrp explain``.
        rather_than: Classes to contrast with, instead of those that the method contrasts with.
        strength: How much of the dual concept's relevance is subtracted, from 0 to 1.
        rules, avg_pool, conserve: As for :class:`captum_clrp.LRPZBeta`.
    """

    method: str = "clrp1"
    rather_than: tuple[int, ...] = ()
    strength: float = 1.0
    rules: str = "auto"
    avg_pool: Any = "proportional"
    conserve: bool = False

    @property
    def dual(self) -> DualConcept | None:
        """The dual concept; ``None`` for LRP without a contrast.

        Raises:
            InvalidInputError: for an unknown method.
        """
        if self.rather_than:
            return TheseClasses(self.rather_than)
        named = contrast_named(self.method)
        if named is None:
            raise InvalidInputError(f"unknown method {self.method!r}; choose from {', '.join(METHODS.values())}")
        return named[0]

    def as_method(self) -> Method:
        """The method that makes the maps.

        Raises:
            InvalidInputError: for an unknown method.
        """
        return Method(self.dual, self.strength, **self.propagation())

    def propagation(self) -> dict[str, Any]:
        """Arguments of :class:`captum_clrp.LRPZBeta`."""
        return {"avg_pool": self.avg_pool, "conserve": self.conserve, "rules": self.rules}


@dataclass(frozen=True)
class LocalRelevance:
    """How much of a class's relevance lies at a place.

    Attributes:
        name: The class.
        relevance: Its sum there, in units of the score.
        share: The same as a share of the magnitude of all its relevance, from -1 to 1; 0 where the map is empty.
    """

    name: str
    relevance: float
    share: float


class Explorer:
    """A network that is asked again and again, by several people.

    Maps and logits are kept by the content of the picture and the settings, up to a number of maps; those that nobody has
    asked for the longest go first. One request is computed at a time.

    Args:
        classifier: The network with its preprocessing.
        loaded: The Python expression by which the network is had, for :meth:`code`. Default: by its name.
        kept: How many maps are kept.
    """

    def __init__(self, classifier: Classifier, loaded: str | None = None, kept: int = _KEPT) -> None:
        self.classifier = classifier
        self.loaded = loaded or f"load_classifier({classifier.name!r})"
        self.forward_passes = 0
        self._kept = _Kept(kept)
        self._composites: dict[str, str] = {}  # by the rules that were asked for
        self._lock = threading.Lock()

    @functools.cached_property
    def names(self) -> list[str]:
        """All classes of the network, by index."""
        _, inputs, key = self._seen(example_picture())
        with self._lock:
            return [self.classifier.class_name(index) for index in range(len(self._logits(inputs, key)))]

    def top(self, photograph: Image.Image, count: int = 10) -> list[tuple[int, float]]:
        """The leading classes.

        Args:
            photograph: An RGB image.
            count: How many.

        Returns:
            Index and probability of each, the highest first.
        """
        _, inputs, key = self._seen(photograph)
        with self._lock:
            chances = self._logits(inputs, key).softmax(0)
        best = chances.argsort(descending=True)[:count].tolist()
        return [(index, float(chances[index])) for index in best]

    def explain(
        self, photograph: Image.Image, classes: Sequence[int], settings: MapSettings, name: str = "photograph"
    ) -> ExplainedPicture:
        """Maps of classes; those that are not at hand from one forward pass.

        Args:
            photograph: An RGB image.
            classes: Indices of the classes.
            settings: How.
            name: What the photograph is called.

        Raises:
            InvalidInputError: for no class or too many, or settings that cannot be.
            InvalidTargetError: if nothing is left to contrast with.
        """
        classes = list(dict.fromkeys(classes))
        if not 1 <= len(classes) <= MOST_CLASSES:
            raise InvalidInputError(f"{len(classes)} classes are chosen; choose 1 to {MOST_CLASSES}")
        pixels, inputs, key = self._seen(photograph)
        with self._lock:
            logits = self._logits(inputs, key)
            if not bool(logits.isfinite().all()):
                raise InvalidInputError(f"{self.classifier.name} gives no finite logits; check its weights")
            maps = self._maps(inputs, key, classes, settings)
        label = self._label(settings)
        return ExplainedPicture(
            name,
            photograph,
            pixels,
            self.classifier,
            logits,
            classes,
            {label: np.stack(maps)},
            {label: settings.as_method()},
            {label: self._composites[settings.rules]},
        )

    def plan(self, photograph: Image.Image, settings: MapSettings) -> str:
        """The rule of every operation.

        Args:
            photograph: An RGB image.
            settings: How relevance is propagated.
        """
        _, inputs, _ = self._seen(photograph)
        key = ("plan", tuple(inputs.shape), settings.rules, settings.avg_pool)
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                plan = explain_plan(self.classifier.model, inputs, avg_pool=settings.avg_pool, rules=settings.rules)
                found = self._kept.put(key, str(plan))
        return str(found)

    def code(
        self, classes: Sequence[int], settings: MapSettings, drawing: Drawing, name: str = "photograph.png"
    ) -> str:
        """Python lines that make the same maps.

        Args:
            classes: Indices of the classes.
            settings: How maps are computed.
            drawing: How they are drawn.
            name: The photograph's file.
        """
        dual = settings.dual
        arguments = ["network.model", "*network.bounds"]
        method = "LRPZBeta" if dual is None else "ContrastiveLRP"
        if dual is not None:
            arguments.append(f"dual={dual!r}")
            arguments += [f"strength={settings.strength:g}"] if settings.strength != 1 else []
        defaults = MapSettings().propagation()
        arguments += [f"{key}={value!r}" for key, value in settings.propagation().items() if value != defaults[key]]
        look = f"style={drawing.style!r}, sign={drawing.sign!r}, smooth={drawing.sigma:g}"
        look += f", opacity={drawing.opacity:g}" if drawing.opacity != 1 else ""
        lines = ["from pathlib import Path", "", f"from captum_clrp import {method}"]
        lines += ["from captum_clrp.classifiers import load_classifier"] if "load_classifier" in self.loaded else []
        lines += [f"from captum_clrp.contrast import {type(dual).__name__}"] if dual is not None else []
        lines += [
            "from captum_clrp.images import open_picture",
            "from captum_clrp.visualization import draw_map, encoded",
            "",
            f"network = {self.loaded}",
            f"photograph = open_picture(Path({name!r}))",
            f"classes = {list(classes)}  # {', '.join(map(self.classifier.class_name, classes))}",
            f"method = {method}({', '.join(arguments)})",
            "maps = method.attribute_classes(network.inputs(photograph), classes)[0]",
            "for index, relevance in zip(classes, maps):",
            "    label = network.class_name(index)",
            f"    figure = draw_map(relevance, network.prepare(photograph), label=label, {look})",
            '    Path(f"{index}.png").write_bytes(encoded(figure))',
        ]
        return "\n".join(lines) + "\n"

    def _seen(self, photograph: Image.Image) -> tuple[Tensor, Tensor, str]:
        """Pixels in [0, 1], the network's input, and what is known by them."""
        pixels = self.classifier.prepare(photograph)
        key = hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.contiguous().numpy().tobytes()).hexdigest()
        return pixels, self.classifier.normalize(pixels)[None].to(self.classifier.device), key

    def _logits(self, inputs: Tensor, key: str) -> Tensor:
        found = self._kept.get(("logits", key))
        if found is None:
            with torch.no_grad():
                found = self._kept.put(("logits", key), self.classifier.model(inputs)[0].float().cpu())
            self.forward_passes += 1
        return found

    def _maps(
        self, inputs: Tensor, key: str, classes: Sequence[int], settings: MapSettings
    ) -> list[NDArray[np.float32]]:
        found = {index: self._kept.get((key, settings, index)) for index in classes}
        missing = [index for index, relevance in found.items() if relevance is None]
        if missing:
            (alike,) = AlikeMethods.groups({"": settings.as_method()}, self.classifier.model, *self.classifier.bounds)
            with alike.run(inputs) as passed:
                self._composites[settings.rules] = passed.composite
                maps = passed.relevance([OfTarget(index) for index in missing])[""][0].float().cpu().numpy()
            self.forward_passes += 1
            for index, relevance in zip(missing, maps, strict=True):
                found[index] = self._kept.put((key, settings, index), relevance.copy())
        return [found[index] for index in classes]

    def _label(self, settings: MapSettings) -> str:
        if settings.rather_than:
            label = f"rather than {', '.join(map(self.classifier.class_name, settings.rather_than))}"
        else:
            label = {name: shown for shown, name in METHODS.items()}.get(settings.method, settings.method)
        weaker = settings.strength != 1 and settings.dual is not None
        return f"{label} (strength {settings.strength:g})" if weaker else label


class _Kept:
    """What was computed last, up to a number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        if key in self._found:
            self._found.move_to_end(key)
        return self._found.get(key)

    def put(self, key: Hashable, value: Any) -> Any:
        self._found[key] = value
        while len(self._found) > self._most:
            self._found.popitem(last=False)
        return value


def compared(one: ExplainedPicture, drawing: Drawing) -> tuple[Image.Image, Image.Image]:
    """Bare pictures of the first two classes on one scale; of a single class, the photograph and its picture.

    Args:
        one: A picture with its maps.
        drawing: How they are drawn; side by side, as an overlay.
    """
    ((_, maps),) = one.maps.items()
    shown = [smoothed(relevance, drawing.sigma) for relevance in maps[:2]]
    scale = max(float(np.quantile(np.abs(relevance), 0.995)) for relevance in shown) or None
    style: Style = "overlay" if drawing.style == "side-by-side" else drawing.style
    look: dict[str, Any] = {"style": style, "sign": drawing.sign, "smooth": drawing.sigma, "opacity": drawing.opacity}
    bare = [Image.fromarray(overlaid(relevance, one.pixels, scale=scale, **look)) for relevance in maps[:2]]
    return (bare[0], bare[1]) if len(bare) > 1 else (seen(one), bare[0])


def seen(one: ExplainedPicture) -> Image.Image:
    """What the network saw of the photograph.

    Args:
        one: A picture with its maps.
    """
    return Image.fromarray((one.pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


def at(one: ExplainedPicture, x: float, y: float) -> list[LocalRelevance]:
    """How much of each class's relevance lies around a pixel of what the network saw.

    Args:
        one: A picture with its maps.
        x, y: The pixel, from the left and from the top.
    """
    height, width = one.pixels.shape[-2:]
    rows, columns = np.mgrid[:height, :width]
    around = (rows - y) ** 2 + (columns - x) ** 2 <= max(1.0, _REACH * min(height, width)) ** 2
    found = []
    ((_, maps),) = one.maps.items()
    for index, relevance in zip(one.classes, maps, strict=True):
        values = relevance.sum(0, dtype=np.float64)
        here, whole = float(values[around].sum()), float(np.abs(values).sum())
        found.append(LocalRelevance(one.classifier.class_name(index), here, here / whole if whole else 0.0))
    return found


def told(one: ExplainedPicture) -> str:
    """Probability, score, sum and absorbed share of each class, as Markdown.

    Args:
        one: A picture with its maps.
    """
    lines = []
    (method,) = one.maps
    for row in one.rows():
        lines.append(f"- **{_plain(row.label)}**: {row.detail}; {one.account(row, method)}")
        lines += [f"  - {row.remark}"] if row.remark else []
    signed = (
        ["", "Signed: the share of the score before values against the class are cut away."]
        if one.contrasts and one.shares_score(method)
        else []
    )
    return "\n".join([*lines, *signed, "", _plain(one.in_words())])


def _plain(text: str) -> str:
    """Names as they are, not as Markdown or HTML."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>()#+-.!|$~" else letter for letter in text)
