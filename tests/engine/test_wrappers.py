"""Models that are compiled, wrapped, copied or scripted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bodies import CLOSE, Body, body, images, plain
from torch import nn

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta, ModelStateError


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_submodule(model: Body) -> nn.Module:
    model.conv2 = torch.compile(model.conv2, backend="eager")
    return model


def data_parallel(model: nn.Module) -> nn.Module:
    return nn.DataParallel(model)


def data_parallel_inside(model: Body) -> nn.Module:
    model.conv2 = nn.DataParallel(model.conv2)
    return model


def symbolically_traced(model: nn.Module) -> nn.Module:
    layers = (model.conv1, nn.ReLU(), model.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.fc)
    return torch.fx.symbolic_trace(nn.Sequential(*layers))


def wrapped(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Identity(), model, nn.Identity())


def averaged(model: nn.Module) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(model)


def copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


@pytest.mark.parametrize(
    "wrap",
    [
        compiled,
        compiled_in_place,
        compiled_submodule,
        data_parallel,
        data_parallel_inside,
        symbolically_traced,
        wrapped,
        averaged,
        copied,
    ],
    ids=lambda f: f.__name__,
)
def test_wrappers_make_no_difference(wrap: Callable[[Any], nn.Module]) -> None:
    x = images()
    model = wrap(body(plain)).eval()
    if wrap in (compiled, compiled_in_place, compiled_submodule):
        model(x)  # as in use: compiled already
    for method in (LRPZBeta, ContrastiveLRP1, ContrastiveLRP2):
        torch.testing.assert_close(method(model).attribute(x, 1), method(body(plain)).attribute(x, 1), **CLOSE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["script", "trace", "script inside", "trace inside", "frozen"])
def test_scripted_modules_are_refused_with_the_remedy(how: str) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).double().eval()
    x = images()
    made: nn.Module = torch.jit.trace(layers, x) if "trace" in how else torch.jit.script(layers)
    made = torch.jit.freeze(made) if how == "frozen" else made
    model = nn.Sequential(nn.Identity(), made) if "inside" in how else made
    with pytest.raises(ModelStateError, match=r"(?s)scripted or traced.*explain the nn.Module"):
        LRPZBeta(model).attribute(x, (1, 2, 2))
