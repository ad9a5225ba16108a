"""Every function in the table: what it does to relevance, compared with an oracle that knows nothing of the package.

A case is one call. It stands behind a linear layer that hands relevance through unchanged, so that what comes back is
the operation and nothing else.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import oracles
from helpers.bodies import Called, alone
from helpers.cases import (
    DRAWN,
    IMAGE,
    INDEX,
    MASK,
    ORDER,
    W4,
    C,
    Case,
    added,
    bn,
    each,
    each_dimension,
    every_second,
    first,
    in_place,
    inputs_of,
    joined,
    pad_twice,
    reversed_pieces,
    set_item,
    set_part,
    swap_data,
)
from torch import Tensor, nn

from captum_clrp import LRPZBeta, check_conservation
from captum_clrp.bounds import InputDomain
from captum_clrp.engine.operations import REFUSED as REFUSED_NAMES
from captum_clrp.engine.operations import ROWS, TABLE, Row
from captum_clrp.engine.propagation import run_model
from captum_clrp.engine.settings import Settings

# Float64 rounding of sums over a few dozen values; a wrong rule is off by 0.1 and more.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def raised_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y **= 3
    return y


ATTENTION = nn.MultiheadAttention(6, 2, batch_first=True, bias=False).double().eval()

CASES = [
    # weighted operations
    Case("linear", lambda x: F.linear(x, C[0, 0][:3], C[0, 0, 0, :3]), "weighted", (2, 5, 6)),
    Case("conv1d", lambda x: F.conv1d(x, C[0, :, :, :3][:, :4], None, 2, 1), "weighted", (2, 4, 7)),
    Case("conv2d", lambda x: F.conv2d(x, C[:, :, :3, :3], None, 1, 1), "weighted"),
    Case("conv3d", lambda x: F.conv3d(x, C[None, :, :2, :2, :2][:, :, :2], padding=1), "weighted", (1, 2, 3, 4, 4)),
    Case("conv_transpose1d", lambda x: F.conv_transpose1d(x, C[0, :4, :2, :3], stride=2), "weighted", (2, 4, 5)),
    Case(
        "conv_transpose2d",
        lambda x: F.conv_transpose2d(x, C[0, :, :3, :2][:, None], None, 2, 1, 1),
        "weighted",
        (2, 4, 3, 4),
    ),
    Case("conv_transpose3d", lambda x: F.conv_transpose3d(x, C[:1, :2, :2, :2, None]), "weighted", (2, 1, 2, 3, 2)),
    Case("matmul", lambda x: torch.matmul(x, C[0, 0]), "weighted"),
    Case("matmul", lambda x: torch.matmul(C[0, 0, :4, :5], x), "weighted", (2, 5, 6)),
    Case("mm", lambda x: torch.mm(x, C[0, 0]), "weighted", (3, 6)),
    Case("bmm", lambda x: torch.bmm(x, C[:, 0]), "conserved", (2, 5, 6)),
    Case("mv", lambda x: torch.mv(x, C[0, 0, 0]), "weighted", (3, 6)),
    Case("addmm", lambda x: torch.addmm(C[0, 0, :3, :2], x, C[0, 0, :, :2]), "conserved", (3, 6)),
    Case("__matmul__", lambda x: x @ C[0, 0], "weighted"),
    Case("__rmatmul__", lambda x: x.__rmatmul__(C[0, 0, :4, :5]), "weighted", (2, 5, 6)),
    Case("einsum", lambda x: torch.einsum("nchw,cd->ndhw", x, C[0, 0, :4, :3]), "weighted"),
    Case("tensordot", lambda x: torch.tensordot(x, C[0, 0, :6, :3], 1), "weighted"),
    Case("lerp", lambda x: torch.lerp(x, x.flip(1), 0.3), "conserved"),
    Case("var_mean", lambda x: torch.var_mean(x, (2, 3))[0], "conserved"),
    Case("std_mean", lambda x: torch.std_mean(x, (2, 3))[1], "mean"),
    Case("as_tensor", lambda x: torch.as_tensor(x) * 1.0),
    Case("__deepcopy__", lambda x: copy.deepcopy(x)),
    Case("__ipow__", raised_in_place),
    Case("scaled_dot_product_attention", lambda x: F.scaled_dot_product_attention(x, x, x), "conserved", (2, 5, 6)),
    Case("multi_head_attention_forward", lambda x: ATTENTION(x, x, x)[0], "conserved", (2, 5, 6)),
    # normalisation
    Case("batch_norm", bn),
    Case("batch_norm", nn.BatchNorm2d(4).double().eval()),
    Case("instance_norm", lambda x: F.instance_norm(x, weight=W4)),
    Case("layer_norm", lambda x: F.layer_norm(x, (6,), C[0, 0, 0], C[0, 0, 1]), "conserved"),
    Case("group_norm", lambda x: F.group_norm(x, 2, W4, W4)),
    Case("local_response_norm", lambda x: F.local_response_norm(x, 3)),
    Case("rms_norm", lambda x: F.rms_norm(x, (6,), C[0, 0, 0])),
    Case("normalize", lambda x: F.normalize(x, dim=1)),
    # activations
    *each("relu relu6 softplus leaky_relu elu selu celu gelu silu mish hardswish softsign hardshrink", F),
    *each("softshrink tanhshrink logsigmoid hardtanh hardsigmoid sigmoid tanh", F),
    *each("exp expm1 erf atan nan_to_num round floor ceil sin cos square abs absolute neg", torch),
    *each("negative reciprocal", torch),
    *each("sqrt rsqrt log log1p", torch, positive=True),
    Case("prelu", lambda x: F.prelu(x, W4)),
    Case("rrelu", lambda x: F.rrelu(x)),
    Case("threshold", lambda x: F.threshold(x, 0.1, -3.0)),
    Case("clamp", lambda x: x.clamp(-0.3, 0.4)),
    Case("clamp", lambda x: torch.clamp(x, max=-0.2)),
    Case("clip", lambda x: torch.clip(x, 0.1)),
    Case("clamp_min", lambda x: x.clamp_min(0.1)),
    Case("clamp_max", lambda x: x.clamp_max(-0.1)),
    Case("pow", lambda x: torch.pow(x, 2)),
    Case("float_power", lambda x: torch.float_power(x, 3)),
    Case("__pow__", lambda x: x**2),
    Case("softmax", lambda x: F.softmax(x, 1)),
    Case("log_softmax", lambda x: F.log_softmax(x, 1)),
    Case("softmin", lambda x: F.softmin(x, 1)),
    Case("gumbel_softmax", lambda x: F.gumbel_softmax(x, dim=1)),
    *each("dropout dropout2d dropout3d alpha_dropout feature_alpha_dropout", F, 0.5, False),
    Case("dropout1d", lambda x: F.dropout1d(x, 0.5, False), shape=(2, 4, 6)),
    Case("feature_dropout", lambda x: torch.feature_dropout(x, 0.5, False)),
    # sums and products
    Case("add", lambda x: torch.add(x, C)),
    Case("add", lambda x: torch.add(x, x.flip(1)), "branches", parts=lambda x: (x, x.flip(1))),
    Case("add", lambda x: torch.add(x, x.flip(1), alpha=-2.5), "branches", parts=lambda x: (x, -2.5 * x.flip(1))),
    Case("add", lambda x: torch.add(x, x[:, :1]), "branches", parts=lambda x: (x, x[:, :1])),
    Case("add", lambda x: torch.add(x[:1, :, :1], x), "branches", parts=lambda x: (x[:1, :, :1], x)),
    Case("sub", lambda x: torch.sub(x, x.flip(3), alpha=0.5), "branches", parts=lambda x: (x, -0.5 * x.flip(3))),
    Case("subtract", lambda x: torch.subtract(1.0, x)),
    Case("rsub", lambda x: torch.rsub(x, x.flip(1), alpha=3), "branches", parts=lambda x: (x.flip(1), -3 * x)),
    Case("__add__", lambda x: x + x.flip(2), "branches", parts=lambda x: (x, x.flip(2))),
    Case("__radd__", lambda x: 1.5 + x),
    Case("__sub__", lambda x: x - x.flip(2), "branches", parts=lambda x: (x, -x.flip(2))),
    Case("__rsub__", lambda x: 1.5 - x),
    Case("mul", lambda x: torch.mul(x, C)),
    Case("mul", lambda x: torch.mul(x, x.sigmoid()), "follows", parts=lambda x: x),
    Case("mul", lambda x: torch.mul(torch.sigmoid(x), x), "follows", parts=lambda x: x),
    Case("mul", lambda x: torch.mul(x, x[:, :1]), "follows", parts=lambda x: x),
    Case("mul", lambda x: torch.mul(x, x.flip(1)), "follows", parts=lambda x: (x + x.flip(1)) / 2),
    Case("multiply", lambda x: torch.multiply(2.0, x)),
    Case("div", lambda x: torch.div(x, C)),
    Case("div", lambda x: torch.div(x, x.abs().sum()), "follows", parts=lambda x: x),
    Case("divide", lambda x: torch.divide(x, 3.0)),
    Case("true_divide", lambda x: torch.true_divide(x, 3.0)),
    Case("__mul__", lambda x: x * 2),
    Case("__rmul__", lambda x: 2 * x),
    Case("__truediv__", lambda x: x / 2),
    Case("__div__", lambda x: x.__div__(2)),
    Case("addcmul", lambda x: torch.addcmul(C[0, 0, 0, 0], x, C[0, 0, 0, 1].abs(), value=0.5), "conserved"),
    Case("addcdiv", lambda x: torch.addcdiv(x, x, C[0, 0, 0, 1].abs() + 1), "conserved"),
    Case("glu", lambda x: F.glu(x, 1), "follows", parts=lambda x: x.chunk(2, 1)[0]),
    # pooling
    Case("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), "mean", (2, 4, 7)),
    Case("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), "mean"),
    Case("avg_pool2d", lambda x: F.avg_pool2d(x, (2, 3), 1, 0, count_include_pad=False, divisor_override=5), "mean"),
    Case("avg_pool3d", lambda x: F.avg_pool3d(x, 2), "mean", (1, 2, 4, 4, 4)),
    Case("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 3), "mean", (2, 4, 7)),
    Case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (4, 5)), "mean"),
    Case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 9), "mean"),
    Case("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2), "mean", (1, 2, 3, 4, 5)),
    Case("mean", lambda x: x.mean((2, 3)), "mean"),
    Case("mean", lambda x: torch.mean(x, dim=1, keepdim=True), "mean"),
    Case("sum", lambda x: x.sum((2, 3)), "sum"),
    Case("sum", lambda x: torch.sum(x, -1), "sum"),
    Case("fold", lambda x: F.fold(x, (5, 5), 3), "sum", (2, 18, 9)),
    Case("norm", lambda x: x.norm(dim=(2, 3)), "conserved"),
    Case("vector_norm", lambda x: torch.linalg.vector_norm(x, 3, dim=(2, 3)), "conserved"),
    Case("var", lambda x: x.var((2, 3)), "conserved"),
    Case("std", lambda x: torch.std(x, (2, 3)), "conserved"),
    Case("lp_pool1d", lambda x: F.lp_pool1d(x, 2, 3), "conserved", (2, 4, 7)),
    Case("lp_pool2d", lambda x: F.lp_pool2d(x, 2, 2), "conserved"),
    Case("lp_pool3d", lambda x: F.lp_pool3d(x, 2, 2), "conserved", (2, 2, 4, 4, 4)),
    Case("max_pool1d", lambda x: F.max_pool1d(x, 3, 2, 1), "gradient", (2, 4, 7)),
    Case("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1), "gradient"),
    Case("max_pool3d", lambda x: F.max_pool3d(x, 2), "gradient", (1, 2, 4, 4, 4)),
    *each_dimension("max_pool#d_with_indices", 2, return_indices=True, shape=lambda d: (2, 2, *[4] * d)),
    *each_dimension("adaptive_max_pool#d", 2, shape=lambda d: (2, 2, *[5] * d)),
    *each_dimension("adaptive_max_pool#d_with_indices", 2, return_indices=True, shape=lambda d: (2, 2, *[5] * d)),
    Case(
        "fractional_max_pool2d", lambda x: F.fractional_max_pool2d(x, 2, 3, _random_samples=DRAWN[..., :2]), "gradient"
    ),
    Case(
        "fractional_max_pool3d",
        lambda x: F.fractional_max_pool3d(x, 2, 3, _random_samples=DRAWN),
        "gradient",
        (2, 4, 6, 6, 6),
    ),
    Case("max_unpool1d", lambda x: F.max_unpool1d(x, every_second(x), 2), "gradient", (2, 4, 3)),
    Case("max_unpool2d", lambda x: F.max_unpool2d(x, every_second(x), 2), "gradient", (2, 4, 3, 3)),
    Case("max_unpool3d", lambda x: F.max_unpool3d(x, every_second(x), 2), "gradient", (1, 2, 2, 2, 2)),
    Case("amax", lambda x: x.amax((2, 3)), "gradient"),
    Case("amin", lambda x: torch.amin(x, 1), "gradient"),
    Case("topk", lambda x: x.topk(2, 1).values, "gradient"),
    Case("sort", lambda x: torch.sort(x, 1)[0], "gradient"),
    Case("kthvalue", lambda x: x.kthvalue(2, 3)[0], "gradient"),
    Case("median", lambda x: x.median(3).values, "gradient"),
    Case("max", lambda x: x.max(1)[0], "gradient"),
    Case("max", lambda x: torch.max(x, x.flip(1)), "gradient"),
    Case("min", lambda x: x.min(1).values, "gradient"),
    Case("maximum", lambda x: torch.maximum(x, x.flip(1)), "gradient"),
    Case("maximum", lambda x: torch.maximum(x, C)),
    Case("minimum", lambda x: torch.minimum(x, C)),
    Case("fmax", lambda x: torch.fmax(x, C)),
    Case("fmin", lambda x: torch.fmin(x.flip(1), x), "gradient"),
    Case("where", lambda x: torch.where(MASK, x, C)),
    Case("where", lambda x: torch.where(MASK, x, x.flip(1)), "gradient"),
    Case("masked_fill", lambda x: x.masked_fill(MASK, 0.5)),
    # interpolation and padding
    Case("interpolate", lambda x: F.interpolate(x, scale_factor=2), "gradient"),
    Case("interpolate", lambda x: F.interpolate(x, size=(4, 9), mode="nearest-exact"), "lost"),
    Case("interpolate", lambda x: F.interpolate(x, size=(4, 9), mode="bilinear"), "sum"),
    Case(
        "interpolate",
        lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True, antialias=False),
        "sum",
    ),
    Case("interpolate", lambda x: F.interpolate(x, size=(3, 3), mode="bilinear", antialias=True), "sum"),
    Case("interpolate", lambda x: F.interpolate(x, size=(4, 4), mode="area"), "mean"),
    Case("interpolate", lambda x: F.interpolate(x, size=9, mode="linear"), "sum", (2, 4, 6)),
    Case("interpolate", lambda x: F.interpolate(x, size=(8, 8), mode="bicubic"), "conserved"),
    Case("upsample", lambda x: F.upsample(x, scale_factor=2), "gradient"),
    Case("upsample_nearest", lambda x: F.upsample_nearest(x, scale_factor=2), "gradient"),
    Case("upsample_bilinear", lambda x: F.upsample_bilinear(x, scale_factor=2), "sum"),
    Case("pad", pad_twice, "conserved"),
    Case("pad", lambda x: F.pad(x, (-1, -2, 1, 0)), "conserved"),
    *(Case("pad", lambda x, m=m: F.pad(x, (1, 2, 2, 1), m), "gradient") for m in ("reflect", "replicate", "circular")),
    # values that only move
    Case("view", lambda x: x.view(2, 4, 36), "gradient"),
    Case("reshape", lambda x: x.permute(0, 2, 3, 1).reshape(2, -1), "gradient"),
    Case("permute", lambda x: x.permute(0, 2, 3, 1), "gradient"),
    Case("flatten", lambda x: torch.flatten(x, 1), "gradient"),
    Case("unflatten", lambda x: x.unflatten(1, (2, 2)), "gradient"),
    Case("transpose", lambda x: x.transpose(1, 2), "gradient"),
    Case("t", lambda x: x.t(), "gradient", (3, 6)),
    Case("swapaxes", lambda x: x.swapaxes(1, 2), "gradient"),
    Case("swapdims", lambda x: x.swapdims(1, 2), "gradient"),
    Case("movedim", lambda x: x.movedim(1, -1), "gradient"),
    Case("moveaxis", lambda x: x.moveaxis(1, -1), "gradient"),
    Case("squeeze unsqueeze", lambda x: x.unsqueeze(2).squeeze(2), "gradient"),
    Case("expand", lambda x: x.expand(2, 4, 3, 6), "gradient", (2, 4, 1, 6)),
    Case("expand_as", lambda x: x.expand_as(C), "gradient", (2, 4, 1, 6)),
    Case("broadcast_to", lambda x: x.broadcast_to(2, 4, 3, 6), "gradient", (2, 4, 1, 6)),
    Case("broadcast_tensors", lambda x: torch.broadcast_tensors(x, C)[0], "gradient", (2, 4, 1, 6)),
    Case("repeat", lambda x: x.repeat(1, 2, 1, 1), "gradient"),
    Case("repeat_interleave", lambda x: x.repeat_interleave(2, 3), "gradient"),
    Case("tile", lambda x: x.tile(1, 1, 2, 1), "gradient"),
    Case("roll", lambda x: x.roll(2, 3), "gradient"),
    Case("flip", lambda x: x.flip(1, 2), "gradient"),
    Case("fliplr", lambda x: x.fliplr(), "gradient"),
    Case("flipud", lambda x: x.flipud(), "gradient"),
    Case("rot90", lambda x: x.rot90(1, (2, 3)), "gradient"),
    Case("split", lambda x: torch.cat([t * k for k, t in enumerate(x.split(2, 1), 1)], 1), "pass"),
    Case("chunk", reversed_pieces("chunk", 3, 1), "gradient"),
    Case("tensor_split", reversed_pieces("tensor_split", 3, 1), "gradient"),
    Case("unsafe_chunk", reversed_pieces("unsafe_chunk", 3, 1), "gradient"),
    Case("unsafe_split", reversed_pieces("unsafe_split", 3, 1), "gradient"),
    Case("split_with_sizes", reversed_pieces("split_with_sizes", (1, 3), 1), "gradient"),
    Case("hsplit", reversed_pieces("hsplit", 2), "gradient"),
    Case("vsplit", reversed_pieces("vsplit", 2, dim=0), "gradient"),
    Case("dsplit", reversed_pieces("dsplit", 2, dim=2), "gradient"),
    Case("unbind", lambda x: torch.stack(x.unbind(1)[::-1], 1), "gradient"),
    Case("unbind", lambda x: torch.stack(list(x)), "gradient"),
    Case("narrow", lambda x: torch.cat([x.narrow(1, 2, 2), x.narrow(1, 0, 2)], 1), "gradient"),
    Case("select", lambda x: torch.stack([x.select(1, k) for k in (2, 3, 0, 1)], 1), "gradient"),
    Case("index_select", lambda x: x.index_select(1, torch.tensor([3, 0, 0, 1, 2])), "gradient"),
    Case("gather", lambda x: x.gather(1, INDEX), "gradient"),
    Case("take", lambda x: x.take(INDEX), "gradient"),
    Case("take_along_dim", lambda x: x.take_along_dim(INDEX, 1), "gradient"),
    Case("masked_select", lambda x: x.masked_select(MASK), "gradient"),
    Case("__getitem__", lambda x: x[:, [2, 1, 0], ::2, None, -1], "gradient"),
    Case("__getitem__", lambda x: x[MASK], "gradient"),
    Case("contiguous", lambda x: x.permute(0, 2, 3, 1).contiguous(), "gradient"),
    Case("contiguous clone", lambda x: x.contiguous(memory_format=torch.channels_last).clone(), "gradient"),
    Case("to", lambda x: x.to(torch.float32).to(x), "gradient"),
    Case("type", lambda x: x.type(torch.float64), "gradient"),
    Case("type_as", lambda x: x.type_as(C), "gradient"),
    Case("float double", lambda x: x.float().double(), "gradient"),
    Case("cpu", lambda x: x.cpu(), "gradient"),
    Case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), "gradient"),
    Case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), "gradient"),
    Case("channel_shuffle", lambda x: F.channel_shuffle(x, 2), "gradient"),
    Case("unfold", lambda x: x.unfold(2, 3, 1), "gradient"),
    Case("unfold", lambda x: F.unfold(x, 3), "gradient"),
    Case("as_strided", lambda x: x.as_strided((2, 4, 4), (144, 36, 6)), "gradient"),
    Case("view_as", lambda x: x.view_as(C), "gradient"),
    Case("reshape_as", lambda x: x.reshape_as(C), "gradient"),
    Case("ravel", lambda x: x.ravel(), "gradient"),
    Case("atleast_1d", lambda x: torch.atleast_1d(x), "gradient"),
    Case("atleast_2d", lambda x: torch.atleast_2d(x), "gradient"),
    Case("atleast_3d", lambda x: torch.atleast_3d(x), "gradient", (3, 6)),
    Case("diagonal", lambda x: x.diagonal(0, 2, 3), "gradient"),
    Case("T", lambda x: x.T, "gradient", (3, 6)),
    Case("mT", lambda x: x.mT, "gradient"),
    Case("H", lambda x: x.H, "gradient", (3, 6)),
    Case("adjoint", lambda x: x.adjoint(), "gradient"),
    Case("positive", lambda x: +x, "gradient"),
    Case("requires_grad_", lambda x: x.requires_grad_(), "gradient"),
    *joined("cat concat concatenate stack hstack vstack dstack column_stack"),
    Case("cat", lambda x: torch.cat([C, x], 1), "absorbs"),
    Case("stack", lambda x: torch.stack([x, C, x.flip(0)], 1), "absorbs"),
    # values from elsewhere
    Case("__setitem__", set_item, "lost"),
    Case("__setitem__", set_part, "lost"),
    Case("copy_", lambda x: torch.zeros_like(x).copy_(x), "gradient"),
    Case("tril", lambda x: x.tril(), "lost"),
    Case("triu", lambda x: torch.triu(x, 1), "lost"),
    Case("index_put", lambda x: x.index_put((torch.tensor([0]),), C[0]), "lost"),
    Case("index_copy", lambda x: torch.zeros_like(x).index_copy(1, torch.tensor([2, 0, 1, 3]), x), "gradient"),
    Case("index_fill", lambda x: x.index_fill(1, torch.tensor([2]), 0.0), "lost"),
    Case("scatter", lambda x: torch.zeros_like(x).scatter(1, ORDER.expand_as(x), x), "gradient"),
    Case("masked_scatter", lambda x: torch.zeros_like(x).masked_scatter(MASK, x), "lost"),
    Case("detach", lambda x: x.detach() * 2, "pass"),
    Case("data", swap_data, "pass"),
    # constants: the other branch carries the signal
    *added("zeros_like ones_like rand_like randn_like sign sgn"),
    Case("full_like", lambda x: x + torch.full_like(x, 2.0)),
    Case("empty_like", lambda x: x + torch.empty_like(x).detach().fill_(0)),
    Case("new_zeros", lambda x: x + x.new_zeros(6)),
    Case("new_ones", lambda x: x + x.new_ones(6)),
    Case("new_full", lambda x: x + x.new_full((6,), 3.0)),
    Case("new_empty", lambda x: x + x.new_empty(6).detach().fill_(0)),
    Case("new_tensor", lambda x: x + x.new_tensor([1.0])),
    Case("heaviside", lambda x: x + torch.heaviside(x, C)),
    Case("bernoulli", lambda x: x + torch.bernoulli(x.sigmoid())),
    Case("numpy", lambda x: x + torch.from_numpy(x.detach().numpy())),
    Case("__array__", lambda x: x + torch.from_numpy(np.asarray(x.detach()))),
    Case("tolist", lambda x: x + torch.tensor(x.tolist(), dtype=x.dtype)),
]

WITHOUT_ARGUMENTS = ["relu", "exp", "expm1", "erf", "atan", "nan_to_num", "round", "floor", "ceil"]
WITHOUT_ARGUMENTS += ["sin", "cos", "square", "abs", "neg", "reciprocal", "sigmoid", "tanh"]

IN_PLACE = [
    *(Case(f"{n}_", in_place(f"{n}_"), positive=True) for n in ("sqrt", "log", "log1p", "rsqrt")),
    *(Case(f"{n}_", in_place(f"{n}_")) for n in WITHOUT_ARGUMENTS),
    *(
        Case(case.names, lambda x, f=case.function: f(x.clone()))  # type: ignore[misc]
        for case in each(
            "relu relu6 leaky_relu elu selu celu silu mish hardswish hardtanh hardsigmoid", F, inplace=True
        )
    ),
    Case("threshold", lambda x: F.threshold(x.clone(), 0.1, -3.0, inplace=True)),
    Case("rrelu", lambda x: F.rrelu(x.clone(), inplace=True)),
    Case("dropout", lambda x: F.dropout(x.clone(), 0.5, False, inplace=True)),
    Case("clamp_", in_place("clamp_", -0.3, 0.4)),
    Case("clip_", in_place("clip_", 0.1)),
    Case("clamp_min_", in_place("clamp_min_", 0.1)),
    Case("clamp_max_", in_place("clamp_max_", -0.1)),
    Case("pow_", in_place("pow_", 2)),
    Case("add_", in_place("add_", C)),
    Case("add_", lambda x: x.clone().add_(x.flip(1), alpha=2), "branches", parts=lambda x: (x, 2 * x.flip(1))),
    Case("sub_", lambda x: x.clone().sub_(x.flip(1)), "branches", parts=lambda x: (x, -x.flip(1))),
    Case("add_", lambda x: torch.zeros_like(x).add_(x)),
    Case("mul_", in_place("mul_", C)),
    Case("mul_", lambda x: x.clone().mul_(x.sigmoid()), "follows", parts=lambda x: x),
    Case("mul_", lambda x: x.sigmoid().mul_(x), "follows", parts=lambda x: x),
    Case("mul_", lambda x: torch.ones_like(x).mul_(x)),
    Case("div_", in_place("div_", C)),
    Case("masked_fill_", in_place("masked_fill_", MASK, 0.5)),
    Case("squeeze_", lambda x: x.clone().unsqueeze(1).squeeze_(1), "gradient"),
    Case("unsqueeze_", lambda x: x.clone().unsqueeze_(1), "gradient"),
    Case("transpose_", lambda x: x.clone().transpose_(1, 2), "gradient"),
    Case("fill_", lambda x: x.clone().mul_(torch.empty_like(x).fill_(2.0))),
    Case("zero_", lambda x: x + torch.empty_like(x).zero_()),
    Case("detach_", lambda x: x.clone().detach_() * 1),
]


def in_place_operator(name: str, other: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        y = x.clone()
        return getattr(y, name)(other)

    return run


IN_PLACE += [
    Case(name, in_place_operator(name, C)) for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__")
]

NOT_HERE = {"half", "bfloat16", "cuda", "__rtruediv__"}
"""Precision and devices have tests of their own (``test_half_precision.py``); the last one is always refused."""


def start(case: Case, x: Tensor) -> tuple[nn.Module, Tensor]:
    model = alone(case.function, x.shape[-1])
    with torch.no_grad():
        output = model(x.clone())
    generator = torch.Generator().manual_seed(4)
    return model, torch.randn(output.shape, generator=generator, dtype=torch.float64)


def expected_of(case: Case, x: Tensor, R: Tensor, avg_pool: str) -> Tensor:
    """The oracle of a case's kind."""
    if case.kind == "pass":
        return R.sum_to_size(x.shape)
    variable = x.clone().requires_grad_()
    if case.kind == "gradient":
        return torch.autograd.grad(case.function(variable), variable, R)[0]
    if case.kind == "follows":
        assert case.parts is not None
        return torch.autograd.grad(case.parts(variable), variable, R)[0]
    if case.kind == "branches":
        assert case.parts is not None
        parts = case.parts(variable)
        shares = oracles.sum_rule([p.detach() for p in parts], R)
        signs = [torch.autograd.grad(p.sum(), variable, retain_graph=True)[0].sign() for p in parts]
        scales = [float(torch.autograd.grad(p.flatten()[0], variable, retain_graph=True)[0].abs().max()) for p in parts]
        received = torch.zeros_like(x)
        for part, share, sign, scale in zip(parts, shares, signs, scales, strict=True):
            (moved,) = torch.autograd.grad(part, variable, share, retain_graph=True)
            received += moved / scale * sign.flatten()[sign.flatten().nonzero()[0, 0]]
        return received
    if case.kind in ("mean", "sum", "weighted"):
        matrix = oracles.dense_matrix(lambda v: without_constant(case, v, x.shape), x.shape[1:])
        if case.kind == "weighted":
            return oracles.zplus_dense(matrix, x, R)
        rule = avg_pool if case.kind == "mean" else "proportional"
        return pool_dense(matrix, x, R, rule)
    raise AssertionError(case.kind)


