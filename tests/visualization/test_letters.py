"""Letters that the default font lacks, with a font made here that has two of them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from captum_clrp.visualization import FORMATS, draw_map, encoded, letters
from captum_clrp.visualization.letters import lettered

CAT, TIGER, DOG = "\u732b", "\u864e", "\u72ac"
UNICORN, TAG = "\U0001f984", "\U000e0061"
ARABIC = "\u0642\u0637\u0629"


@pytest.fixture(autouse=True)
def only_fonts_of_matplotlib(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever fonts the computer has."""
    own = [entry for entry in fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(letters, "findSystemFonts", list)
    forget()
    yield
    monkeypatch.undo()
    forget()


def forget() -> None:
    for kept in (letters._has, letters._family, letters._look_for_new_fonts, letters._tell):
        kept.cache_clear()
    fontManager._findfont_cached.cache_clear()


@pytest.fixture
def font(tmp_path: Path) -> Path:
    """A font in which a cat and a tiger are black squares, in one weight that is not bold."""
    names = [".notdef", "cat", "tiger"]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    built = FontBuilder(1000, isTTF=True)
    built.setupGlyphOrder(names)
    built.setupCharacterMap({ord(CAT): "cat", ord(TIGER): "tiger"})
    built.setupGlyf(dict.fromkeys(names, square))
    built.setupHorizontalMetrics(dict.fromkeys(names, (900, 0)))
    built.setupHorizontalHeader(ascent=800, descent=-200)
    built.setupNameTable({"familyName": "Two Animals Sans", "styleName": "Regular"})
    built.setupOS2()
    built.setupPost()
    path = tmp_path / "animals.ttf"
    built.save(path)
    return path


def test_a_font_that_was_installed_later_has_the_letters(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "findSystemFonts", lambda: [str(font)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lettered(f"Katze {CAT}{TIGER} {ARABIC}", "bold")
    assert found.text == f"Katze {CAT}{TIGER} {ARABIC}"
    assert found.complete
    assert found.families[-1] == "Two Animals Sans"
    assert lettered("Katze \u00e9").families == found.families[:-1]


def test_letters_that_no_font_has_are_question_marks_with_one_warning(
    font: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "findSystemFonts", lambda: [str(font)])
    with pytest.warns(UserWarning, match="no font of this computer has them") as told:
        found, _ = (lettered(text) for text in (f"{CAT} {DOG}{DOG} {UNICORN} \udcff", UNICORN))
    assert len(told) == 1
    assert (found.text, found.complete) == (f"{CAT} ? ? ?", False)


def test_what_has_no_shape_is_left_out() -> None:
    found = lettered(f"a{TAG}b")
    assert (found.text, found.complete) == ("ab", True)


def drawn(label: str, kind: str = "png") -> bytes:
    figure = draw_map(np.ones((8, 8)), label=label, settings=label, style="heatmap")
    return encoded(figure, kind, title=label, description=label)


def dark(picture: bytes) -> int:
    """Black pixels of the headline."""
    return int((np.asarray(Image.open(io.BytesIO(picture)).convert("L"))[:60] < 60).sum())


def test_figures_have_the_letters_of_the_other_font(
    font: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(letters, "findSystemFonts", lambda: [str(font)])
    one, two = dark(drawn(f"a {CAT}")), dark(drawn(f"a {CAT}{TIGER}"))
    square = (0.8 * 13 / 72 * 150) ** 2
    assert two - one == pytest.approx(square, rel=0.15)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", FORMATS)
def test_figures_without_the_letters_say_so_in_every_format(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning) as told:
        content = drawn(f"{CAT} {UNICORN} {ARABIC} \udcff $x_$", kind)
    assert len(told) == 1
    assert len(content) > 1000
    assert capfd.readouterr().err == ""
    figure = draw_map(np.ones((8, 8)), label=CAT, style="heatmap")
    assert any("? stands for letters that no font" in text.get_text().replace("\n", " ") for text in figure.texts)
