"""Draw every picture of the documentation, from CC0 photographs and EfficientNet-Lite0 with its ImageNet weights.

    python docs/make_pictures.py             # all of them
    python docs/make_pictures.py distance    # those that are named

Needs the extra ``demo``; ``explore`` and ``explore_phone`` also ``app``, playwright and a Chromium.
What the pictures show is said in the alternative texts of the pages that include them.
"""

from __future__ import annotations

import argparse
import functools
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_clrp import (
    ContrastiveLRP,
    ContrastiveLRP1,
    ContrastiveLRP2,
    LayerLRPZBeta,
    LRPZBeta,
    NeuronContrastiveLRP2,
    NeuronLRPZBeta,
    OtherClasses,
    TheseClasses,
)
from captum_clrp.classifiers import Classifier, load_classifier
from captum_clrp.cli import main as captum_clrp_command
from captum_clrp.evaluation import Embedded, compose_grid
from captum_clrp.images import example_picture
from captum_clrp.visualization import Row, draw_maps, encoded, overlaid
from captum_clrp.visualization.panels import Style

PICTURES = Path(__file__).resolve().parent / "pictures"
DPI = 200
"""Twice what a page of 736 pixels shows."""
CLASSES = {"Egyptian cat": 285, "espresso": 967}


@functools.cache
def _network() -> tuple[Classifier, Tensor]:
    classifier = load_classifier()
    return classifier, classifier.inputs(example_picture())


def _draw(
    name: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    photograph: Tensor | None = None,
    unit: str = "logit",
    style: Style = "heatmap",
    smooth: float = 0,
) -> None:
    classifier, _ = _network()
    pixels = classifier.prepare(example_picture()) if photograph is None else photograph
    network = f"{classifier.name}, weights {classifier.weights}; rules auto (paper)"
    figure = draw_maps(pixels, columns, rows, style=style, unit=unit, settings=network, smooth=smooth)
    _save(name, encoded(figure, dpi=DPI))


def _rows(image: Tensor, classes: Mapping[str, int], maps: Sequence[NDArray[np.floating]]) -> list[Row]:
    """A row for each class, with its score; the maps of each method are ``(K, C, H, W)``."""
    with torch.no_grad():
        scores = _network()[0].model(image)[0]
    return [
        Row(label, [m[k] for m in maps], score=float(scores[index])) for k, (label, index) in enumerate(classes.items())
    ]


def _save(name: str, png: bytes) -> None:
    """As WebP, a tenth of the size of a PNG of noisy maps."""
    Image.open(io.BytesIO(png)).convert("RGB").save(PICTURES / f"{name}.webp", quality=85, method=6)


def _compare(name: str, columns: dict[str, LRPZBeta]) -> None:
    """One column for each explainer, one row for each class."""
    _, image = _network()
    maps = [e.attribute_classes(image, list(CLASSES.values()))[0].numpy() for e in columns.values()]
    _draw(name, list(columns), _rows(image, CLASSES, maps))


def cat_or_coffee() -> None:
    """The first picture that a reader sees: LRP for two classes, and CLRP1."""
    classifier, image = _network()
    maps = [
        method(classifier.model, *classifier.bounds).attribute_classes(image, list(CLASSES.values()))[0].numpy()
        for method in (LRPZBeta, ContrastiveLRP1)
    ]
    _draw("cat_or_coffee", ["LRP", "CLRP1"], _rows(image, CLASSES, maps), style="overlay", smooth=3)


def cat_and_coffee_explained() -> None:
    """What the command writes when it is given no picture."""
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "explained.png"
        captum_clrp_command(["explain", "--output", str(png)])
        _save("cat_and_coffee_explained", png.read_bytes())


def average_pooling() -> None:
    """LRP and CLRP1 with even and with proportional pooling."""
    classifier, _ = _network()
    _compare(
        "average_pooling",
        {
            f"{title}, {how}": method(classifier.model, classifier.low, classifier.high, avg_pool=how)
            for title, method in (("LRP", LRPZBeta), ("CLRP1", ContrastiveLRP1))
            for how in ("even", "proportional")
        },
    )