def without_constant(case: Case, v: Tensor, shape: torch.Size) -> Tensor:
    """The function on each example alone, its value at zero subtracted."""
    return torch.cat([case.function(e) - case.function(torch.zeros_like(e)) for e in v.split(1)])


def pool_dense(matrix: Tensor, x: Tensor, R: Tensor, rule: str) -> Tensor:
    """As ``oracles.average_pool_dense``, for weights that differ within a region."""
    if rule == "even":
        return oracles.average_pool_dense(matrix, x, R, rule)
    received, waiting = torch.zeros_like(x).flatten(1), torch.ones_like(R).flatten(1)
    for amounts in (x.clamp(min=0).flatten(1), x.abs().flatten(1), torch.ones_like(x).flatten(1)):
        total = amounts @ matrix.T
        now = waiting * (total > 0)
        signal = torch.where(now > 0, R.flatten(1) / total, 0.0)
        received += (signal @ matrix) * amounts
        waiting = waiting - now
    return received.reshape(x.shape)


# -- the table and the cases cover each other ---------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.functions.split()[0])
def test_every_function_of_every_row_has_a_case(row: Row) -> None:
    covered = {name for case in (*CASES, *IN_PLACE) for name in case.names.split()}
    covered |= {name[:-1] for name in covered if name.endswith("_") and not name.endswith("__")}
    missing = set(row.functions.split()) - covered - NOT_HERE
    assert not missing, f"add a Case for {sorted(missing)}"


