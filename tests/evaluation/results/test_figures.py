"""Figures by their content: what is drawn is what was measured, and no title leaves the canvas."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from captum_clrp.evaluation import drawing
from captum_clrp.evaluation.metrics import METRICS
from captum_clrp.evaluation.results import figures
from captum_clrp.evaluation.results.summary import CurveRow, Row, Summary

METHODS = ("random", "lrp", "clrp1-gamma-even-conserve")


def summary(metric):
    rows = [
        Row(q.name, method, 0.1 * k + 0.01 * j, 0.1 * k, 0.1 * k + 0.1, 5, 5, 0.0, 0.0, 0.0)
        for j, q in enumerate(metric.quantities)
        for k, method in enumerate(METHODS)
    ]
    curves = [
        CurveRow(c.name, method, list(c.x), [k / 10 + x / 2 for x in c.x], [0.0 for _ in c.x], [1.0 for _ in c.x])
        for c in metric.curves
        for k, method in enumerate(METHODS)
    ]
    made = {
        "model": "a_network_with_a_name_of_many_words",
        "data": "photographs from a folder with a name that is long",
    }
    return Summary(metric.name, metric.title, "", rows, curves, {"measured": 5, "total": 5}, {}, {}, made)


def laid_out(figure: Figure) -> Figure:
    """The figure, drawn once, so that everything has its place."""
    FigureCanvasAgg(figure).draw()
    return figure


def assert_inside(figure: Figure) -> None:
    """All texts lie on the canvas."""
    canvas = figure.bbox
    texts = [
        t for axes in figure.axes for t in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels())
    ]
    for text in [*texts, *figure.texts, *([figure._suptitle] if figure._suptitle else [])]:
        if text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= canvas.x0 - 1, text.get_text()
            assert box.x1 <= canvas.x1 + 1, text.get_text()
            assert box.y1 <= canvas.y1 + 1, text.get_text()


@pytest.mark.parametrize("name", list(METRICS))
def test_bars_are_as_long_as_the_means(name):
    metric = METRICS[name]()
    figure = laid_out(figures.draw_bars(metric, summary(metric)))
    assert len(figure.axes) == len(metric.quantities)
    for j, axes in enumerate(figure.axes):
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.1 * k + 0.01 * j for k in range(3)])
        (errors,) = (line for line in axes.collections)
        assert [s[:, 0].tolist() for s in errors.get_segments()] == [
            pytest.approx([0.1 * k, 0.1 * k + 0.1]) for k in range(3)
        ]
        assert metric.quantities[j].title.split()[0] in axes.get_title()
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(METHODS)
    assert_inside(figure)


@pytest.mark.parametrize("name", [name for name, kind in METRICS.items() if kind().curves])
def test_curves_are_those_of_the_summary(name):
    metric = METRICS[name]()
    for curve in metric.curves:
        figure = laid_out(figures.draw_curve(metric, summary(metric), curve.name))
        axes = figure.axes[0]
        assert [line.get_label() for line in axes.lines] == list(METHODS)
        for k, line in enumerate(axes.lines):
            assert np.allclose(line.get_xdata(), curve.x)
            assert np.allclose(line.get_ydata(), [k / 10 + x / 2 for x in curve.x])
        assert axes.get_xlabel() == curve.axis
        assert_inside(figure)


def test_matrices_share_a_scale():
    matrices = {"a": [[1.0, 0.0], [0.0, 2.0]], "b": [[0.5, -4.0], [0.0, 0.5]]}
    figure = laid_out(drawing.draw_matrices(matrices, "across", "down", "what"))
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert [image.get_clim() for image in images] == [(-4.0, 4.0)] * 2
    assert images[1].get_array().tolist() == [[0.5, -4.0], [0.0, 0.5]]
    assert_inside(figure)


def test_counts_are_written_out_but_zeros():
    axes = Figure().add_subplot()
    drawing.draw_counts(axes, np.array([[0, 3], [12, 0]]))
    assert [(t.get_position(), t.get_text()) for t in axes.texts] == [((1, 0), "3"), ((0, 1), "12")]


def test_a_method_has_its_colour_in_every_figure():
    for name in ("random", "lrp", "clrp1", "clrp2", "grad-cam"):
        assert drawing.colour_of(name, [name]) == drawing.colour_of(name, ["a", "gradient", name, "b"])
    names = ["lrp", "clrp1", "mine:a", "clrp1-even", "mine:b", "random"]
    assert len({drawing.colour_of(name, names) for name in names}) == len(names)


def test_curves_that_lie_on_each_other_are_all_seen():
    """The curves of three methods that are the same: each leaves pixels in its own colour."""
    metric = next(kind() for kind in METRICS.values() if kind().curves)
    curve, same = metric.curves[0], summary(metric)
    for row in same.curves:
        row.mean[:] = [0.5 for _ in row.x]
    same.curves[:] = [CurveRow(r.curve, r.method, r.x, r.mean, r.mean, r.mean) for r in same.curves]
    figure = figures.draw_curve(metric, same, curve.name)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[0]
    box = axes.get_window_extent()
    height = int(figure.bbox.height)
    pixels = np.asarray(canvas.buffer_rgba())[
        height - int(box.y1) : height - int(box.y0), int(box.x0) : int(box.x1), :3
    ]
    for method in METHODS:
        colour = np.array(to_rgb(drawing.colour_of(method, METHODS))) * 255
        assert (np.abs(pixels - colour).max(-1) < 12).sum() > 20, method


def test_chance_has_a_line_where_it_is_known():
    grid = METRICS["grid"](n=3)
    for axes in figures.draw_bars(grid, summary(grid)).axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_label() == "chance"] == [pytest.approx(1 / 9)]
    for metric, lines in (
        (METRICS["pointing"](), [0.3]),
        (METRICS["pointing"](tolerance=5), []),
        (METRICS["energy-inside"](), [0.3]),
    ):
        of = summary(metric)
        assert chance_lines(metric, of) == [], "where no area is known"
        of.extra["area"] = 0.3
        assert chance_lines(metric, of) == lines


def chance_lines(metric, of):
    return [line.get_xdata()[0] for line in figures.draw_bars(metric, of).axes[0].lines if line.get_label() == "chance"]


@pytest.mark.parametrize("name", ["grid", "insertion-deletion", "energy-pointing"])
def test_figures_fit_the_column_of_a_paper(name):
    metric = METRICS[name]()
    drawn = [figures.draw_bars(metric, summary(metric), 3.3)]
    drawn += [figures.draw_curve(metric, summary(metric), curve.name, 3.3) for curve in metric.curves]
    for figure in drawn:
        assert figure.get_figwidth() == pytest.approx(3.3)
        assert_inside(laid_out(figure))


def test_nothing_measured_is_said():
    metric = METRICS["pointing"]()
    empty = summary(metric)
    empty.rows.clear()
    assert [t.get_text() for t in figures.draw_bars(metric, empty).axes[0].texts] == ["nothing was measured"]


def test_steps_that_are_counted_have_whole_numbers_below_them():
    metric = METRICS["randomisation"]()
    (axes,) = laid_out(figures.draw_curve(metric, summary(metric), "rank")).axes
    low, high = axes.get_xlim()
    shown = [x for x in axes.get_xticks() if low <= x <= high]
    assert shown == list(metric.curves[0].x)