def conserve() -> None:
    """LRP and CLRP1 with relevance absorbed and conserved."""
    classifier, _ = _network()
    _compare(
        "conserve",
        {
            f"{title}, {'conserved' if keep else 'absorbed'}": method(
                classifier.model, classifier.low, classifier.high, conserve=keep
            )
            for title, method in (("LRP", LRPZBeta), ("CLRP1", ContrastiveLRP1))
            for keep in (False, True)
        },
    )


def neurons() -> None:
    """What channels of the last convolution saw: the two that matter most to each of the classes."""
    classifier, image = _network()
    layer = classifier.model.bn2
    channels = []
    for target in CLASSES.values():
        relevance = LayerLRPZBeta(classifier.model, layer).attribute(image, target)[0].sum((1, 2))
        channels += relevance.topk(2).indices.tolist()
    selectors = [(c, slice(None), slice(None)) for c in channels]
    maps: list[NDArray[np.floating]] = [
        method(classifier.model, layer, classifier.low, classifier.high, conserve=True)
        .attribute_neurons(image, selectors)[0]
        .numpy()
        for method in (NeuronLRPZBeta, NeuronContrastiveLRP2)
    ]
    rows = [Row(f"channel {c}", [m[k] for m in maps]) for k, c in enumerate(channels)]
    _draw("neurons", ["LRP", "CLRP2"], rows, unit="activation")


def four_in_a_grid() -> None:
    """Four photographs in one picture, and the maps of the class of each by LRP, CLRP1 and CLRP2."""
    classifier, _ = _network()
    photographs = Embedded(collages=False)[:4]
    cells = torch.stack([classifier.prepare(photograph.read()) for photograph in photographs])
    scene = compose_grid(cells, n=2)
    image = classifier.normalize(scene)[None]
    targets = {photograph.targets[0].name: photograph.targets[0].label for photograph in photographs}
    methods = {"LRP": LRPZBeta, "CLRP1": ContrastiveLRP1, "CLRP2": ContrastiveLRP2}
    maps = [
        method(classifier.model, classifier.low, classifier.high)
        .attribute_classes(image, list(targets.values()))[0]
        .numpy()
        for method in methods.values()
    ]
    _draw("four_in_a_grid", list(methods), _rows(image, targets, maps), photograph=scene)


def rather_than() -> None:
    """Espresso and cup: against all other classes, and one rather than the other."""
    classifier, _ = _network()
    photograph = Embedded(collages=False)[1].read()
    image = classifier.inputs(photograph)
    classes = {"espresso": 967, "cup": 968}
    others = tuple(reversed(classes.values()))
    duals = ((OtherClasses(), OtherClasses()), tuple(TheseClasses([other]) for other in others))
    maps = [
        np.concatenate(
            [
                ContrastiveLRP(classifier.model, *classifier.bounds, dual=dual).attribute(image, target).numpy()
                for target, dual in zip(classes.values(), of_column, strict=True)
            ]
        )
        for of_column in duals
    ]
    columns = ["rather than all others", "rather than the other"]
    _draw("rather_than", columns, _rows(image, classes, maps), photograph=classifier.prepare(photograph))


