"""Figures by their content: artists, colours at known places, texts within the canvas."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.geometry import Box
from captum_clrp.visualization import Row, draw_map, draw_maps, encoded, overlaid

SIDE = 40
GREY = np.full((SIDE, SIDE, 3), 0.5)
STYLES = ("overlay", "heatmap", "contour", "masked", "side-by-side")


def halves(left: float, right: float) -> np.ndarray:
    """A map with one value in its left half and one in its right, zero along the edge."""
    values = np.zeros((SIDE, SIDE))
    values[4:-4, 4 : SIDE // 2], values[4:-4, SIDE // 2 : -4] = left, right
    return values


def redness(pixels: np.ndarray) -> float:
    """How much more red than blue there is, on average."""
    return float((pixels[..., 0].astype(float) - pixels[..., 2]).mean())


def sides(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inner parts of the left and of the right half."""
    return pixels[8:-8, 8:16], pixels[8:-8, 24:32]


def labelled(figure, label):
    return next(axes for axes in figure.axes if axes.get_label() == label)


def drawn_values(figure, label):
    return np.asarray(labelled(figure, label).images[-1].get_array())


@pytest.mark.parametrize("style", ["overlay", "heatmap"])
def test_red_is_for_the_class_and_blue_against_it(style):
    left, right = sides(overlaid(halves(1, -1), GREY, style=style))
    assert redness(left) > 60
    assert redness(right) < -60


@pytest.mark.parametrize("brightness", [0.0, 0.5, 1.0])
def test_an_overlay_is_seen_on_dark_and_light_photographs_and_leaves_the_rest_alone(brightness):
    picture = np.full((SIDE, SIDE, 3), brightness)
    left, right = sides(overlaid(halves(1, 0), picture))
    assert redness(left) > 100
    assert redness(right) == 0
    assert np.ptp(right) == 0


