"""The user's model and inputs are borrowed: what cannot be explained, or would be changed by running, is refused first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.engine._torch import DropoutNd, NormBase, SpectralNorm, forward_pre_hooks
from captum_clrp.engine.numerics import all_finite
from captum_clrp.errors import InvalidInputError, ModelStateError


def plain_model(model: nn.Module) -> nn.Module:
    """The module that computes: unwraps ``DataParallel`` and compiled models, whose parameters are the same objects."""
    while True:
        parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
        wrapped = getattr(model, "module" if parallel else "_orig_mod", None)
        if not isinstance(wrapped, nn.Module):
            return model
        model = wrapped


def checked_modules(model: nn.Module) -> dict[nn.Module, str]:
    """Name of each module; refuses models whose operations cannot be seen, or whose forward pass would change them.

    Raises:
        ModelStateError: for scripted modules, for lazy ones without weights, and for normalisation or dropout in
            training mode.
    """
    names, training = _named(model, "", {}), []
    for module, name in names.items():
        lazy: Any = module
        if isinstance(module, nn.modules.lazy.LazyModuleMixin) and lazy.has_uninitialized_params():
            raise ModelStateError(
                f"module '{name}' ({type(module).__name__}) has no weights yet; run the model once on such inputs first"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelStateError(
                f"module '{name or type(module).__name__}' is scripted or traced, so that its operations cannot be "
                "seen; explain the nn.Module that it was made from"
            )
        if module.training and _acts_differently_in_training(module):
            training.append(f"{name or '(model)'} ({type(module).__name__})")
    if training:
        listed = ", ".join(training[:5]) + (", ..." if len(training) > 5 else "")
        raise ModelStateError(
            f"{len(training)} module(s) are in training mode and would change their statistics or drop values: "
            f"{listed}; call model.eval() first"
        )
    return names


def _named(module: nn.Module, name: str, names: dict[nn.Module, str]) -> dict[nn.Module, str]:
    """What ``named_modules`` tells, in a time that does not grow with the depth of the nesting."""
    names[module] = name
    for child, submodule in module.named_children():
        if submodule not in names:
            _named(submodule, f"{name}.{child}" if name else child, names)
    return names


def _acts_differently_in_training(module: nn.Module) -> bool:
    if isinstance(module, NormBase):
        return bool(module.track_running_stats)
    if isinstance(module, DropoutNd):
        return module.p > 0
    if isinstance(module, SpectralNorm) or any(
        type(hook).__name__ == "SpectralNorm" for hook in forward_pre_hooks(module)
    ):
        return True  # iterates its estimate
    if isinstance(module, nn.RReLU):
        return True  # draws its slopes
    probability = getattr(module, "drop_prob", None)  # stochastic depth of timm
    if type(module).__name__ in ("StochasticDepth", "DropBlock2d", "DropBlock3d"):
        probability = getattr(module, "p", None)
    return isinstance(probability, float) and probability > 0


def tuple_of_inputs(inputs: Any) -> tuple[Any, ...]:
    """What the user gave, as a tuple.

    Raises:
        InvalidInputError: for anything but a tensor or a tuple.
    """
    if inputs is None:
        raise InvalidInputError("no input was given: inputs is None (NoneType); pass a tensor or a tuple of tensors")
    if not isinstance(inputs, Tensor | tuple):
        raise InvalidInputError(f"inputs is a {type(inputs).__name__}; pass a tensor or a tuple of tensors")
    return inputs if isinstance(inputs, tuple) else (inputs,)


def check_inputs(inputs: Sequence[Tensor]) -> None:
    """Refuse inputs that cannot be explained.

    Raises:
        InvalidInputError: saying which input, where and what is accepted.
    """
    if not inputs:
        raise InvalidInputError("no input tensors were given; pass a tensor or a tuple of tensors")
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise InvalidInputError(f"input {i} is a {type(x).__name__}; pass a tensor or a tuple of tensors")
        if x.is_meta or x.is_nested or x.layout != torch.strided:
            kind = "meta" if x.is_meta else "nested" if x.is_nested else str(x.layout)
            raise InvalidInputError(
                f"input {i} is a {kind} tensor; relevance needs a value for each place: pass a dense tensor with values "
                "(of a sparse one x.to_dense())"
            )
        if not x.is_floating_point():
            raise InvalidInputError(
                f"input {i} has dtype {x.dtype}; relevance needs floating-point inputs: convert it, e.g. x.float() / 255"
            )
        if x.dim() == 0 or x.numel() == 0:
            raise InvalidInputError(
                f"input {i} of shape {tuple(x.shape)} is empty; dimension 0 counts examples and must be at least 1"
            )
        if not all_finite(x):
            where = (~x.isfinite()).nonzero()[0].tolist()
            count = int((~x.isfinite()).sum())
            raise InvalidInputError(
                f"input {i} has {count} value(s) that are NaN or infinite, the first at index {tuple(where)}; "
                "relevance needs finite inputs"
            )
