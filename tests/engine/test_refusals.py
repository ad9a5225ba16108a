"""Operations that are refused: by name, with the module and what to do, all of them in one error."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers.bodies import alone
from helpers.cases import C, Case, inputs_of
from torch import Tensor, nn

from captum_clrp import LRPZBeta, UnsupportedOperationError
from captum_clrp.engine.operations import REFUSED as REFUSED_NAMES

RNN = nn.RNN(6, 3).double()
LSTM = nn.LSTM(6, 3).double()
GRU = nn.GRU(6, 3).double()
GRID = torch.zeros(2, 3, 3, 2).double()

REFUSED = [
    Case("scaled_dot_product_attention", lambda x: F.scaled_dot_product_attention(x, x, C[0, :2]), shape=(2, 6, 6)),
    Case("baddbmm", lambda x: torch.baddbmm(C[:, 0], x, x), shape=(2, 6, 6)),
    Case("einsum", lambda x: torch.einsum("nij,nkj,nkl->nil", x, x, x), shape=(2, 5, 6)),
    Case("bilinear", lambda x: F.bilinear(x, x, C[0, :3]), shape=(2, 6)),
    Case("cdist", lambda x: torch.cdist(x, x), shape=(2, 5, 6)),
    Case("cosine_similarity", lambda x: F.cosine_similarity(x, x.flip(1))),
    Case("pairwise_distance", lambda x: F.pairwise_distance(x, x.flip(1))),
    Case("outer", lambda x: torch.outer(x[0], x[1]), shape=(2, 6)),
    Case("dot", lambda x: torch.dot(x[0], x[1])[None], shape=(2, 6)),
    Case("inner", lambda x: torch.inner(x, x), shape=(2, 6)),
    Case("lstm", lambda x: LSTM(x)[0], shape=(2, 5, 6)),
    Case("gru", lambda x: GRU(x)[0], shape=(2, 5, 6)),
    Case("rnn_tanh", lambda x: RNN(x)[0], shape=(2, 5, 6)),
    Case("rnn_relu", lambda x: nn.RNN(6, 3, nonlinearity="relu").double()(x)[0], shape=(2, 5, 6)),
    Case("lstm_cell", lambda x: nn.LSTMCell(6, 3).double()(x)[0], shape=(2, 6)),
    Case("gru_cell", lambda x: nn.GRUCell(6, 3).double()(x), shape=(2, 6)),
    Case("rnn_tanh_cell", lambda x: nn.RNNCell(6, 3).double()(x), shape=(2, 6)),
    Case("rnn_relu_cell", lambda x: nn.RNNCell(6, 3, nonlinearity="relu").double()(x), shape=(2, 6)),
    Case("grid_sample", lambda x: F.grid_sample(x, GRID)),
    Case("affine_grid", lambda x: F.affine_grid(x, (2, 1, 3, 3)).sum((2, 3)), shape=(2, 2, 3)),
    Case("cumsum", lambda x: x.cumsum(1)),
    Case("cumprod", lambda x: x.cumprod(1)),
    Case("prod", lambda x: x.prod(1)),
    Case("logsumexp", lambda x: x.logsumexp(1)),
    Case("logcumsumexp", lambda x: x.logcumsumexp(1)),
    Case("__rtruediv__", lambda x: 2.0 / x),
    Case("div", lambda x: torch.div(C, x)),
    Case("__reduce_ex__", lambda x: x + copy.copy(x)),
    Case("__set__", lambda x: setattr(x, "data", x.relu()) or x),
    Case("unknown", lambda x: x + torch.fft.fft(x).imag),
    Case("unknown", lambda x: x + torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8).dequantize()),
    Case("unknown", lambda x: x + torch.ops.aten.relu.default(x)),
    Case("unknown", lambda x: torch.fft.rfft(x).real),
    Case("unknown", lambda x: torch.linalg.inv(x)),
    Case("unknown", lambda x: torch.histc(x)),
    Case("unknown", lambda x: torch._foreach_mul_([x], 2.0) or x),
]


def test_every_refused_name_has_a_case() -> None:
    missing = {name for names in REFUSED_NAMES for name in names.split()} - {case.names for case in REFUSED}
    assert not missing, f"add a Case for {sorted(missing)}"


@pytest.mark.parametrize("case", REFUSED, ids=str)
@pytest.mark.filterwarnings("ignore")
def test_refused_by_name_with_the_module_and_what_to_do(case: Case) -> None:
    x = inputs_of(case)
    model = alone(case.function, x.shape[-1])
    with pytest.raises(UnsupportedOperationError) as caught:
        LRPZBeta(model).attribute(x, initial_relevance=torch.zeros_like)
    message = str(caught.value)
    if case.names != "unknown":
        alias = {"__rtruediv__": "__r"}
        assert alias.get(case.names, case.names) in message
    assert "in module '1'" in message or "in module '(" in message
    assert "What to do" in message
    assert isinstance(caught.value, TypeError)  # as Captum's own error for a layer without rule


def test_one_error_names_every_refused_operation_once() -> None:
    class Attends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.cosine_similarity(x, x.flip(1), dim=-1).unsqueeze(-1) + torch.cdist(x, x) @ x

    class Accumulates(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(1).cumsum(1)

    model = nn.Sequential(nn.Linear(6, 6), Attends(), nn.Sequential(Accumulates()), nn.LSTM(6, 3)).eval()
    with pytest.raises(UnsupportedOperationError) as caught:
        LRPZBeta(model).attribute(torch.rand(2, 5, 6), initial_relevance=torch.zeros_like)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("  - ")]
    found = {tuple(line.split(":")[0].removeprefix("  - ").split(" in module ")) for line in lines}
    assert {("cosine_similarity", "'1'"), ("cdist", "'1'"), ("cumsum", "'2.0'"), ("lstm", "'3'")} <= found
    assert len(lines) == len(set(lines))
