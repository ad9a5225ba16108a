"""What is known of a picture once it is explained, and each form in which it is handed out: figure, text, JSON, maps."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_clrp.classifiers import Classifier
from captum_clrp.cli.output import MARK
from captum_clrp.geometry import Geometry
from captum_clrp.methods import Method
from captum_clrp.visualization import OVERLAID, Row, draw_maps, encoded, laid_back, seen_part
from captum_clrp.visualization.letters import lettered

_UNLIKELY = 0.001
_SHOWN = 5
"""Predictions printed for each picture, besides the classes that are explained."""
_SMOOTH = 3.0
"""Standard deviation, in pixels of the network's input, of the blur under which maps lie on a photograph."""


def percent(chance: float | Tensor) -> str:
    """A probability in words."""
    return f"{100 * float(chance):.1f} %"


@dataclass(frozen=True)
class Drawing:
    """How figures are drawn.

    Attributes:
        style, sign: As for :func:`captum_clrp.visualization.draw_maps`.
        smooth: In pixels of the network's input; ``None`` for a little where map and photograph lie on each other.
        whole: Whether maps are laid back on the whole photograph.
        opacity: Opacity of the colours of an overlay, from 0 to 1.
    """

    style: Any = "overlay"
    sign: Any = "signed"
    smooth: float | None = None
    whole: bool = False
    opacity: float = 1.0

    @property
    def sigma(self) -> float:
        """How much maps are smoothed, in pixels of the network's input."""
        return self.smooth if self.smooth is not None else _SMOOTH if self.style in OVERLAID else 0.0

    def in_words(self) -> str:
        """How figures are drawn, for their metadata."""
        smoothed = f", smoothed with a Gaussian of {self.sigma:g} pixels of the network's input" if self.sigma else ""
        return f"drawn as {self.style}, {self.sign}{smoothed}"


