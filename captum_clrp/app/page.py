"""The page: components of Gradio, wired to an explorer. Nothing comes from outside, and nothing is told outside."""

from __future__ import annotations

import functools
import io
import os
import re
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from PIL import Image

from captum_clrp.app.explorer import METHODS, MOST_CLASSES, Explorer, MapSettings, at, compared, seen, told, uploaded
from captum_clrp.cli.explained import Drawing, ExplainedPicture, percent
from captum_clrp.composites import COMPOSITES
from captum_clrp.errors import ContrastiveLRPError
from captum_clrp.images import EXAMPLE_NAME, example_picture
from captum_clrp.visualization.maps import Sign
from captum_clrp.visualization.panels import Style

MOST_BYTES = 20 * 2**20
"""Of an uploaded file."""
_WAITING = 32
"""Requests that may wait; who comes then is told that the network is busy."""
_FILES_KEPT = 32
_LONGEST_NAME = 100
"""Letters of a file's name, which stands in titles and in the names of downloads."""
_FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
_CSS = "footer {display: none !important}"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def start(explorer: Explorer, host: str, port: int | None) -> gr.Blocks:
    """Serve the page, and return while it is served; in a notebook it is shown below the cell.

    Args:
        explorer: What is explored.
        host: The address to listen at.
        port: Default: the first one that is free, from 7860.

    Returns:
        The page; ``close()`` ends it.

    Raises:
        OSError: if the port is taken.
    """
    blocks = _page(explorer)
    blocks.queue(max_size=_WAITING, default_concurrency_limit=1)
    blocks.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        height=1000,
        share=False,
        show_error=False,  # but for those that are told on the page on purpose
        enable_monitoring=False,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        footer_links=[],
        theme=gr.themes.Base(primary_hue="red", font=_FONTS[0], font_mono=_FONTS[1]),
        css=_CSS,
    )
    return blocks


