"""What the page shows, on a network small enough to be asked many times."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.classifiers import tiny_classifier
from PIL import Image
from torchvision import transforms

from captum_clrp import ContrastiveLRP, LRPZBeta
from captum_clrp.app import explore, explorer
from captum_clrp.app.explorer import Explorer, MapSettings
from captum_clrp.classifiers import Classifier, load_classifier
from captum_clrp.cli.explained import Drawing
from captum_clrp.contrast import OtherClasses, TheseClasses
from captum_clrp.errors import InvalidInputError, InvalidTargetError

NAMES = ("zebra", "elephant", "cat", "cup", "crane")


@pytest.fixture
def tiny() -> Classifier:
    return tiny_classifier(NAMES)


@pytest.fixture
def photograph() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.fixture
def passes(tiny: Classifier) -> list[int]:
    """Grows with every run of the network."""
    seen: list[int] = []
    tiny.model[0].register_forward_hook(lambda *_: seen.append(1))
    return seen


def maps_of(one: explorer.ExplainedPicture) -> np.ndarray:
    (maps,) = one.maps.values()
    return maps


def test_leading_classes_have_the_softmax_of_the_logits(tiny: Classifier, photograph: Image.Image) -> None:
    found = Explorer(tiny).top(photograph, 3)
    expected, order = tiny.model(tiny.inputs(photograph))[0].softmax(0).topk(3)
    assert [index for index, _ in found] == order.tolist()
    np.testing.assert_allclose([chance for _, chance in found], expected.detach(), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        (MapSettings("lrp"), lambda m, low, high: LRPZBeta(m, low, high)),
        (MapSettings("clrp1"), lambda m, low, high: ContrastiveLRP(m, low, high, dual=OtherClasses())),
        (
            MapSettings("clrp1", rather_than=(3, 4), strength=0.5, avg_pool="even", conserve=True),
            lambda m, low, high: ContrastiveLRP(
                m, low, high, dual=TheseClasses([3, 4]), strength=0.5, avg_pool="even", conserve=True
            ),
        ),
    ],
)
def test_maps_are_those_of_the_library(
    tiny: Classifier, photograph: Image.Image, settings: MapSettings, method: Callable[..., LRPZBeta]
) -> None:
    found = maps_of(Explorer(tiny).explain(photograph, [0, 2], settings))
    by_hand = method(tiny.model, tiny.low, tiny.high)
    for k, index in enumerate((0, 2)):
        expected = by_hand.attribute(tiny.inputs(photograph), index)[0]
        np.testing.assert_allclose(found[k], expected, rtol=1e-4, atol=1e-7)


def test_one_forward_pass_explains_all_classes_and_what_is_known_is_not_asked_again(
    tiny: Classifier, photograph: Image.Image, passes: list[int]
) -> None:
    asked = Explorer(tiny)
    asked.top(photograph)
    before = len(passes)
    first = maps_of(asked.explain(photograph, [0, 1, 2], MapSettings()))
    assert len(passes) == before + 1
    again = maps_of(asked.explain(photograph.copy(), [2, 0], MapSettings()))
    assert len(passes) == before + 1
    np.testing.assert_array_equal(again, first[[2, 0]])
    asked.explain(photograph, [0], MapSettings(conserve=True))
    assert len(passes) == before + 2
    asked.explain(photograph.rotate(90), [0], MapSettings())
    assert len(passes) == before + 4  # its logits, its map


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_convnext"])
def test_transformers_and_convnexts_are_explored(name: str, photograph: Image.Image) -> None:
    pytest.importorskip("timm")
    asked = Explorer(load_classifier(name, "random"))
    classes = [index for index, _ in asked.top(photograph, 2)]
    for settings in (MapSettings("lrp"), MapSettings("clrp1", strength=0.9), MapSettings("clrp2")):
        one = asked.explain(photograph, classes, settings)
        assert np.isfinite(maps_of(one)).all() and np.abs(maps_of(one)).max() > 0
        pictures = explorer.compared(one, Drawing())
        assert np.asarray(pictures[0]).std() > 0 and len(explorer.at(one, 3, 3)) == 2
        assert "rules auto (gamma)" in one.in_words()
    assert "composite: gamma" in asked.plan(photograph, settings)


def test_few_maps_are_kept(tiny: Classifier, photograph: Image.Image, passes: list[int]) -> None:
    asked = Explorer(tiny, kept=3)
    asked.explain(photograph, [0, 1, 2, 3, 4], MapSettings())
    before = len(passes)
    asked.explain(photograph, [0], MapSettings())
    assert len(passes) > before


def test_shares_of_a_place_are_of_the_map_there(tiny: Classifier, photograph: Image.Image) -> None:
    one = Explorer(tiny).explain(photograph, [0, 2], MapSettings("lrp"))
    for place, relevance in zip(explorer.at(one, 5, 7), maps_of(one).astype(float).sum(1), strict=True):
        cross = relevance[7, 5] + relevance[6, 5] + relevance[8, 5] + relevance[7, 4] + relevance[7, 6]
        assert place.relevance == pytest.approx(cross, rel=1e-6)
        assert place.share == pytest.approx(cross / np.abs(relevance).sum(), rel=1e-6)


def test_text_says_sum_and_what_was_absorbed(tiny: Classifier, photograph: Image.Image) -> None:
    one = Explorer(tiny).explain(photograph, [2], MapSettings("lrp"))
    text = explorer.told(one)
    assert f"sum {maps_of(one).sum():.3g}" in text
    assert "absorbed" in text
    contrast = explorer.told(Explorer(tiny).explain(photograph, [2], MapSettings(strength=0.7)))
    by_hand = ContrastiveLRP(tiny.model, *tiny.bounds, dual=OtherClasses(), strength=0.7)
    both = by_hand.attribute(tiny.inputs(photograph), 2, relu_attributions=False)
    score = float(tiny.model(tiny.inputs(photograph))[0, 2])
    assert f"signed {float(both.sum()) / abs(score):.1%}" in contrast
    assert "absorbed" not in contrast
    assert "**cat**" in text


def test_compared_pictures_are_of_the_two_classes(tiny: Classifier, photograph: Image.Image) -> None:
    asked, drawing = Explorer(tiny), Drawing(smooth=0)
    left, right = explorer.compared(asked.explain(photograph, [0, 2], MapSettings()), drawing)
    assert left.size == right.size == (16, 16)
    assert (np.asarray(left) != np.asarray(right)).any()
    alone, _ = explorer.compared(asked.explain(photograph, [2], MapSettings()), drawing)
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(transforms.ToPILImage()(tiny.prepare(photograph))))


def test_python_lines_make_the_same_maps(
    tiny: Classifier, photograph: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photograph.save("a.png")
    asked, settings = Explorer(tiny, "tiny"), MapSettings(rather_than=(3,), strength=0.75, conserve=True)
    names: dict[str, object] = {"tiny": tiny}
    exec(asked.code([0, 2], settings, Drawing(opacity=0.5), "a.png"), names)
    expected = maps_of(asked.explain(photograph, [0, 2], settings))
    np.testing.assert_array_equal(np.asarray(names["maps"]), expected)
    assert Image.open("2.png").width > 100


def test_files_hold_the_picture_and_the_maps(tiny: Classifier, photograph: Image.Image) -> None:
    one = Explorer(tiny).explain(photograph, [0, 2], MapSettings())
    assert Image.open(io.BytesIO(one.picture(Drawing(), ".png"))).format == "PNG"
    with np.load(io.BytesIO(one.archive()), allow_pickle=False) as archive:
        np.testing.assert_allclose(archive["maps"][:, 0], maps_of(one).sum(1), rtol=1e-5, atol=1e-9)


def test_plan_lists_the_operations(tiny: Classifier, photograph: Image.Image) -> None:
    assert "linear" in Explorer(tiny).plan(photograph, MapSettings())


def test_requests_that_cannot_be_met_are_refused(tiny: Classifier, photograph: Image.Image) -> None:
    asked = Explorer(tiny)
    with pytest.raises(InvalidInputError, match="0 classes are chosen; choose 1 to 8"):
        asked.explain(photograph, [], MapSettings())
    with pytest.raises(InvalidInputError, match="unknown method 'magic'"):
        asked.explain(photograph, [0], MapSettings("magic"))
    with pytest.raises(InvalidTargetError):
        asked.explain(photograph, [0], MapSettings(rather_than=(0,)))


def test_errors_of_uploads_name_the_file_and_not_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photograph: Image.Image
) -> None:
    path = tmp_path / "x1"
    path.write_bytes(b"nonsense")
    with pytest.raises(InvalidInputError, match=r"^holiday\.png is no picture") as caught:
        explorer.uploaded(path, "holiday.png")
    assert str(tmp_path) not in str(caught.value)
    photograph.save(path, "PNG")
    np.testing.assert_array_equal(np.asarray(explorer.uploaded(path, "holiday.png")), np.asarray(photograph))
    monkeypatch.setattr(explorer, "MOST_PIXELS", 400)
    with pytest.raises(InvalidInputError, match=r"^holiday\.png has 24 x 20 pixels"):
        explorer.uploaded(path, "holiday.png")


def test_a_network_without_a_known_preprocessing_is_told_what_to_pass(tiny: Classifier) -> None:
    with pytest.raises(InvalidInputError, match="pass captum_clrp"):
        explore(tiny.model)
