import argparse
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from captum_clrp.classifiers import weights
from captum_clrp.classifiers.weights import fetch, fitted, local_file, read_state_dict
from captum_clrp.errors import ClassifierError


class Bomb:
    """A pickle that runs code when it is loaded without care."""

    def __reduce__(self):
        return (print, ("code from a weights file ran",))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def checkpoints() -> dict[str, object]:
    """One network as training scripts save it: what wraps the state dict, and what stands beside it."""
    torch.manual_seed(1)
    state = nn.Linear(2, 3).state_dict()
    options = argparse.Namespace(lr=0.1, out=Path("runs"), best=np.float64(0.75), steps=np.int64(3))
    prefixed = {prefix: {prefix + key: value for key, value in state.items()} for prefix in ("module.", "model.")}
    return {
        "plain": state,
        "pytorch_tutorial": {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"state": {}}, "loss": 0.5},
        "torchvision_references": {"model": state, "optimizer": {"param_groups": []}, "args": options, "epoch": 3},
        "imagenet_example": {
            "epoch": 3,
            "arch": "x",
            "state_dict": prefixed["module."],
            "best_acc1": torch.tensor(70.0),
        },
        "lightning": {
            "state_dict": {**prefixed["model."], "loss.weight": torch.ones(4)},
            "hyper_parameters": {"lr": 0.1},
            "pytorch-lightning_version": "2.4.0",
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9), "dirpath": "x"}},
        },
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
        "parallel_in_lightning": {"state_dict": {f"model.module.{key}": value for key, value in state.items()}},
        "twice_wrapped": {"model": {"state_dict": state}},
        "averaged": {"state_dict_ema": state, "state_dict": {key: value + 1 for key, value in state.items()}},
    }


@pytest.mark.parametrize("kind", checkpoints())
def test_checkpoints_are_read_as_people_have_them(tmp_path, kind):
    own = nn.Linear(2, 3).state_dict()
    torch.save(checkpoints()[kind], tmp_path / "w.ckpt")
    found = fitted(read_state_dict(tmp_path / "w.ckpt"), own, tmp_path)
    assert list(found) == ["weight", "bias"]
    assert all(torch.equal(found[name], value) for name, value in checkpoints()["plain"].items())


def test_a_network_that_is_there_twice_is_said(tmp_path):
    own = nn.Linear(2, 3).state_dict()
    state = {
        f"{prefix}.{key}": value + i for i, prefix in enumerate(("student", "teacher")) for key, value in own.items()
    }
    with pytest.warns(UserWarning, match="2 times, as student., teacher.; student. is taken"):
        found = fitted(state, own, tmp_path)
    assert torch.equal(found["weight"], own["weight"])


def test_names_that_do_not_fit_stay_as_they_are(tmp_path):
    state = {"a.weight": torch.ones(1), "b": torch.ones(1)}
    assert fitted(state, nn.Linear(2, 3).state_dict(), tmp_path) is state
    assert fitted(state, {}, tmp_path) is state


def test_safetensors_are_read(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file({"a": torch.arange(3.0)}, tmp_path / "w.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "w.safetensors")["a"], torch.arange(3.0))
    (tmp_path / "w.safetensors").write_bytes(b"damaged")
    with pytest.raises(ClassifierError, match="cannot be read"):
        read_state_dict(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "content",
    [Bomb(), nn.Linear(1, 1), {"a": Bomb()}, {"model": {"a": torch.ones(1)}, "args": argparse.Namespace(a=Bomb())}],
)
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
