"""A call of a torch function: its arguments by name, and whether it works in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import alone
from helpers.cases import C
from torch import Tensor

from captum_clrp import LRPZBeta, UnsupportedOperationError
from captum_clrp.engine.calls import Call
from captum_clrp.engine.operations import TABLE


@pytest.mark.parametrize("name", ["__int__", "__index__", "__invert__", "__init__"])
def test_conversions_do_not_count_as_working_in_place(name: str) -> None:
    assert not Call(getattr(Tensor, name), (C,), {}).overwrites


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (Tensor.__iadd__, (C, 1), {}),
        (Tensor.__ipow__, (C, 2), {}),
        (Tensor.__setitem__, (C, 0, 1), {}),
        (torch.relu_, (C,), {}),
        (Tensor.clamp_, (C, 0), {}),
        (F.relu, (C,), {"inplace": True}),
        (F.hardtanh, (C, -1.0, 1.0, True), {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_works_in_place(function: Any, args: Any, kwargs: Any) -> None:
    assert Call(function, args, kwargs).overwrites


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (F.conv2d, (1, 2, 3, 4), {"groups": 5}, {"input": 1, "weight": 2, "bias": 3, "stride": 4, "groups": 5}),
        (F.conv_transpose2d, (1, 2, 3, 4, 5, 6, 7, 8), {}, {"output_padding": 6, "groups": 7, "dilation": 8}),
        (F.batch_norm, (1, 2, 3, 4, 5, True), {}, {"running_mean": 2, "training": True}),
        (torch.batch_norm, (1, 2, 3, 4, 5, True, 0, 0, False), {}, {"running_mean": 4, "training": True}),
        (torch.dropout, (1, 0.5), {"train": False}, {"p": 0.5, "training": False}),
        (F.hardtanh_, (1, 0.0), {"max_val": 6.0}, {"min": 0.0, "max": 6.0}),
        (Tensor.clamp_, (1, 2, 3), {}, {"min": 2, "max": 3}),
        (Tensor.var, (1, 2, True, True), {}, {"dim": 2, "keepdim": True}),
        (torch.std, (1,), {"axis": 2, "keepdims": True}, {"dim": 2, "keepdim": True}),
        (torch.mm, (1, 2), {}, {"input": 1, "other": 2}),
        (torch.mv, (1,), {"vec": 2}, {"input": 1, "other": 2}),
        (torch.einsum, ("ij,jk", 1, 2), {}, {"equation": "ij,jk", "operands": (1, 2)}),
        (Tensor.__rsub__, (1, 2), {}, {"input": 1, "other": 2}),
        (Tensor.index_put_, (1, 2, 3, True), {}, {"accumulate": True}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_arguments_by_name_however_they_are_given(function: Any, args: Any, kwargs: Any, expected: Any) -> None:
    call = Call(function, args, kwargs)
    assert {name: call.get(name) for name in expected} == expected
    assert call.get("no such argument", "default") == "default"


NO_ARGUMENTS_BY_NAME = {"broadcast_tensors", "atleast_1d", "atleast_2d", "atleast_3d", "fill_", "zero_"}
NO_ARGUMENTS_BY_NAME |= {"rand_like", "randn_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"}
NO_ARGUMENTS_BY_NAME |= {"as_tensor"}


def test_every_function_of_the_table_has_a_signature() -> None:
    """Its own or that of another spelling, in any version of PyTorch; handlers ask for arguments by name."""
    calls = [Call(function, (C,), {}) for function in TABLE]
    assert {call.name for call in calls if call.get("*")} <= NO_ARGUMENTS_BY_NAME


def test_a_deprecated_order_of_arguments_is_refused() -> None:
    with pytest.raises(UnsupportedOperationError, match=r"add in module.*deprecated order"):
        LRPZBeta(alone(lambda x: torch.add(x, 2, x.flip(1)), 6)).attribute(C, initial_relevance=torch.zeros_like)
