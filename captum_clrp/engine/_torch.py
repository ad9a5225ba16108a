"""The only file that names private parts of PyTorch: a new release means one edit, here."""

from __future__ import annotations

import copy
import functools
import platform
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

DisableTorchFunction = torch._C.DisableTorchFunction
DropoutNd = nn.modules.dropout._DropoutNd
NormBase = nn.modules.batchnorm._NormBase
OpOverload = torch._ops.OpOverload
SpectralNorm = nn.utils.parametrizations._SpectralNorm
c_functions = torch._C._nn
get_grad_fn = vars(torch._C.TensorBase)["grad_fn"].__get__
set_grad_enabled = torch._C._set_grad_enabled

_PYTHON_KERNELS = torch._C.DispatchKeySet(torch._C.DispatchKey.Python).add(torch._C.DispatchKey.PythonTLSSnapshot)


def without_python_kernels() -> AbstractContextManager[Any]:
    """While it is entered, no ``TorchDispatchMode`` sees what runs."""
    guard: AbstractContextManager[Any] = torch._C._ExcludeDispatchKeyGuard(_PYTHON_KERNELS)
    return guard


def kernels_are_watched() -> bool:
    """Whether a ``TorchDispatchMode`` is on, such as one that counts floating-point operations."""
    return torch._C._len_torch_dispatch_stack() > 0


def unrelated_grad_fn() -> Any:
    """A function of a graph that leads nowhere; whatever hooks it gets are never called."""
    with torch.enable_grad():
        return torch.zeros((), requires_grad=True).view(1).grad_fn


def bfloat16_on_processor() -> bool:
    """Whether the processor has AVX512-BF16 or AMX, and its kernels may use it (environment variables can forbid it)."""
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # older PyTorch knows neither
    return any(getattr(torch.cpu, question, lambda: False)() for question in questions)


def mkl_is_slow() -> bool:
    """Whether PyTorch leaves products in float32 to MKL on an AMD processor with AVX-512, and has oneDNN."""
    backends = torch.backends
    return bool(backends.mkldnn.enabled) and _is_amd_with_avx512() and backends.mkldnn.is_available()


@functools.cache
def _is_amd_with_avx512() -> bool:
    if not torch.backends.mkl.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    maker = platform.processor()  # empty on most systems with Linux
    with suppress(OSError):
        maker += Path("/proc/cpuinfo").read_text(errors="replace")
    return "AuthenticAMD" in maker


def base_of(view: Tensor) -> Tensor | None:
    """The tensor that a view is of; ``None`` of what is no view."""
    return view._base


def version_of(tensor: Tensor) -> int:
    """Counts how often the memory of a tensor was written to, through views as well."""
    return 0 if tensor.is_inference() else tensor._version


def forward_pre_hooks(module: nn.Module) -> Iterable[Any]:
    """What runs before a module's forward."""
    return module._forward_pre_hooks.values()


def own_parameters(module: nn.Module) -> Iterable[nn.Parameter | None]:
    """The parameters of a module itself (its public method is slow)."""
    return module._parameters.values()


def padding_around(convolution: nn.Module) -> tuple[int, ...]:
    """What a convolution pads ahead of it where its own padding cannot, as ``F.pad`` takes it."""
    return getattr(convolution, "_reversed_padding_repeated_twice", ())


def with_parameters(module: nn.Module, **parameters: nn.Parameter | None) -> nn.Module:
    """A shallow copy of a module that has these parameters and no others; the module itself keeps its own."""
    stand_in = copy.copy(module)
    stand_in._parameters = dict(parameters)
    return stand_in
