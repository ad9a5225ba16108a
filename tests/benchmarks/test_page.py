"""Visitors of a page that a network of two layers serves."""

import pytest
import torch
from torch import nn

pytest.importorskip("gradio")

from benchmarks import page
from captum_clrp.classifiers import Classifier
from captum_clrp.geometry import Geometry


@pytest.fixture
def address():
    from captum_clrp.app.explorer import Explorer
    from captum_clrp.app.page import start

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    small = Classifier("small", model.eval(), Geometry(32, (32, 32)), (0.0,) * 3, (1.0,) * 3)
    served = start(Explorer(small), "127.0.0.1", None)
    yield served.local_url
    served.close(verbose=False)


def test_no_two_photographs_are_alike(tmp_path):
    assert len({file.read_bytes() for file in page.photographs(tmp_path, 12)}) == 12


def test_visits_are_counted_and_what_fails_is_told(address, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"nonsense")
    one, other = page.photographs(tmp_path, 2)
    found = page.at_once(address, [[one, bad], [other]], "two users")
    assert len(found["took"]) == 2
    assert 0 < max(found["took"]) <= found["seconds"]
    assert len(found["refused"]) == 1
    assert "bad.jpg is no picture" in found["refused"][0]
    document = {"cases": [found | {"case": "photographs of their own"}], "environment": page.report.environment()}
    text = page.markdown(document | {"model": "small", "command": "that"})
    assert f"| photographs of their own | 2 | 2 | {2 / found['seconds']:.2f} |" in text
    assert "bad.jpg is no picture" in text


def test_every_case_has_its_visits_with_photographs_of_their_own(monkeypatch):
    seen = []

    def at_once(address, of_users, case):
        seen.append((case, of_users))
        return {"case": case, "refused": [] if case != "after all of them" or address == "alive" else ["gone"]}

    monkeypatch.setattr(page, "at_once", at_once)
    found = page.measure("alive", [1, 3], visits=2, crowd=5)
    assert [one["case"] for one in found] == [
        *["photographs of their own"] * 2,
        "the same ones again",
        "a crowd, one known photograph",
    ]
    (_, alone), (_, three), (_, again), (_, crowd) = seen[1:-1]
    assert [len(own) for own in (*alone, *three)] == [2, 1, 1, 1]
    assert len({file for own in (*alone, *three) for file in own}) == 5
    assert again == three
    assert len(crowd) == 5
    with pytest.raises(RuntimeError, match="gone"):
        page.measure("dead", [1], visits=1, crowd=0)


def test_a_server_is_waited_for_and_ended_and_one_that_does_not_come_is_told():
    with page.served(["-c", "import time; print('-> http://here  (told)', flush=True); time.sleep(100)"]) as address:
        assert address == "http://here"
    with (
        pytest.raises(RuntimeError, match="no page came: nothing to serve"),
        page.served(["-c", "exit('nothing to serve')"]),
    ):
        pass
