"""The page as programs see it, on a small network; and as a visitor does: in a headless Chromium, with EfficientNet-Lite0."""

from __future__ import annotations

import http.client
import io
import json
import os
import pickle
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision import transforms

from captum_clrp.app import page as page_module
from captum_clrp.app.explorer import Explorer
from captum_clrp.app.page import MOST_BYTES, start
from captum_clrp.classifiers import Classifier
from captum_clrp.errors import InvalidInputError

in_a_browser = pytest.mark.slow

_ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
PATIENCE = 60_000
"""Milliseconds."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from captum_clrp.classifiers import load_classifier

    page = start(Explorer(load_classifier("tf_efficientnet_lite0", device="cpu")), "127.0.0.1", None)
    yield page.local_url
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        message = "there is no chromium on the path"
        if os.environ.get("CLRP_BROWSER_REQUIRED"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=_ARGUMENTS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, empty; at the end it must have asked nobody else for anything."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.set_default_timeout(PATIENCE)
    opened.goto(address)
    yield opened
    opened.close()
    assert asked
    outside = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not outside, outside


# -- as programs see it --------------------------------------------------------------------------------------------------


class Held(Explorer):
    """Waits where it is told to, and fails where it is told to."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.failure: Exception | None = None

    def top(self, photograph: Image.Image, count: int = 10) -> list[tuple[int, float]]:
        self.may_go_on.wait(30)
        if self.failure is not None:
            raise self.failure
        return super().top(photograph, count)


@pytest.fixture(scope="module")
def outside() -> Iterator[list[str]]:
    """Other computers that this process asks for anything."""
    asked: list[str] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost", "0.0.0.0")):
            asked.append(str(address[0]))
        return connect(self, address)

    def looking_up(host: Any, *more: Any, **named: Any) -> Any:
        if str(host) not in ("127.0.0.1", "localhost", "None", "0.0.0.0", "::1"):
            asked.append(str(host))
        return look_up(host, *more, **named)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", connecting)
    patch.setattr(socket, "getaddrinfo", looking_up)
    yield asked
    patch.undo()


