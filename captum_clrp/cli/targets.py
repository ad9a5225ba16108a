"""Which classes to explain, as people write them: names, indices, or the network's own favourites."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from captum_clrp.classifiers import imagenet_class_names, imagenet_wnids
from captum_clrp.cli.errors import CommandError
from captum_clrp.errors import nearest, warn

MOST_CLASSES = 20
"""Rows that one picture may have."""


@dataclass(frozen=True)
class Top:
    """The leading classes, so many."""

    count: int


@dataclass(frozen=True)
class Targets:
    """Class indices, and leading classes, in the order in which they were asked for."""

    wanted: tuple[int | Top, ...]

    def of(self, ranking: Sequence[int]) -> list[int]:
        """Class indices for an image, without repetition.

        Args:
            ranking: All classes of the network, the highest logit first.
        """
        found: list[int] = []
        for one in self.wanted:
            found.extend(ranking[: one.count] if isinstance(one, Top) else [one])
        return list(dict.fromkeys(found))


def parse_targets(text: str, class_names: Sequence[str]) -> Targets:
    """Read a list such as ``zebra, African elephant``, ``340,386``, ``top3`` or ``top1,zebra``.

    WordNet numbers such as ``n02391049`` name classes of ILSVRC2012. Names are compared without regard to upper case (unless two
    classes differ by it alone: a Cardigan is a dog, a cardigan is not), and underscores stand for spaces.

    Raises:
        CommandError: for a name that no class or more than one has, an index out of range, or too many classes.
    """
    wanted = tuple(_one(part.strip(), class_names) for part in text.split(",") if part.strip())
    rows = sum(one.count if isinstance(one, Top) else 1 for one in wanted)
    if not wanted:
        raise CommandError(f"--target {text!r} names no class; give names, indices or top2")
    if rows > MOST_CLASSES:
        raise CommandError(f"--target asks for {rows} classes; one picture shows at most {MOST_CLASSES}")
    return Targets(wanted)


def _one(part: str, class_names: Sequence[str]) -> int | Top:
    count = len(class_names)
    if leading := re.fullmatch(r"top([0-9]+)", part, re.IGNORECASE):
        top = Top(int(leading[1]))
        if not 1 <= top.count <= count:
            raise CommandError(
                f"--target {part}: the network has {count} classes; give top1 to top{min(count, MOST_CLASSES)}"
            )
        return top
    if re.fullmatch(r"[+-]?[0-9]+", part):
        if not 0 <= int(part) < count:
            raise CommandError(f"class index {part} is out of range; the network has classes 0 to {count - 1}")
        return int(part)
    if part in imagenet_wnids() and tuple(class_names) == imagenet_class_names():
        return imagenet_wnids().index(part)
    plain = _plain(part)
    exact = [index for index, name in enumerate(class_names) if name == part]
    found = exact or [index for index, name in enumerate(class_names) if _plain(name) == plain]
    if len(found) == 1:
        alike = [name for name in class_names if plain in _plain(name).split() and _plain(name) != plain]
        if alike:
            warn(f"{part!r} is class {found[0]}, {class_names[found[0]]}; there are also {', '.join(alike[:5])}")
        return found[0]
    if found:
        indices = " or ".join(map(str, found))
        raise CommandError(f"several classes are called {part!r}; give the index {indices}")
    close = nearest(plain, class_names)
    hint = f"the nearest names are: {', '.join(close)}" if close else "no name is like it; give a class index, or top2"
    raise CommandError(f"the network has no class {part!r}; {hint}")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())
