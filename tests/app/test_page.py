"""The page as a visitor sees it: in a headless Chromium, with EfficientNet-Lite0."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytestmark = pytest.mark.slow

_ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
PATIENCE = 60_000
"""Milliseconds."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from captum_clrp.app.explorer import Explorer
    from captum_clrp.app.page import start
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


def test_a_bad_file_is_one_clear_line(page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "holiday.png"
    bad.write_bytes(b"nonsense")
    page.locator("#photograph input[type=file]").set_input_files(bad)
    toast = page.locator(".toast-body")
    toast.first.wait_for()
    text = toast.first.inner_text()
    assert "holiday.png is no picture in a known format; give a JPEG" in text
    assert "/" not in text.replace("\n", " ")


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


def test_files_of_the_computer_are_not_served(page: Any, address: str) -> None:
    root = address.rstrip("/")
    here = Path(__file__).resolve()
    for path in ("/etc/passwd", str(here), "../../../../../../etc/passwd"):
        for route in ("gradio_api/file=", "file="):
            answer = page.request.get(f"{root}/{route}{path}")
            assert answer.status >= 400, (path, route)
            assert b"root:" not in answer.body()
    assert page.request.get(root).status == 200
    sent = {"path": "/etc/passwd", "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    for name in ("looked", "drawn"):
        answer = page.request.post(f"{root}/gradio_api/call/{name}", data={"data": [sent]})
        events = (
            page.request.get(f"{root}/gradio_api/call/{name}/{answer.json().get('event_id')}") if answer.ok else answer
        )
        assert "complete" not in events.text()
        assert "root:" not in events.text()