def test_the_photograph_shines_through_where_there_is_little():
    stripes = np.tile(np.array([0.1, 0.1, 0.9, 0.9])[:, None, None], (SIDE // 4, SIDE, 3))
    values = halves(1, 0.2)
    left, right = sides(overlaid(values, stripes, scale=1.0))
    assert np.ptp(right[..., 1].astype(float)) > 3 * np.ptp(left[..., 1].astype(float))


@pytest.mark.parametrize(("sign", "red", "blue"), [("positive", True, False), ("negative", False, True)])
def test_one_sign_alone(sign, red, blue):
    left, right = sides(overlaid(halves(1, -1), GREY, sign=sign, style="heatmap"))
    assert (redness(left) > 60) == red
    assert (redness(right) < -60) == blue


def test_the_absolute_value_has_one_colour_on_both_sides():
    left, right = sides(overlaid(halves(1, -1), GREY, sign="absolute"))
    np.testing.assert_array_equal(left, right)


def test_a_masked_photograph_shows_what_is_relevant_and_else_white():
    picture = np.broadcast_to([0.2, 0.4, 0.6], (SIDE, SIDE, 3))
    left, right = sides(overlaid(halves(1, 0), picture, style="masked"))
    np.testing.assert_allclose(left, np.broadcast_to([51, 102, 153], left.shape), atol=1)
    assert (right == 255).all()


def test_contours_run_around_what_is_relevant_and_the_photograph_stays():
    values = halves(1, 0)
    pixels = overlaid(values, GREY, style="contour", smooth=1)
    inside, outside = pixels[16:24, 10:12], pixels[8:-8, 28:36]
    assert abs(redness(inside)) <= 1
    assert abs(redness(outside)) <= 1
    edge = pixels[16:24, 18:23]
    assert redness(edge) > 20
    assert redness(overlaid(-values, GREY, style="contour", smooth=1)[16:24, 18:23]) < -20


def test_side_by_side_has_the_photograph_unchanged_on_the_left():
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels = overlaid(halves(1, -1), picture, style="side-by-side")
    np.testing.assert_array_equal(pixels[:, :SIDE], picture)
    np.testing.assert_array_equal(pixels[:, SIDE:], overlaid(halves(1, -1), picture, style="heatmap"))


def test_a_bare_picture_is_as_large_as_its_photograph():
    values = np.zeros((31, 57))
    values[20, 40] = 1
    pixels = overlaid(values, np.zeros((31, 57, 3)))
    assert pixels.shape == (31, 57, 3)
    found = np.argwhere(pixels[..., 0] > 100)
    assert found.tolist() == [[20, 40]]


def test_classes_share_the_scale_of_their_method_and_methods_do_not():
    rows = [Row("much", [halves(4, 4), halves(9, 0)]), Row("little", [halves(1, 1), halves(0, 9)])]
    figure = draw_maps(GREY, ["LRP", "CLRP1"], rows)
    limits = {
        name: labelled(figure, f"map of {name}").images[-1].get_clim()
        for name in ("much LRP", "little LRP", "much CLRP1")
    }
    assert limits == {"much LRP": (-4, 4), "little LRP": (-4, 4), "much CLRP1": (-9, 9)}
    np.testing.assert_allclose(drawn_values(figure, "map of little LRP"), halves(1, 1))  # in the unit of the score


def test_few_pixels_beyond_the_scale_do_not_bleach_the_rest():
    values = halves(1, 1)
    values[20, 20] = 5  # 0.6 % of the relevance
    assert labelled(draw_map(values, GREY), "map of").images[-1].get_clim() == (-1, 1)


def test_the_bar_has_the_values_of_the_map_and_no_negative_half_without_negative_values():
    bar = labelled(draw_map(halves(0.25, 0.5), style="heatmap"), "colour bar")
    assert bar.get_xlim() == (0, 0.5)
    bar = labelled(draw_map(halves(0.25, -0.5), style="heatmap"), "colour bar")
    assert bar.get_xlim() == (-0.5, 0.5)
    tiny = labelled(draw_map(halves(3e-6, 5e-6), style="heatmap", unit="logit"), "colour bar")
    assert tiny.get_xlabel() == "relevance of a pixel, logit in $10^{-6}$"


def test_what_became_of_the_score_is_said():
    row = Row("zebra", [halves(0.001, 0), halves(0, 0)], score=2.0, absorbed=[1.488, None])
    assert row.account(0) == "sum 0.512 (25.6% of score), 74% absorbed"
    assert row.account(1) == "sum 0 (0.0% of score)"
    assert Row("zebra", [halves(0.001, 0)]).account(0) == "sum 0.512"
    contrast = Row("zebra", [halves(0.001, 0)], score=-2.0, absorbed=[None], signed=[-0.25])
    assert contrast.account(0) == "sum 0.512 (25.6% of score), signed -12.5%"
    assert contrast.account(0, share=False) == "sum 0.512 (no share of the score)"


@pytest.mark.parametrize(
    ("style", "count", "methods"),
    [
        ("overlay", 1, ["LRP"]),
        ("overlay", 5, ["LRP", "CLRP1", "a-method-with-a-very-long-name-that-goes-on"]),
        ("side-by-side", 2, ["LRP", "CLRP1"]),
        ("masked", 1, ["LRP"]),
    ],
)
def test_no_text_leaves_the_canvas_or_runs_into_another(style, count, methods):
    long = "a class whose name is longer than any that a sober person would think of, and then some more"
    rows = [
        Row(
            f"{long} {k}",
            [halves(1, -k)] * len(methods),
            "probability 0.0 %, logit -3.21",
            f"beware: {long}",
            -3.21,
            [1.0] * len(methods),
        )
        for k in range(count)
    ]
    figure = draw_maps(GREY, methods, rows, style=style, title="x" * 90 + ".jpg", settings=f"{long}; " * 4, smooth=1)
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    boxes += [axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_label() == "colour bar"]
    assert len(boxes) > 3 * count
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            overlap = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
            assert min(overlap) < 3, "two texts lie on each other"


def test_the_class_is_the_largest_text_and_above_its_maps():
    figure = draw_maps(GREY, ["LRP", "CLRP1"], [Row("zebra", [halves(1, 0)] * 2), Row("elephant", [halves(1, 0)] * 2)])
    texts = {text.get_text(): text for text in figure.texts}
    for name in ("zebra", "elephant"):
        assert texts[name].get_fontsize() == max(text.get_fontsize() for text in figure.texts)
        place = labelled(figure, f"map of {name} LRP").get_position()
        assert place.y1 < texts[name].get_position()[1] < place.y1 + 0.1


def test_a_white_photograph_has_a_frame():
    white = np.ones((SIDE, SIDE, 3))
    pixels = np.asarray(
        Image.open(io.BytesIO(encoded(draw_maps(white, ["LRP"], [Row("a", [halves(0, 0)])])))).convert("L")
    )
    assert ((pixels < 200).mean(1) > 0.5).sum() >= 2  # lines across


def test_what_the_network_did_not_see_is_dimmed():
    picture = np.zeros((SIDE, SIDE, 3))
    figure = draw_map(halves(1, 0), picture, style="masked", seen=Box(10, 0, 30, SIDE))
    covers = [
        patch for patch in labelled(figure, "map of").patches if patch.get_alpha() is not None and patch.get_width() > 0
    ]
    spans = {(p.get_x() + 0.5, p.get_width()) for p in covers if p.get_height() > 0}
    assert spans == {(0, 10), (30, 10)}


def test_nothing_is_said_to_be_nothing_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for style in STYLES:
            figure = draw_map(halves(0, 0), GREY, style=style)
            assert any(text.get_text() == "nothing" for axes in figure.axes for text in axes.texts)
            encoded(figure)


def test_opacity_mixes_the_colours_of_an_overlay_with_the_photograph():
    none, half, whole = (overlaid(halves(1, 0), GREY, opacity=share).astype(float) for share in (0, 0.5, 1))
    np.testing.assert_allclose(half, (none + whole) / 2, atol=1.5)
    assert np.ptp(none) == 0
    with pytest.raises(InvalidInputError, match="opacity=2 is no share"):
        overlaid(halves(1, 0), GREY, opacity=2)


def test_tiny_relevance_is_drawn_as_large_relevance_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny, large = (overlaid(size * halves(2, -1), GREY) for size in (1e-12, 1e6))
    np.testing.assert_array_equal(tiny, large)


def test_names_need_no_escaping():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded(draw_map(halves(1, 0), GREY, label=r"$\frac{a}$_"))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: draw_map(halves(1, 0)), "needs the photograph"),
        (lambda: draw_map(halves(1, 0), GREY, style="jet"), "style='jet' is not known; choose 'overlay'"),
        (lambda: draw_map(halves(1, 0), GREY, sign="both"), "sign='both' is not known"),
        (lambda: draw_map(halves(1, 0), GREY, cmap="viridiss"), "viridis"),
        (lambda: draw_map(halves(1, 0), GREY[:-1]), "the photograph 39 x 40"),
        (lambda: draw_maps(GREY, ["LRP", "CLRP1"], [Row("a", [halves(1, 0)])]), "1 maps of 'a' for 2 methods"),
        (lambda: draw_maps(GREY, ["LRP"], []), "at least one class"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, says):
    with pytest.raises(InvalidInputError, match=says):
        call()


def test_a_colour_map_by_name():
    assert labelled(draw_map(halves(1, 0), style="heatmap", cmap="PiYG"), "map of").images[-1].get_cmap().name == "PiYG"


@pytest.mark.parametrize(("width", "height"), [(9, 16), (20, 90), (90, 20), (40, 40)])
def test_maps_of_tall_photographs_are_wide_enough_for_their_letters(width, height):
    rows = [Row("zebra", [np.full((height, width), 1e-7)] * 2, "", "", 2.0, [0.1, None])]
    figure = draw_maps(np.full((height, width, 3), 0.5), ["CLRP1", "lrp-even"], rows)
    figure.canvas.draw()
    panel = labelled(figure, "map of zebra CLRP1").get_window_extent()
    assert panel.width / panel.height == pytest.approx(width / height, rel=1e-3)
    assert panel.width / figure.dpi > 1.5
    assert {"CLRP1", "lrp-even"} <= {text.get_text() for text in figure.texts}
    one, other = (axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_label() == "colour bar")
    assert one.x1 <= other.x0