@pytest.fixture(scope="module")
def served(outside: list[str]) -> Iterator[tuple[str, Held]]:
    """Address and explorer of a page on a network of three classes."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    prepare = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16), transforms.ToTensor()])
    held = Held(Classifier("tiny", model, prepare, (0.5,) * 3, (0.5,) * 3, ("zebra", "cat", "cup"), "random"))
    page = start(held, "127.0.0.1", None)
    yield page.local_url.rstrip("/"), held
    page.close(verbose=False)


@pytest.fixture
def root(served: tuple[str, Held]) -> str:
    return served[0]


def picture(side: int = 20) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "PNG")
    return file.getvalue()


def sent(root: str, content: bytes, name: str = "a.png") -> dict[str, Any]:
    """What an upload is called in requests."""
    (path,) = httpx.post(f"{root}/gradio_api/upload", files={"files": (name, content)}, timeout=60).json()
    return upload(path, name)


def upload(path: str, name: str = "a.png") -> dict[str, Any]:
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def called(root: str, name: str, *data: Any) -> str:
    """The answer of a function of the page."""
    begun = httpx.post(f"{root}/gradio_api/call/{name}", json={"data": list(data)}, timeout=60)
    if begun.status_code != 200:
        return begun.text
    return httpx.get(f"{root}/gradio_api/call/{name}/{begun.json()['event_id']}", timeout=60).text


SETTINGS: list[Any] = [[], [0, 1], [], "clrp1", "overlay", 0.9, "auto", "proportional", False, 3, 1, "signed"]


def test_a_picture_is_explained_and_nobody_else_is_asked(root: str, outside: list[str]) -> None:
    assert "zebra" in called(root, "looked", sent(root, picture()))
    drawn = called(root, "drawn", sent(root, picture()), *SETTINGS)
    assert "event: complete" in drawn
    (npz,) = set(re.findall(r"/gradio_api/file=[^\"]+\.npz", drawn))
    with np.load(io.BytesIO(httpx.get(root + npz).content), allow_pickle=False) as archive:
        assert archive["names"].tolist() == ["zebra", "cat"]
    assert outside == []


@pytest.mark.parametrize(
    "route", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/", "/gradio_api/proxy="]
)
def test_no_file_of_the_computer_is_served(root: str, route: str) -> None:
    here = Path(__file__).resolve()
    up = "..%2f" * 12
    for path in (
        here,
        f"/{here}",
        f"{'../' * 12}{here}",
        f"{up}{str(here)[1:]}",
        f"file://{here}",
        "/proc/self/environ",
    ):
        asked = http.client.HTTPConnection(root.removeprefix("http://"), timeout=20)
        asked.putrequest("GET", f"{route}{path}", skip_host=False)  # as it is, dots and all
        asked.endheaders()
        answer = asked.getresponse()
        assert answer.status >= 400, path
        assert b"in_a_browser" not in answer.read()
        asked.close()


def test_uploads_are_of_the_page_and_addresses_are_not_fetched(root: str, outside: list[str]) -> None:
    for answer in (
        called(root, "looked", upload("/etc/passwd")),
        called(root, "looked", upload(str(Path(__file__).resolve()))),
    ):
        assert "event: error" in answer
        assert "root:" not in answer
    address = upload("http://picture.example/a.png")
    assert "addresses are not fetched" in called(root, "looked", address)
    assert "addresses are not fetched" in called(root, "drawn", None, [], [address], *SETTINGS[2:])
    assert outside == []


def test_files_of_too_many_bytes_or_pixels_are_refused(root: str) -> None:
    files = {"files": ("big.png", bytes(MOST_BYTES + 1))}
    assert httpx.post(f"{root}/gradio_api/upload", files=files, timeout=60).status_code == 413
    bomb = io.BytesIO()
    Image.new("1", (7000, 7000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    assert "b.png has 7000 x 7000 pixels; this page takes 40 million" in called(
        root, "looked", sent(root, bomb.getvalue(), "b.png")
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"nonsense", "is no picture in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "is no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "is no picture"),
        (pickle.dumps({"weights": 1}), "is no picture"),
        (picture()[:60], "is damaged or incomplete"),
    ],
    ids=["empty", "text", "svg", "postscript", "pickle", "half"],
)
def test_what_is_no_picture_is_one_line_that_tells_no_path(root: str, content: bytes, says: str) -> None:
    answer = called(root, "looked", sent(root, content, "x.png"))
    said = json.loads(answer.partition("data: ")[2].splitlines()[0])["error"]
    assert f"x.png {says}" in said or says in said
    assert "\n" not in said
    assert tempfile.gettempdir() not in said


def test_any_name_of_a_file_will_do(root: str) -> None:
    names = {
        "../../../evil.png": "evil.png",
        "a\0b.png": "a_b.png",
        "..": "photograph",
        "<b>.png": "_b_.png",
        "c:\\d": "d",
    }
    assert {name: page_module._safe(name) for name in names} == names
    answer = called(root, "drawn", sent(root, picture()) | {"orig_name": "../" + "n" * 3000 + ".png"}, *SETTINGS)
    assert json.loads(answer.partition("data: ")[2].splitlines()[0])[0]["orig_name"] == "n" * 96 + "_clrp.png"


def test_wrong_settings_are_an_error(root: str) -> None:
    photograph = sent(root, picture())
    for place, value in ((1, [9]), (1, ["x"]), (1, {"a": 1}), (3, "magic"), (5, "x"), (6, "/etc/passwd")):
        settings = list(SETTINGS)
        settings[place] = value
        assert "event: error" in called(root, "drawn", photograph, *settings), value
    assert "event: error" in called(root, "drawn", photograph)


def test_what_nobody_thought_of_is_one_line_without_details(served: tuple[str, Held]) -> None:
    root, held = served
    held.failure = RuntimeError("/home/somebody/secret is missing")
    try:
        answer = called(root, "looked", sent(root, picture()))
    finally:
        held.failure = None
    assert "this failed (RuntimeError); the terminal of the server says why" in answer
    assert "secret" not in answer


def test_a_busy_network_says_so(served: tuple[str, Held]) -> None:
    root, held = served
    photograph = sent(root, picture())
    held.may_go_on.clear()
    try:
        answers = [
            httpx.post(f"{root}/gradio_api/call/looked", json={"data": [photograph]}, timeout=60) for _ in range(40)
        ]
    finally:
        held.failure = InvalidInputError("the others need not be computed")
        held.may_go_on.set()
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) >= 40 - page_module._WAITING - 2
    assert all(answer.status_code == 503 and "full" in answer.text for answer in refused)
    held.failure = None
    until = time.monotonic() + 30
    while "zebra" not in (answer := called(root, "looked", photograph)):  # when those that wait are through
        assert time.monotonic() < until, answer


# -- as a visitor sees it ------------------------------------------------------------------------------------------------


def take_example(page: Any) -> None:
    page.locator("#example").click()
    page.locator("#slider img").nth(1).wait_for()


def compared(page: Any) -> list[NDArray[np.float64]]:
    """The pictures under the slider, left and right: those of the first two classes in the order of their choice."""
    sources = [image.get_attribute("src") for image in page.locator("#slider img").all()]
    found = []
    for source in sources:
        answer = page.request.get(source)
        found.append(np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"), np.float64))
    return found


def after(page: Any, change: Any) -> list[NDArray[np.float64]]:
    """The pictures under the slider when a change has shown."""
    before = [image.get_attribute("src") for image in page.locator("#slider img").all()]
    change()
    page.wait_for_function(
        "before => { const now = [...document.querySelectorAll('#slider img')].map(i => i.getAttribute('src'));"
        "return now.length === 2 && now.some((src, i) => src !== before[i]); }",
        arg=before,
    )
    page.wait_for_load_state("networkidle")
    return compared(page)


def red(picture: NDArray[np.float64]) -> tuple[float, float]:
    """How red the left half, the cat's, and the right half, the cup's, are on grey ground."""
    redness = np.clip(picture[..., 0] - picture[..., 1:].max(-1), 0, None)
    half = picture.shape[1] // 2
    return float(redness[:, :half].mean()), float(redness[:, half:].mean())


@in_a_browser
def test_the_half_of_each_class_is_red_for_it_and_not_for_the_other(page: Any) -> None:
    take_example(page)
    labels = page.locator("#classes label:has(input:checked)").all_inner_texts()
    assert labels[0].startswith("Egyptian cat")
    assert labels[1].startswith("espresso")
    pictures = {image.tobytes(): image for image in compared(page)}.values()
    (cat, cat_beside), (cup_beside, cup) = sorted((red(one) for one in pictures), key=lambda halves: -halves[0])
    assert cat > 3 * cat_beside
    assert cup > 3 * cup_beside
    numbers = page.locator("#numbers").inner_text()
    assert "Egyptian cat: probability" in numbers
    assert "sum " in numbers
    page.locator("#seen img").click(position={"x": 40, "y": 80})
    page.get_by_text("of its relevance").first.wait_for()


@in_a_browser
def test_rather_than_changes_the_map_and_files_can_be_had(page: Any) -> None:
    take_example(page)
    before = compared(page)

    def choose_cup() -> None:
        box = page.locator("#rather input")
        box.click()
        box.fill("cup")
        page.get_by_role("option", name="cup", exact=True).click()

    now = after(page, choose_cup)
    assert any(np.abs(one - other).max() > 20 for one, other in zip(before, now, strict=True))
    page.locator("#numbers").wait_for()
    with page.expect_download() as download:
        page.locator("#npz").click()
    with np.load(download.value.path(), allow_pickle=False) as archive:
        assert archive["names"].tolist() == ["Egyptian cat", "espresso"]
        assert "rather than cup" in str(archive["methods"])


@in_a_browser
def test_a_bad_file_is_one_clear_line(page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "holiday.png"
    bad.write_bytes(b"nonsense")
    page.locator("#photograph input[type=file]").set_input_files(bad)
    toast = page.locator(".toast-body")
    toast.first.wait_for()
    text = toast.first.inner_text()
    assert "holiday.png is no picture in a known format; give a JPEG" in text
    assert "/" not in text.replace("\n", " ")


@in_a_browser
def test_two_pages_at_once(browser: Any, address: str) -> None:
    pages = [browser.new_page() for _ in range(2)]
    for one in pages:
        one.set_default_timeout(PATIENCE)
        one.goto(address)
    for one in pages:
        one.locator("#example").click()
    for one in pages:
        one.locator("#slider img").nth(1).wait_for()
        assert len(compared(one)) == 2
        one.close()
