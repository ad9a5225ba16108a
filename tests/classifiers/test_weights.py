import urllib.error
from pathlib import Path

import pytest
import torch
from torch import nn

from captum_clrp.classifiers import weights
from captum_clrp.classifiers.weights import fetch, local_file, read_state_dict
from captum_clrp.errors import ClassifierError


class Bomb:
    """A pickle that runs code when it is loaded without care."""

    def __reduce__(self):
        return (print, ("code from a weights file ran",))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_is_read_with_or_without_what_training_wraps_around_it(tmp_path, wrapped):
    state = nn.Linear(2, 3).state_dict()
    content = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}} if wrapped else state
    torch.save(content, tmp_path / "w.pth")
    found = read_state_dict(tmp_path / "w.pth")
    assert list(found) == ["weight", "bias"]
    assert torch.equal(found["weight"], state["weight"])


def test_safetensors_are_read(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file({"a": torch.arange(3.0)}, tmp_path / "w.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "w.safetensors")["a"], torch.arange(3.0))
    (tmp_path / "w.safetensors").write_bytes(b"damaged")
    with pytest.raises(ClassifierError, match="cannot be read"):
        read_state_dict(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [Bomb(), nn.Linear(1, 1), {"a": Bomb()}])
def test_no_code_of_a_file_runs(tmp_path, capsys, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        read_state_dict(tmp_path / "w.pth")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 half a zip"])
def test_what_is_no_weights_file_is_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ClassifierError, match="cannot be read as plain tensors"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [torch.ones(2), {"epoch": 3}, [1, 2]])
def test_tensors_without_names_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match="holds no state dict"):
        read_state_dict(tmp_path / "w.pth")


def test_a_name_is_no_path_and_a_path_must_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_file(None) is None
    assert local_file("IMAGENET1K_V1") is None
    Path("mine.pth").touch()
    assert local_file("mine.pth") == Path("mine.pth")
    for missing in ("nowhere.pth", "folder/DEFAULT"):
        with pytest.raises(ClassifierError, match="there is no weights file"):
            local_file(missing)
    with pytest.raises(ClassifierError, match="are a folder"):
        local_file(str(tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        TimeoutError("timed out"),
        urllib.error.HTTPError("u", 403, "Forbidden", None, None),
        RuntimeError("invalid hash value"),
    ],
)
def test_without_network_the_file_to_fetch_is_named(empty_cache, monkeypatch, error):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(weights.torch.hub, "download_url_to_file", fails)
    url = "https://example.org/net-0123abcd.pth"
    with pytest.raises(ClassifierError, match=f"download {url} elsewhere and give the path of the file"):
        fetch(url, what="Net.V1")


def test_what_was_fetched_once_is_not_fetched_again(empty_cache, monkeypatch):
    seen = []

    def download(url: str, path: str, digest: str | None) -> None:
        seen.append((url, digest))
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(weights.torch.hub, "download_url_to_file", download)
    for _ in range(2):
        assert fetch("https://example.org/net-0123abcd.pth", what="x").read_bytes() == b"weights"
    assert seen == [("https://example.org/net-0123abcd.pth", "0123abcd")]
