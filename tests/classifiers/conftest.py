import pytest
import torch

from captum_clrp.classifiers import timm


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """No weights that this machine happens to keep are found."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(timm, "_in_hub_cache", lambda *_: None)
