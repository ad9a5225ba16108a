import argparse
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from captum_clrp.classifiers import weights
from captum_clrp.classifiers.weights import fetch, fitted, local_file, misfit, read_state_dict
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


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "net.", "backbone.", "encoder.", "_orig_mod.", "model.net.", ""]
)
@pytest.mark.parametrize("before", ["", "net.", "model.module."])
def test_whatever_prefix_file_and_network_have_it_is_exchanged(tmp_path, prefix, before):
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()
    own = {before + name: torch.zeros_like(value) for name, value in plain.items()}
    state = {
        prefix + name: value for name, value in plain.items() if not name.endswith("num_batches_tracked")
    }  # of old
    found = fitted(state | ({"loss.scale": torch.ones(1)} if prefix not in ("", before) else {}), own, tmp_path)
    assert list(found) == [name for name in own if not name.endswith("num_batches_tracked")]
    assert all(found[before + name] is value for name, value in plain.items() if before + name in found)


def test_names_of_compiled_modules_are_those_of_the_modules(tmp_path):
    own = nn.ModuleDict({"body": nn.Linear(2, 3), "head": nn.Linear(3, 2)}).state_dict()
    inside = {name.replace("body.", "body._orig_mod."): value for name, value in own.items()}
    whole = {f"_orig_mod.{name}": value for name, value in own.items()}
    for state, wanted in ((inside, own), (whole, own), (own, inside), (whole, inside)):
        found = fitted(dict(state), wanted, tmp_path)
        assert list(found) == list(wanted)
        assert all(value is own[name.replace("_orig_mod.", "")] for name, value in found.items())


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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda s: {f"backbone.{k}": v for k, v in s.items() if k[0] != "2"} | {"head.weight": torch.ones(5, 3)},
            "4 of the 6 names that are expected are in it behind the prefix 'backbone.'; missing: 2.weight, 2.bias; "
            "not of this network: head.weight; give",
        ),
        (
            lambda s: s | {"3.weight": torch.ones(1)},
            "6 of the 6 names that are expected are in it; not of this network: 3.weight; give",
        ),
        (
            lambda s: {f"vit.{k}.x": v for k, v in s.items()},
            r"it has none of the names that are expected (0.weight, 0.bias, 1.weight, ...), but vit.0.weight.x, vit.0.bias.x, "
            "vit.1.weight.x, ...; give",
        ),
        (lambda s: s | {"0.weight": torch.ones(4, 1)}, "0.weight is (4, 1), not (4, 2); give"),
        (
            lambda s: s | {"2.weight": torch.ones(9, 3), "1.weight": torch.ones(3, 5)},
            "1.weight is (3, 5), not (3, 4); give",
        ),
    ],
)
def test_how_names_and_sizes_differ_is_said_in_one_line(tmp_path, change, says):
    own = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3), nn.Linear(3, 5)).state_dict()
    said = str(misfit(tmp_path, "net", change(own), own, RuntimeError("Missing key(s)")))
    assert f"does not hold the weights of net: {says}" in said
    assert "Missing key" not in said and "\n" not in said


def test_how_names_differ_is_said_where_the_network_is_wrapped(tmp_path):
    own = nn.ModuleDict({"net": nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3))}).state_dict()
    state = {"0.weight": torch.ones(4, 2), "0.bias": torch.ones(4)}
    said = str(misfit(tmp_path, "net", state, own, RuntimeError()))
    assert (
        "2 of the 4 names that are expected are in it without the prefix 'net.'; missing: net.1.weight, net.1.bias;"
        in said
    )
    # What names and sizes do not show is told as it was said.
    assert "of net: some other reason; give" in str(
        misfit(tmp_path, "net", own, own, RuntimeError("some other\nreason"))
    )


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


def test_what_a_file_holds_besides_tensors_is_named(tmp_path):
    torch.save(nn.Linear(1, 1), tmp_path / "w.pth")
    with pytest.raises(
        ClassifierError, match=r"it holds torch\.nn\.modules\.linear\.Linear, and reading that could run code"
    ):
        read_state_dict(tmp_path / "w.pth")


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
