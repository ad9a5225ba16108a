"""``captum-clrp serve``, with a stand-in for the page, whose own tests are in tests/app."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captum_clrp.app import explorer
from captum_clrp.classifiers import Classifier, load_classifier
from captum_clrp.cli import main, serve


@pytest.fixture
def page(tiny: Classifier, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the page is started with, and that it is closed; nobody waits for Ctrl-C."""
    seen: list[Any] = []

    def start(explored: Any, host: str, port: int | None) -> Any:
        seen.append((explored.classifier, host, port))
        return types.SimpleNamespace(local_url="http://here/", close=lambda **_: seen.append("closed"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "captum_clrp.app.page", types.SimpleNamespace(start=start))
    monkeypatch.setattr(explorer, "Explorer", lambda classifier, _: types.SimpleNamespace(classifier=classifier))
    monkeypatch.setattr(serve, "asked_classifier", lambda *_: tiny)
    monkeypatch.setattr(serve.threading.Event, "wait", interrupted)
    return seen


def test_it_serves_until_interrupted_and_closes(page: list[Any], tiny: Classifier, capsys: Any) -> None:
    assert main(["serve", "--port", "8000"]) == 130
    assert page == [(tiny, "127.0.0.1", 8000), "closed"]
    out, err = capsys.readouterr()
    assert "http://here/" in out
    assert "no password" not in out
    assert err == "captum-clrp: interrupted; the page is no longer served\n"


@pytest.mark.parametrize(("host", "open_to_all"), [("localhost", False), ("::1", False), ("0.0.0.0", True)])
def test_other_computers_are_warned_of(page: list[Any], capsys: Any, host: str, open_to_all: bool) -> None:
    main(["serve", "--host", host])
    assert ("there is no password" in capsys.readouterr().out) is open_to_all


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_what_is_no_port_is_refused(capsys: Any, port: str) -> None:
    assert main(["serve", f"--port={port}"]) == 2
    assert "give a number from 1 to 65535" in capsys.readouterr().err


def failing(error: Exception) -> Callable[..., Any]:
    def start(*_: object) -> None:
        raise error

    return start


def test_a_port_that_is_taken_is_one_line(page: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys.modules["captum_clrp.app.page"], "start", failing(OSError("in use")))
    assert main(["serve", "--port", "80"]) == 2
    assert "127.0.0.1, port 80 cannot be listened at; give another --port" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "captum_clrp.app.page", None)  # type: ignore[arg-type]
    assert main(["serve"]) == 2
    assert "serve needs the extra app; " in capsys.readouterr().err


def test_the_page_shows_the_expression_that_has_the_same_network(
    page: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"class of mine {i}" for i in range(1000)))
    shown: list[str] = []
    monkeypatch.setattr(explorer, "Explorer", lambda _, expression: shown.append(expression))
    monkeypatch.setattr(sys.modules["captum_clrp.app.page"], "start", failing(OSError()))
    main(["serve", "--model", "squeezenet1_1", "--weights", "random", "--size", "64", "--labels", str(labels)])
    same = eval(shown[0], {"load_classifier": load_classifier, "Path": Path})
    assert (same.name, same.weights, same.input_size) == ("squeezenet1_1", "random", (64, 64))
    assert same.class_names[3] == "class of mine 3"