def distance() -> None:
    """How far apart the maps of two classes are, layer by layer, for both kinds of pooling."""
    classifier, image = _network()
    network = classifier.model
    places = {"output\nlayer": network.classifier, "last\nconvolution": network.conv_head}
    places |= {f"block {i}": network.blocks[i] for i in range(6, -1, -1)}
    figure = Figure(figsize=(7.4, 3.2), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for how, colour in (("proportional", "#a3202f"), ("even", "#4393c3")):
        distances = [_distance(network, layer, image, classifier, how) for layer in places.values()]
        axes.plot(distances, "o-", color=colour, label=f"average pooling: {how}")
    axes.set_xticks(range(len(places)), list(places), fontsize=8)
    axes.set_ylim(0, 1)
    axes.set_ylabel("distance of the two maps")
    axes.set_xlabel("at the input of this layer; relevance goes from left to right")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    _save("distance", file.getvalue())


def _distance(network: object, layer: object, image: Tensor, classifier: Classifier, how: str) -> float:
    """Half the sum of absolute differences of two maps that each sum to one."""
    lrp = LayerLRPZBeta(network, layer, classifier.low, classifier.high, avg_pool=how)  # type: ignore[arg-type]
    maps = [lrp.attribute(image, c, attribute_to_layer_input=True) for c in CLASSES.values()]
    a, b = (m / m.sum() for m in maps)
    return float((a - b).abs().sum() / 2)


def styles() -> None:
    """Every style of drawing, for CLRP1 and the cup of coffee, plain and smoothed."""
    classifier, image = _network()
    relevance = ContrastiveLRP1(classifier.model, *classifier.bounds).attribute(image, CLASSES["espresso"])
    picture = classifier.prepare(example_picture())
    names = ("overlay", "contour", "masked", "heatmap", "side-by-side")
    figure = Figure(figsize=(9.2, 3.5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(2, len(names), width_ratios=[1, 1, 1, 1, 2])
    for row, smooth in zip(places, (0, 3), strict=True):
        for axes, style in zip(row, names, strict=True):
            axes.imshow(overlaid(relevance, picture, style=style, smooth=smooth))
            axes.set_title(style if smooth == 0 else f"{style}, smooth={smooth}", fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
    _save("styles", encoded(figure, dpi=DPI))


def whole_photograph() -> None:
    """What ``explain --whole`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "explained.png"
        captum_clrp_command(["explain", "--method", "lrp,clrp1", "--whole", "--output", str(png)])
        _save("whole_photograph", png.read_bytes())


def explore() -> None:
    """The page of ``captum-clrp serve`` with the embedded example, in Debian's Chromium (extra ``test``)."""
    _save("explore", _page(1280, 1000))


def explore_phone() -> None:
    """The same page on a phone, the maps in sight."""
    _save("explore_phone", _page(390, 844, to="#slider"))


def _page(width: int, height: int, to: str = "") -> bytes:
    """A screenshot of the page, once a place was clicked.

    Args:
        width, height: Of the window, in pixels.
        to: Selector of what is scrolled into sight.
    """
    from playwright.sync_api import sync_playwright

    from captum_clrp.app.explorer import Explorer
    from captum_clrp.app.page import start

    page = start(Explorer(load_classifier()), "127.0.0.1", None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        seen = browser.new_page(viewport={"width": width, "height": height})
        seen.goto(page.local_url)
        seen.locator("#example").click()
        seen.locator("#slider img").nth(1).wait_for()
        seen.locator("#seen img").click(position={"x": 60, "y": 100})
        seen.get_by_text("of its relevance").first.wait_for()
        if to:
            seen.locator(to).evaluate("element => element.scrollIntoView()")
        seen.wait_for_timeout(1000)  # pictures fade in
        png = seen.screenshot()
        browser.close()
    page.close(verbose=False)
    return png


MAKERS: dict[str, Callable[[], None]] = {
    maker.__name__: maker
    for maker in (
        cat_or_coffee,
        cat_and_coffee_explained,
        four_in_a_grid,
        rather_than,
        average_pooling,
        conserve,
        neurons,
        distance,
        styles,
        whole_photograph,
        explore,
        explore_phone,
    )
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures that are named, or all."""
    parser = argparse.ArgumentParser(prog="python docs/make_pictures.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *MAKERS], help="pictures to draw; all of them by default")
    PICTURES.mkdir(exist_ok=True)
    for name in parser.parse_args(arguments).names or MAKERS:
        MAKERS[name]()
        sys.stdout.write(f"wrote {PICTURES / name}.webp\n")


if __name__ == "__main__":
    main()
