"""Figures by their content: what is drawn is what was measured, and no title leaves the canvas."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
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


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, laid out."""
    found: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        FigureCanvasAgg(figure).draw()
        found.append(figure)
        return b""

    for module in (figures, drawing):
        monkeypatch.setattr(module, "png", keep)
    return found


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
def test_bars_are_as_long_as_the_means(name, drawn):
    metric = METRICS[name]()
    figures.draw_bars(metric, summary(metric))
    (figure,) = drawn
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
def test_curves_are_those_of_the_summary(name, drawn):
    metric = METRICS[name]()
    for curve in metric.curves:
        figures.draw_curve(metric, summary(metric), curve.name)
        axes = drawn[-1].axes[0]
        assert [line.get_label() for line in axes.lines] == list(METHODS)
        for k, line in enumerate(axes.lines):
            assert np.allclose(line.get_xdata(), curve.x)
            assert np.allclose(line.get_ydata(), [k / 10 + x / 2 for x in curve.x])
        assert axes.get_xlabel() == curve.axis
        assert_inside(drawn[-1])


def test_matrices_share_a_scale(drawn):
    drawing.draw_matrices({"a": [[1.0, 0.0], [0.0, 2.0]], "b": [[0.5, -4.0], [0.0, 0.5]]}, "across", "down", "what")
    (figure,) = drawn
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert [image.get_clim() for image in images] == [(-4.0, 4.0)] * 2
    assert images[1].get_array().tolist() == [[0.5, -4.0], [0.0, 0.5]]
    assert_inside(figure)


def test_counts_are_written_out_but_zeros():
    axes = Figure().add_subplot()
    drawing.draw_counts(axes, np.array([[0, 3], [12, 0]]))
    assert [(t.get_position(), t.get_text()) for t in axes.texts] == [((1, 0), "3"), ((0, 1), "12")]
