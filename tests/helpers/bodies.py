"""Small networks whose forward pass a test writes down, and what a hostile caller would look at afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_clrp.rules import Identity


class Operation(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def alone(function: Callable[[Tensor], Any], size: int, rule: bool = True) -> nn.Module:
    """``function`` behind a linear layer that changes nothing and, with ``rule``, hands relevance through.

    Relevance at the input of this network is relevance at the input of ``function``.
    """
    same = nn.Linear(size, size, bias=False).double()
    with torch.no_grad():
        same.weight.copy_(torch.eye(size))
    if rule:
        same.rule = Identity()
    return nn.Sequential(same, Operation(function)).eval()


class Called(TorchFunctionMode):
    """Names of the torch functions that run."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


class Body(nn.Module):
    """Two convolutions and a linear layer whose order a function decides: ``function(body, x)``."""

    def __init__(self, function: Callable[[Any, Any], Any], channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.fc = nn.Linear(width, 5)
        self.function = function

    def head(self, features: Tensor) -> Tensor:
        return self.fc(features.mean((2, 3)))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def body(function: Callable[[Any, Any], Any], **sizes: int) -> Body:
    """`Body` with the same random float64 weights at every call, under which every channel is active somewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return Body(function, **sizes).double().eval()


def images(count: int = 2, channels: int = 3, size: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    """Values in [0, 1], (count, channels, size, size); the same at every call."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64).to(dtype)


# Float64 rounding; another order of sums at most.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def plain(s: Body, x: Tensor) -> Tensor:
    """What `body` computes for most tests: both convolutions and the linear layer, one behind the other."""
    return s.head(F.relu(s.conv2(F.relu(s.conv1(x)))))


class SmallUNet(nn.Module):
    """A segmenter: two levels down, transposed convolutions up, concatenations across; (N, 3, H, W) -> (N, 4, H, W)."""

    def __init__(self, classes: int = 4, width: int = 6) -> None:
        super().__init__()
        self.down1 = self._block(3, width)
        self.down2 = self._block(width, 2 * width)
        self.bottom = self._block(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = self._block(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1)
        self.merge1 = self._block(2 * width, width)
        self.out = nn.Conv2d(width, classes, 1)

    @staticmethod
    def _block(channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.bottom(F.max_pool2d(second, 2))
        x = self.merge2(torch.cat([self.up2(x), second], 1))
        x = self.merge1(torch.cat([self.up1(x), first], 1))
        return self.out(x)


class Snapshot:
    """Everything of a model (and of the process) that a call must leave as it was."""

    def __init__(self, model: nn.Module, *tensors: Tensor) -> None:
        self.model = model
        self.tensors = tensors
        self.seen = dict(self._look())

    def _look(self) -> Iterator[tuple[str, Any]]:
        yield "state_dict keys", list(self.model.state_dict())
        for kind, named in (("parameter", self.model.named_parameters()), ("buffer", self.model.named_buffers())):
            for name, tensor in named:
                yield f"{kind} {name}", (id(tensor), tensor._version, *self._tensor(tensor))
        for name, module in self.model.named_modules():
            yield (
                f"attributes of {name}",
                {key: id(value) for key, value in vars(module).items() if key != "training"},
            )
            yield f"training of {name}", module.training
            for key, value in vars(module).items():
                if "hook" in key and hasattr(value, "items"):
                    yield f"{key} of {name}", [(k, id(v)) for k, v in value.items()]
            yield (
                f"rule of {name}",
                (id(getattr(module, "rule", None)), repr(vars(module.rule)) if hasattr(module, "rule") else ""),
            )
            yield f"class of {name}", type(module)
        for key, value in vars(torch.nn.modules.module).items():
            if key.startswith("_global_") and hasattr(value, "items"):
                yield key, [(k, id(v)) for k, v in value.items()]
        for i, tensor in enumerate(self.tensors):
            yield (f"input {i}", (tensor._version if not tensor.is_inference() else 0, *self._tensor(tensor)))
            yield f"attributes of input {i}", dict(vars(tensor))
        yield "gradients", torch.is_grad_enabled()
        yield "inference mode", torch.is_inference_mode_enabled()
        yield "function modes", torch.overrides._len_torch_function_stack()
        yield "dispatch modes", torch.utils._python_dispatch._len_torch_dispatch_stack()
        yield "autocast", (torch.is_autocast_enabled(), torch.is_autocast_cpu_enabled())
        yield "random state", hash(bytes(torch.get_rng_state().numpy()))

    @staticmethod
    def _tensor(tensor: Tensor) -> tuple[Any, ...]:
        values = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
        hooks = tensor._backward_hooks
        return (
            hash(bytes(values)),
            tensor.dtype,
            tuple(tensor.shape),
            tensor.requires_grad,
            tensor.grad_fn,
            None if not tensor.is_leaf or tensor.grad is None else hash(bytes(tensor.grad.numpy())),
            None if hooks is None else list(hooks),
        )

    def assert_unchanged(self) -> None:
        now = dict(self._look())
        changed = [key for key in {**self.seen, **now} if self.seen.get(key) != now.get(key)]
        assert not changed, f"changed by the call: {changed}"