def _in_one_line(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """What cannot be done is told on the page, in a line."""

    @functools.wraps(function)
    def told_on_page(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except ContrastiveLRPError as error:
            raise gr.Error(" ".join(str(error).split()), duration=None, print_exception=False) from error
        except Exception as error:
            said = f"this failed ({type(error).__name__}); the terminal of the server says why"
            raise gr.Error(said, duration=None) from error

    return told_on_page


@_in_one_line
def _decoded(payload: Any) -> tuple[Image.Image, str] | None:
    """An upload and its name, read by the decoder of the command and no other."""
    if payload is None or payload.path is None:
        return None
    name = _safe(payload.orig_name or "")
    return uploaded(Path(payload.path), name), name


def _safe(name: str) -> str:
    """A name as files may have it everywhere."""
    kept = "".join(letter if letter.isprintable() else "_" for letter in re.split(r"[/\\]", name)[-1])
    return re.sub(r'[:*?"<>|]', "_", kept)[-_LONGEST_NAME:].lstrip(". ") or "photograph"


def _nothing_fetched(blocks: gr.Blocks) -> None:
    """Refuse addresses in place of uploads, which Gradio would fetch."""

    def refusing(move: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def moved(place: Any) -> Any:
            if "://" in str(place):
                raise gr.Error(
                    "addresses are not fetched; download the picture, and drop it here", print_exception=False
                )
            return await move(place)

        return moved

    for block in blocks.blocks.values():
        block.async_move_resource_to_block_cache = refusing(block.async_move_resource_to_block_cache)  # type: ignore[method-assign, assignment]


class _Files:
    """Files to be downloaded; Gradio copies what it hands out, and older ones go."""

    def __init__(self) -> None:
        self._folders: deque[tempfile.TemporaryDirectory[str]] = deque()
        self._lock = threading.Lock()

    def write(self, contents: dict[str, bytes]) -> list[str]:
        """Write files into a folder of their own, and return their paths."""
        folder = tempfile.TemporaryDirectory(prefix="captum-clrp-")
        for name, content in contents.items():
            (Path(folder.name) / name).write_bytes(content)
        with self._lock:
            self._folders.append(folder)
            while len(self._folders) > _FILES_KEPT:
                self._folders.popleft().cleanup()
        return [str(Path(folder.name) / name) for name in contents]


def _asked(values: tuple[Any, ...]) -> tuple[list[int], MapSettings, Drawing]:
    """What the components say: classes, and how to compute and to draw."""
    leading, others, rather, method, style, strength, rules, avg_pool, conserve, smooth, opacity, sign = values
    settings = MapSettings(method, tuple(rather or ()), strength, rules, avg_pool, bool(conserve))
    return [*(leading or ()), *(others or ())], settings, Drawing(style, sign, smooth, opacity=opacity)


def _page(explorer: Explorer) -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False, title="captum-clrp", delete_cache=(600, 3600)) as blocks:
        gr.Markdown(
            f"# Where is the evidence for a class?\n{explorer.classifier.name}, weights: {explorer.classifier.weights}. "
            "Red is evidence for the class, blue against it."
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                photograph, example = _inputs()
                controls = _controls(explorer.names)
            with gr.Column(scale=2, min_width=340):
                shown = _outputs()
        answers, asked = _Answers(explorer), [photograph, *controls]
        example.click(answers.taken, outputs=photograph, queue=False)
        photograph.change(answers.looked, photograph, [controls[0], controls[1]], concurrency_id="network").success(
            answers.drawn, asked, shown, concurrency_id="network"
        )
        for one in controls:
            event = one.release if isinstance(one, gr.Slider) else one.input
            event(answers.drawn, asked, shown, concurrency_id="network", trigger_mode="always_last")
        shown[3].select(answers.clicked, asked, shown[4], concurrency_id="network")
    _nothing_fetched(blocks)
    return blocks


class _Answers:
    """What happens when something is chosen on the page."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer, self._files = explorer, _Files()

    def taken(self) -> str:
        """The example as a file."""
        file = io.BytesIO()
        example_picture().save(file, "PNG")
        return self._files.write({EXAMPLE_NAME: file.getvalue()})[0]

    @_in_one_line
    def looked(self, sent: tuple[Image.Image, str] | None) -> Any:
        """The leading classes of a new photograph; the first two are chosen."""
        top = [] if sent is None else self._explorer.top(sent[0])
        names = {index: self._explorer.classifier.class_name(index) for index, _ in top}
        choices = [(f"{names[index]}  {percent(chance)}", index) for index, chance in top]
        return gr.CheckboxGroup(choices=choices, value=[index for index, _ in top[:2]]), gr.Dropdown(value=[])

    @_in_one_line
    def drawn(self, sent: tuple[Image.Image, str] | None, *values: Any) -> list[Any]:
        """What :func:`_outputs` shows."""
        if sent is None:
            return [None, "Drop a photograph, paste one, or take the example.", None, None, "", None, None, "", ""]
        one, settings, drawing = self._explained(sent, values)
        stem = Path(sent[1]).stem
        contents = {f"{stem}_clrp.png": one.picture(drawing, ".png"), f"{stem}_clrp.npz": one.archive()}
        png, npz = self._files.write(contents)
        code = self._explorer.code(one.classes, settings, drawing, sent[1])
        plan = self._explorer.plan(sent[0], settings)
        return [png, told(one), compared(one, drawing), seen(one), _CLICK, png, npz, code, plan]

    @_in_one_line
    def clicked(self, event: gr.SelectData, sent: tuple[Image.Image, str] | None, *values: Any) -> str:
        """Shares of relevance around the pixel; Gradio finds the event by the annotation of a plain argument."""
        if sent is None:
            return _CLICK
        one, _, _ = self._explained(sent, values)
        x, y = event.index
        lines = [f"- **{found.name}**: {found.share:.1%} of its relevance" for found in at(one, x, y)]
        return "\n".join([f"Around pixel ({x}, {y}):", "", *lines])

    def _explained(
        self, sent: tuple[Image.Image, str], values: tuple[Any, ...]
    ) -> tuple[ExplainedPicture, MapSettings, Drawing]:
        classes, settings, drawing = _asked(values)
        return self._explorer.explain(sent[0], classes, settings, sent[1]), settings, drawing


_CLICK = "Click into the photograph: which share of each class's relevance lies there."


def _inputs() -> tuple[gr.Image, gr.Button]:
    photograph = gr.Image(
        label="Photograph", sources=["upload", "clipboard"], format="png", height=260, elem_id="photograph"
    )
    photograph.preprocess = _decoded  # type: ignore[method-assign, assignment] # a subclass would have Gradio write a .pyi beside this file
    example = gr.Button("Example: a cat and a cup of coffee", size="sm", elem_id="example")
    return photograph, example


def _controls(names: list[str]) -> list[Any]:
    """In the order of :func:`_asked`."""
    all_classes = [(name, index) for index, name in enumerate(names)]
    leading = gr.CheckboxGroup(
        [], label="Classes, the most probable first", type="value", info=f"up to {MOST_CLASSES}", elem_id="classes"
    )
    others = gr.Dropdown(all_classes, multiselect=True, value=[], label="Other classes", elem_id="others")
    rather = gr.Dropdown(
        all_classes,
        multiselect=True,
        value=[],
        label="Rather than",
        info="contrast with these classes alone, instead of by the method",
        elem_id="rather",
    )
    method = gr.Dropdown(list(METHODS.items()), value="clrp1", label="Method", elem_id="method")
    style = gr.Dropdown(list(get_args(Style)), value="overlay", label="Style", elem_id="style")
    with gr.Accordion("Advanced", open=False):
        strength = gr.Slider(
            0, 1, 0.9, step=0.05, label="Strength of the contrast", info="1: the paper's contrast; 0: plain LRP"
        )
        rules = gr.Dropdown(["auto", *COMPOSITES], value="auto", label="Composite")
        avg_pool = gr.Radio(["proportional", "even"], value="proportional", label="Average pooling")
        conserve = gr.Checkbox(False, label="Conserve: biases absorb nothing")
        smooth = gr.Slider(0, 20, 3, step=0.5, label="Smoothing, pixels")
        opacity = gr.Slider(0.1, 1, 1, step=0.05, label="Opacity of overlays", elem_id="opacity")
        sign = gr.Radio(list(get_args(Sign)), value="signed", label="Relevance shown")
    return [leading, others, rather, method, style, strength, rules, avg_pool, conserve, smooth, opacity, sign]


def _outputs() -> list[Any]:
    """In the order in which ``drawn`` returns them."""
    still: dict[str, Any] = {"interactive": False, "format": "png", "buttons": ["fullscreen"]}
    with gr.Row():
        with gr.Column(min_width=240):
            slider = gr.ImageSlider(
                label="The first two classes, on one scale", interactive=False, format="png", elem_id="slider"
            )
        with gr.Column(min_width=240):
            place = gr.Image(label="What the network saw: click into it", elem_id="seen", **still)
            share = gr.Markdown(_CLICK, elem_id="share")
    picture = gr.Image(label="Explanation", show_label=False, type="filepath", elem_id="picture", **still)
    numbers = gr.Markdown(elem_id="numbers")
    with gr.Row():
        png = gr.DownloadButton("Picture (PNG)", size="sm", elem_id="png")
        npz = gr.DownloadButton("Maps (NPZ)", size="sm", elem_id="npz")
    with gr.Accordion("Python lines that make the same maps", open=False):
        code = gr.Code(language="python", show_label=False, elem_id="code")
    with gr.Accordion("Plan: the rule of every operation", open=False):
        plan = gr.Code(language=None, show_label=False, elem_id="plan")
    return [picture, numbers, slider, place, share, png, npz, code, plan]