def refused_names() -> list[str]:
    return [name for names in REFUSED_NAMES for name in names.split()]


def test_every_name_of_the_table_is_a_torch_function() -> None:
    known = {name for row in ROWS for name in row.functions.split()} | set(refused_names())
    found = {name for row in TABLE.values() for name in row.functions.split()}
    assert known == found
    homes = (torch, torch.Tensor, F, torch._C._nn, torch.special, torch.linalg)
    unknown = {n for n in known if not any(hasattr(h, s) for h in homes for s in (n, n + "_"))}
    assert not unknown, f"misspelt or gone from PyTorch: {sorted(unknown)}"


def test_no_name_stands_in_two_rows() -> None:
    names = [*refused_names(), *(name for row in ROWS for name in row.functions.split())]
    assert len(names) == len(set(names))


@pytest.mark.filterwarnings("ignore")
def test_every_case_runs_what_it_says() -> None:
    for case in (*CASES, *IN_PLACE):
        with Called() as called, torch.no_grad():
            case.function(inputs_of(case))
        ran = {id(TABLE[f]) for f in called.functions if f in TABLE}
        for name in case.names.split():
            spellings = {name, name[:-1]} if name.endswith("_") else {name}
            (row,) = [row for row in ROWS if spellings & set(row.functions.split())]
            assert id(row) in ran, f"{name} did not run, but {[f.__name__ for f in called.functions]}"


