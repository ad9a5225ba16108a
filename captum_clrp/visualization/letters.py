"""Text that can be drawn: letters that the default font lacks come from other fonts of the computer, where one has them."""

from __future__ import annotations

import contextlib
import functools
import logging
import unicodedata
from dataclasses import dataclass, field

from matplotlib import rcParams
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

from captum_clrp.errors import warn

MISSING = "?"
"""Stands for letters that no font has."""


@dataclass(frozen=True)
class Lettered:
    """A text and the fonts that have its letters.

    Attributes:
        text: With :data:`MISSING` for each run of letters that cannot be drawn.
        families: Names of fonts for matplotlib, the first that has a letter draws it.
        complete: Whether all letters can be drawn.
    """

    text: str
    families: list[str] = field(default_factory=lambda: list(rcParams["font.family"]))
    complete: bool = True


def lettered(text: str, weight: str = "normal") -> Lettered:
    """Find fonts for a text: the default one, and others of the computer for letters that it lacks, such as Chinese ones.

    Letters that no font has are replaced, with one warning. What has no shape of its own, such as joiners between emoji, is
    left out where the font does not have it.

    Args:
        text: What is to be drawn.
        weight: ``"normal"`` or ``"bold"``.
    """
    default = rcParams["font.family"]
    further: dict[str, None] = {}
    drawn: list[str] = []
    complete = True
    for letter in text.encode("utf-8", "replace").decode():  # names of files may hold halves of letters
        family = "" if letter == "\n" or _has(tuple(default), weight, letter) else _family(letter, weight)
        if family is not None:
            drawn.append(letter)
            further |= {family: None} if family else {}
        elif unicodedata.category(letter) not in _SHAPELESS:
            complete = False
            drawn += [] if drawn and drawn[-1] == MISSING else [MISSING]
    if not complete:
        _tell()
    return Lettered("".join(drawn), [*default, *further], complete)


@functools.cache
def _tell() -> None:
    """Once: a page draws many figures."""
    warn(
        "some letters are drawn as ? because no font of this computer has them; install a font that does, such as Noto Sans "
        "CJK for Chinese, Japanese and Korean"
    )


_SHAPELESS = ("Cc", "Cf", "Mn", "Me")


@functools.cache
def _has(families: tuple[str, ...], weight: str, letter: str) -> bool:
    path = findfont(FontProperties(family=list(families), weight=weight))
    return bool(get_font(path).get_char_index(ord(letter)))


@functools.cache
def _family(letter: str, weight: str) -> str | None:
    """A font that has the letter: one without serifs rather than another."""
    _look_for_new_fonts()
    # LastResort has boxes for all letters.
    real = {entry.name for entry in fontManager.ttflist if "LastResort" not in entry.fname}
    names = sorted(real, key=lambda name: ("Sans" not in name, name))
    return next((name for name in names if _has((name,), weight, letter)), None)


@functools.cache
def _look_for_new_fonts() -> None:
    """Let matplotlib know fonts that were installed after it made its list, which it keeps for good."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            with contextlib.suppress(Exception):  # bitmaps, damaged files: not for matplotlib
                fontManager.addfont(path)
    # Few fonts come in all weights, and matplotlib would complain of each name that is not drawn as bold as others.
    logging.getLogger("matplotlib.font_manager").addFilter(lambda record: "find font weight" not in str(record.msg))