@dataclass(frozen=True)
class ExplainedPicture:
    """A picture with its maps.

    Attributes:
        name: What the picture is called.
        photograph: The picture as it came.
        pixels: What the network saw, ``(3, H, W)`` in [0, 1].
        classifier: The network.
        logits: Its output, ``(K,)``.
        classes: The classes that are explained.
        relevance: For each method, by name, a map of each class: ``(len(classes), C, H, W)``; of contrasts with both signs.
        methods: What each method is; ``None`` for one that is no relevance, such as a gradient.
        composites: The composite by which each method of relevance went, by the method's name.
        bounds: The domain of the first layer's input: ``"pixels"`` for all pixel values, ``"image"`` for the picture's own.
    """

    name: str
    photograph: Image.Image
    pixels: Tensor
    classifier: Classifier
    logits: Tensor
    classes: Sequence[int]
    relevance: dict[str, NDArray[np.float32]]
    methods: Mapping[str, Method | None]
    composites: Mapping[str, str]
    bounds: str = "pixels"

    @functools.cached_property
    def contrasts(self) -> list[str]:
        """The methods of whose maps negative values are cut away before they are shown."""
        return [name for name, method in self.methods.items() if method is not None and method.dual is not None]

    @functools.cached_property
    def maps(self) -> dict[str, NDArray[np.float32]]:
        """What is shown for each method: ``(len(classes), C, H, W)``."""
        return {name: one.clip(min=0) if name in self.contrasts else one for name, one in self.relevance.items()}

    @property
    def title(self) -> str:
        """The file's name without its folder."""
        return Path(self.name).name

    @property
    def chances(self) -> Tensor:
        """Probabilities of all classes."""
        return self.logits.softmax(0)

    def rows(self) -> list[Row]:
        """The classes, with what became of their scores."""
        found = []
        for k, index in enumerate(self.classes):
            score = float(self.logits[index])
            maps = [of_method[k] for of_method in self.maps.values()]
            sums = {name: float(one[k].sum(dtype=np.float64)) for name, one in self.relevance.items()}
            absorbed = [score - total if self._arrived(name) else None for name, total in sums.items()]
            signed = [total if name in self.contrasts else None for name, total in sums.items()]
            detail = f"probability {percent(self.chances[index])}, logit {score:.2f}"
            label = self.classifier.class_name(index)
            detail = detail if lettered(label, "bold").complete else f"class {index}, {detail}"
            remark = "; ".join([*self._unlikely(index), *self._empty(maps)])
            found.append(Row(label, maps, detail, remark, score, absorbed, signed))
        return found

    def shares_score(self, name: str) -> bool:
        """Whether the values of a method are shares of the score, as those of a gradient are not.

        Args:
            name: The method.
        """
        method = self.methods[name]
        return method is not None and method.shares_score

    def _arrived(self, name: str) -> bool:
        """Whether a map is all of the relevance that arrived: that of LRP without a contrast."""
        method = self.methods[name]
        return method is not None and method.dual is None

    def shares(self, row: Row, name: str) -> dict[str, float | None]:
        """What became of the score of a class, as shares of it; ``None`` where that cannot be said.

        Args:
            row: The class.
            name: The method.
        """
        known = row.shares(list(self.maps).index(name)) if self.shares_score(name) else {}
        keys = {"sum": "share", "absorbed": "absorbed_share", "signed": "signed_share"}
        return {key: known.get(what) for what, key in keys.items()}

    def account(self, row: Row, name: str) -> str:
        """What became of the score of a class, in a few words.

        Args:
            row: The class.
            name: The method.
        """
        return row.account(list(self.maps).index(name), self.shares_score(name))

    def _unlikely(self, index: int) -> list[str]:
        """Why a map of the class may mislead."""
        if self.logits[index] == 0:
            return ["has a score of 0: there is no relevance to be shared out"]
        if self.logits[index] > 0 and self.chances[index] >= _UNLIKELY:
            return []
        why = "has a negative score" if self.logits[index] < 0 else "has a probability below 0.1 %"
        return [f"{why}: a contrast then shows the strongest evidence for the class, not that it is there"]

    def _empty(self, maps: Sequence[NDArray[np.float32]]) -> list[str]:
        """Why nothing is left of contrasts."""
        empty = [name for name, one in zip(self.maps, maps, strict=True) if name in self.contrasts and not one.any()]
        if not empty:
            return []
        said = "nothing has more relevance for the class than for what it is contrasted with; conserve compares equal totals"
        return [f"is zero everywhere by {', '.join(empty)}: {said}"]

    @functools.cached_property
    def settings(self) -> dict[str, dict[str, Any] | None]:
        """How each method propagates relevance; ``None`` for one that does not."""
        return {
            name: None
            if method is None
            else {
                **method.settings,
                "composite": self.composites[name],
                "strength": None if method.dual is None else method.strength,
                "bounds": self.bounds,
            }
            for name, method in self.methods.items()
        }

    def common(self) -> dict[str, Any]:
        """Those of the settings in which all methods of relevance agree."""
        first, *others = [one for one in self.settings.values() if one is not None] or [{}]
        return {key: value for key, value in first.items() if all(one[key] == value for one in others)}

    def in_words(self) -> str:
        """Network, weights and settings, those of each method where they differ."""
        alike: dict[str, list[str]] = {}
        for name, settings in self.settings.items():
            if settings is not None:
                alike.setdefault(_in_words(settings), []).append(name)
        said = [f"{', '.join(names)}: {words}" if len(alike) > 1 else words for words, names in alike.items()]
        return "; ".join([f"{self.classifier.name}, weights: {self.classifier.weights}", *said])

    def figure(self, drawing: Drawing) -> Figure:
        """Classes beside methods.

        Args:
            drawing: How.
        """
        rows = self.rows()
        look: dict[str, Any] = {"style": drawing.style, "sign": drawing.sign, "opacity": drawing.opacity}
        look["unit"] = ["logit" if self.shares_score(name) else "" for name in self.maps]
        title, settings = self.title, self.in_words()
        if not drawing.whole:
            return draw_maps(
                self.pixels, list(self.maps), rows, title=title, settings=settings, smooth=drawing.sigma, **look
            )
        geometry = Geometry.of(self.classifier.prepare)
        size = self.photograph.size
        whole = [replace(row, maps=[laid_back(one, geometry, size) for one in row.maps]) for row in rows]
        seen = seen_part(geometry, size)
        larger = (seen.right - seen.left) / self.pixels.shape[-1]
        return draw_maps(
            self.photograph,
            list(self.maps),
            whole,
            title=title,
            settings=settings,
            smooth=round(drawing.sigma * larger, 1),
            seen=seen,
            **look,
        )

    def picture(self, drawing: Drawing, kind: str) -> bytes:
        """The figure as a file, which says in its metadata what it shows.

        Args:
            drawing: How it is drawn.
            kind: The ending of the file's name.
        """
        told = "; ".join([self.in_words(), drawing.in_words(), *map(self._told, self.rows())])
        return encoded(self.figure(drawing), kind, title=self.title, description=told)

    def _told(self, row: Row) -> str:
        sums = ", ".join(f"{name} {self.account(row, name)}" for name in self.maps)
        return f"{row.label}: {row.detail}, {sums}" + (f"; {row.label} {row.remark}" if row.remark else "")

    def text(self) -> str:
        """What the command prints: the leading classes, those explained marked, and what became of their scores."""
        leading = self.logits.argsort(descending=True)[:_SHOWN].tolist()
        shown = leading + [index for index in self.classes if index not in leading]
        names = {index: self.classifier.class_name(index) for index in shown}
        width = max(map(len, names.values()))
        told = [self.name]
        told += [
            f"  {'*' if index in self.classes else ' '} {name:{width}s} {index:5d}"
            f"  probability {percent(self.chances[index]):>7s}  logit {self.logits[index]:7.2f}"
            for index, name in names.items()
        ]
        for row in self.rows():
            told += [f"    {row.label}: {name} {self.account(row, name)}" for name in self.maps]
            if row.remark:
                told.append(f"    {row.label} {row.remark}")
        return "\n".join(told)

    def facts(self) -> dict[str, Any]:
        """What a program may want to know, ready for JSON."""
        rows = self.rows()
        return {
            "image": self.name,
            "model": self.classifier.name,
            "weights": self.classifier.weights,
            "settings": self.common(),
            "methods": self.settings,
            "top": [self._class(index) for index in self.logits.argsort(descending=True)[:_SHOWN].tolist()],
            "classes": [
                self._class(index)
                | {"remark": row.remark or None}
                | {
                    "methods": {
                        name: {"sum": row.total(m), "absorbed": row.absorbed[m], "signed": row.signed[m]}
                        | self.shares(row, name)
                        for m, name in enumerate(self.maps)
                    }
                }
                for index, row in zip(self.classes, rows, strict=True)
            ],
        }

    def _class(self, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "name": self.classifier.class_name(index),
            "probability": float(self.chances[index]),
            "logit": float(self.logits[index]),
        }

    def archive(self) -> bytes:
        """The maps as a file of numpy, ``.npz``: ``maps`` ``(K, M, H, W)``, summed over channels, and what belongs to them."""
        maps = np.stack([of_method.sum(1) for of_method in self.maps.values()], axis=1)
        classes = list(self.classes)
        file = io.BytesIO()
        arrays: dict[str, Any] = {
            "maps": maps,
            "methods": np.array(list(self.maps)),
            "classes": np.array(classes),
            "names": np.array([self.classifier.class_name(index) for index in classes]),
            "logits": self.logits[classes].numpy(),
            "probabilities": self.chances[classes].numpy(),
            "photograph": (self.pixels.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(),
            MARK: np.array(json.dumps(self.facts())),
        }
        np.savez_compressed(file, **arrays)
        return file.getvalue()


def _in_words(settings: dict[str, Any]) -> str:
    chosen = {"avg_pool": "average pooling", "conserve": "conserve", "bounds": "bounds"}
    chosen |= {"precision": "precision"} if settings["precision"] != "float32" else {}
    rules, taken = settings["rules"], settings["composite"]
    told = [f"rules {rules}" if rules == taken else f"rules {rules} ({taken})"]
    return ", ".join([*told, *(f"{word} {_word(settings[key])}" for key, word in chosen.items())])


def _word(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