# -- what comes back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*CASES, *IN_PLACE], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_relevance_is_what_the_rule_says(case: Case) -> None:
    x = inputs_of(case)
    model, R = start(case, x)
    for avg_pool in ("proportional", "even") if case.kind in ("mean", "sum") else ("proportional",):
        received = LRPZBeta(model, avg_pool=avg_pool).attribute(x, initial_relevance=R)
        assert received.isfinite().all()
        if case.kind not in ("conserved", "absorbs", "lost"):
            torch.testing.assert_close(received, expected_of(case, x, R, avg_pool), **CLOSE)


@pytest.mark.parametrize("case", [*CASES, *IN_PLACE], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_lost_nor_made(case: Case) -> None:
    x = inputs_of(case)
    model, R = start(case, x)
    tolerance = (1e-6 if "float" in case.names or case.names == "to" else 1e-9) * float(R.abs().sum())
    report = check_conservation(model, x, initial_relevance=R)
    if case.kind != "lost" and "unpool" not in case.names:  # relevance at values from elsewhere ends there
        assert abs(report.unaccounted) < tolerance
        if case.kind not in ("absorbs", "weighted") and case.names not in ("bmm", "addmm"):
            assert abs(report.absorbed) < tolerance
            kept = LRPZBeta(model, conserve=True).attribute(x, initial_relevance=R)
            assert abs(float(kept.sum() - R.sum())) < tolerance
    torch.manual_seed(0)  # for operations that draw numbers
    opposite = check_conservation(model, x, initial_relevance=-3 * R)
    assert abs(opposite.at_input + 3 * report.at_input) < tolerance * 3  # linear


@pytest.mark.parametrize("case", [*CASES, *IN_PLACE], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_values_taken_for_nonnegative_are(case: Case) -> None:
    """The next layer leaves out its terms for negative inputs where the operation says there are none."""
    x = inputs_of(case)
    plain = alone(case.function, x.shape[-1], rule=False)
    for model in (plain, nn.Sequential(plain[0], nn.ReLU(), nn.Hardtanh(0, 0.5), plain[1])):
        propagation = run_model(model, (x,), (), domain=InputDomain(), settings=Settings())
        output = first(propagation.output)
        if propagation.trace.info(output).nonnegative:
            assert not bool((output < 0).any()), "negative values are said not to be there"


# -- in place ------------------------------------------------------------------------------------------------------


IN_PLACE_METHODS = sorted({case.names for case in IN_PLACE if re.fullmatch(r"[a-z].*_", case.names)})
CHANGE_THE_VIEW = {"squeeze_", "unsqueeze_", "transpose_", "detach_"}


@pytest.mark.parametrize("name", [name for name in IN_PLACE_METHODS if name not in CHANGE_THE_VIEW])
@pytest.mark.filterwarnings("ignore")
def test_in_place_on_a_view_equals_out_of_place(name: str) -> None:
    """On the second half of the channels, as a model that works on slices does."""
    arguments = {
        "clamp_": (-0.3, 0.4),
        "clip_": (0.1,),
        "clamp_min_": (0.1,),
        "clamp_max_": (-0.1,),
        "pow_": (2,),
        "fill_": (2.0,),
        "add_": (C[:, 2:],),
        "sub_": (C[:, 2:],),
        "mul_": (C[:, 2:],),
        "div_": (C[:, 2:],),
        "masked_fill_": (MASK[:, 2:], 0.5),
    }.get(name, ())
    signal = torch.randn(IMAGE, dtype=torch.float64).abs() + 0.1

    def on_view(x: Tensor) -> Tensor:
        y = x.clone()
        getattr(y[:, 2:], name)(*arguments)
        return y

    def out_of_place(x: Tensor) -> Tensor:
        changed = getattr(x[:, 2:].clone(), name)(*arguments)
        return torch.cat([x[:, :2], changed], 1)

    maps = []
    for function in (on_view, out_of_place):
        model = alone(lambda x, f=function: F.conv2d(f(x), C[:, :, :3, :3]), 6)
        R = torch.randn((2, 2, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        maps.append(LRPZBeta(model).attribute(signal, initial_relevance=R))
    torch.testing.assert_close(maps[0], maps[1], **CLOSE)
