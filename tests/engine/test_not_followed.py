"""What cannot be followed is refused with the remedy, not left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import Body, body, images
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from captum_clrp import LRPZBeta, ModelStateError, UnsupportedOperationError


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class InNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


@torch.jit.script
def scripted_swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


traced_double = torch.jit.trace(lambda x: x * 2, torch.zeros(1))


library = torch.library.Library("captum_clrp_test", "DEF")  # drops its operations with itself
library.define("double(Tensor x) -> Tensor")
library.impl("double", lambda x: x.detach().clone() * 2, "CompositeExplicitAutograd")


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "custom function": (Square.apply, "custom torch.autograd.Function"),
    "custom function that returns its input": (Same.apply, "outside torch functions"),
    "reentrant checkpoint": (lambda h: checkpoint(torch.relu, h, use_reentrant=True), "custom torch.autograd.Function"),
    "scripted function": (scripted_swish, "outside torch functions"),
    "traced function": (traced_double, "outside torch functions"),
    "vmap": (lambda h: torch.vmap(torch.relu)(h), "outside torch functions"),
    "grad inside": (lambda h: torch.func.grad(lambda t: t.relu().sum())(h), "outside torch functions"),
    "kernel by its own name": (torch.ops.aten.relu.default, "relu.default"),
    "custom kernel": (lambda h: torch.ops.captum_clrp_test.double(h), "double"),
    "foreach": (lambda h: torch._foreach_mul([h], 2.0)[0], "_foreach_mul"),
    "foreach in place": (lambda h: [k := h.clone(), torch._foreach_mul_([k], 2.0)][0], "_foreach_mul_"),
    "data replaced": (lambda h: setattr(k := h.clone(), "data", h * 2) or k, "__set__"),
    "set": (lambda h: h.clone().set_(h), "set_"),
    "fourier transform": (lambda h: torch.fft.ifft2(torch.fft.fft2(h)).real, "fft_fft2"),
}


@pytest.mark.parametrize("enable_grad", [False, True], ids=["", "grad enabled"])
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refused_also_where_another_branch_carries_the_signal(name: str, enable_grad: bool) -> None:
    function, message = REFUSED[name]

    def forward(s: Body, x: Tensor) -> Tensor:
        h = F.relu(s.conv1(x))
        with torch.set_grad_enabled(enable_grad):
            side = function(h)
        return s.head(s.conv2(h) + side)

    with pytest.raises(UnsupportedOperationError) as caught:
        LRPZBeta(body(forward)).attribute(images(), 1)
    assert message in str(caught.value)
    assert "What to do" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda h: torch.fft.fft2(h).abs(), ["fft_fft2", "abs"]),
        (lambda h: torch.view_as_real(torch.fft.fft2(h) * 2j).sum(-1), ["fft_fft2", "mul", "view_as_real"]),
        (lambda h: (h * torch.tensor(1j)).real, ["mul", "real"]),
    ],
    ids=["transform", "in the middle", "constant"],
)
def test_complex_numbers_are_refused_by_the_operations_that_take_them(
    function: Callable[[Tensor], Tensor], named: list[str]
) -> None:
    model = body(lambda s, x: s.head(s.conv2(function(F.relu(s.conv1(x))))))
    with pytest.raises(UnsupportedOperationError) as caught:
        LRPZBeta(model).attribute(images(), target=1)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("  - ")]
    assert [line.split()[1] for line in lines] == named
    assert sum("complex numbers" in line for line in lines) == len([n for n in named if not n.startswith("fft")])


def test_numpy_on_the_way_is_warned_of() -> None:
    def forward(s: Body, x: Tensor) -> Tensor:
        h = F.relu(s.conv1(x))
        return s.head(s.conv2(h) + torch.from_numpy(h.detach().cpu().numpy().copy()))

    with pytest.warns(UserWarning, match="out of PyTorch"):
        LRPZBeta(body(forward)).attribute(images(), 1)


def test_numpy_as_the_only_way_is_refused() -> None:
    model = body(lambda s, x: s.head(torch.from_numpy(F.relu(s.conv1(x)).detach().numpy())))
    with pytest.warns(UserWarning), pytest.raises(ModelStateError, match="does not depend on the inputs.*numpy"):
        LRPZBeta(model).attribute(images(), 1)


def test_quantised_models_are_refused_by_name() -> None:
    quantized = torch.quantize_per_tensor(torch.rand(4, 4), 0.1, 0, torch.qint8)
    model = body(
        lambda s, x: s.head(torch.quantize_per_tensor(s.conv1(x).float(), 0.1, 0, torch.quint8).dequantize().double())
    )
    assert quantized.is_quantized
    with pytest.raises(UnsupportedOperationError, match="quantize_per_tensor"):
        LRPZBeta(model).attribute(images(), 1)
