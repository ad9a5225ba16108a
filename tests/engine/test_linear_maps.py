"""Weighted operations as linear maps, and the memory of their derived weights."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import oracles
from torch import Tensor, nn

from captum_clrp.engine.linear_maps import Convolution, FullyConnected, LinearMap, ProductMap


def convolution(module: nn.modules.conv._ConvNd) -> Convolution:
    return Convolution(
        module.weight,
        module.bias,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        transposed=module.transposed,
        output_padding=module.output_padding,
    )


CONVOLUTIONS = [
    (nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2), (2, 8)),
    (nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (2, 5, 6)),
    (nn.Conv3d(1, 2, 2, padding=1, stride=2), (1, 3, 2, 3)),
    (nn.ConvTranspose1d(2, 2, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4)),
    (nn.ConvTranspose2d(2, 3, 3, stride=2, dilation=2), (2, 3, 3)),
    (nn.ConvTranspose3d(1, 2, 2, stride=2), (1, 2, 2, 2)),
    # matrix products, for a single example
    (nn.Conv1d(3, 2, 1), (3, 4)),
    (nn.Conv2d(2, 3, 1), (2, 3, 2)),
    (nn.Conv3d(2, 1, 1, dilation=2), (2, 2, 1, 2)),
    # nearly so
    (nn.Conv2d(2, 3, 1, padding=1), (2, 2, 3)),
    (nn.Conv2d(2, 3, 1, stride=(1, 2)), (2, 2, 3)),
    (nn.Conv2d(4, 2, 1, groups=2), (4, 2, 3)),
    (nn.ConvTranspose2d(2, 3, 1), (2, 2, 3)),
]


def assert_is_matrix(layer: LinearMap, weight: Tensor, W: Tensor, shape: tuple[int, ...]) -> None:
    """``apply`` multiplies with W, ``transpose`` with its transpose."""
    for examples in (3, 1):
        x = torch.randn(examples, *shape).double()
        with torch.no_grad():
            z = layer.apply(x, weight)
            torch.testing.assert_close(z.flatten(1), x.flatten(1) @ W.T)
            s = torch.randn_like(z)
            back = layer.transpose(s, weight, x)
        torch.testing.assert_close(back, (s.flatten(1) @ W).reshape(x.shape))


@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS, ids=lambda v: type(v).__name__)
def test_convolution_is_its_matrix(module: nn.Module, shape: tuple[int, ...]) -> None:
    module = copy.deepcopy(module).double()
    W, reach = oracles.module_matrices(module, shape)
    layer = convolution(module)
    assert_is_matrix(layer, module.weight.detach(), W, shape)
    assert_is_matrix(layer, layer.receptive_field(torch.zeros(1, *shape)), reach.double(), shape)


@pytest.mark.parametrize("kernel", [(2, 3), (4, 2)])
def test_uneven_padding_is_what_same_means_for_even_kernels(kernel: tuple[int, int]) -> None:
    module = nn.Conv2d(2, 3, kernel, padding="same").double()
    W, _ = oracles.module_matrices(module, (2, 5, 6))
    totals = [k - 1 for k in reversed(kernel)]
    layer = Convolution(
        module.weight,
        None,
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        groups=1,
        uneven_padding=[side for t in totals for side in (t // 2, t - t // 2)],
    )
    assert_is_matrix(layer, module.weight.detach(), W, (2, 5, 6))


def test_fully_connected_is_its_matrix() -> None:
    module = nn.Linear(4, 3).double()
    layer = FullyConnected(module.weight, module.bias)
    assert_is_matrix(layer, module.weight.detach(), module.weight.detach(), (4,))
    sequence = torch.randn(2, 5, 4).double()
    s = torch.randn(2, 5, 3).double()
    back = layer.transpose(s, module.weight.detach(), sequence)
    torch.testing.assert_close(back, s @ module.weight.detach())


@pytest.mark.parametrize("constant_first", [False, True])
def test_product_with_a_constant_is_its_matrix(constant_first: bool) -> None:
    shape = (3, 4)
    constant = torch.randn(*((5, 3) if constant_first else (4, 5))).double()

    def product(x: Tensor, w: Tensor) -> Tensor:
        return w @ x if constant_first else x @ w

    W = oracles.dense_matrix(lambda x: product(x, constant), shape)
    assert_is_matrix(ProductMap(constant, product), constant, W, shape)


def test_product_that_sums_an_index_away_gives_relevance_memory_of_its_own() -> None:
    layer = ProductMap(torch.rand(2, 3, 4), lambda a, b: torch.einsum("nci,ncj->nc", a, b))
    received = layer.transpose(torch.ones(2, 3), layer.weight, torch.rand(2, 3, 5))
    torch.testing.assert_close(received.mul_(2.0), 2 * layer.weight.sum(2, keepdim=True).expand(2, 3, 5))


def test_base_class_says_what_is_missing() -> None:
    layer = LinearMap(torch.ones(1, 1))
    with pytest.raises(NotImplementedError, match="apply"):
        layer.apply(torch.ones(1, 1), torch.ones(1, 1))
    with pytest.raises(NotImplementedError, match="transpose"):
        layer.transpose(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1))


# --- derived weights


def test_parts_of_weights_and_of_negated_weights() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0, 0.0]]))
    layer = FullyConnected(weight)
    assert layer.full.tolist() == [[1, -2, 0]]
    assert layer.positive.tolist() == [[1, 0, 0]]
    assert layer.negative.tolist() == [[0, -2, 0]]
    assert layer.absolute.tolist() == [[1, 2, 0]]
    dual = layer.with_negated_weights()
    assert dual.negated
    assert not layer.negated
    assert dual.full.tolist() == [[-1, 2, 0]]
    assert dual.positive.tolist() == [[0, 2, 0]]
    assert dual.negative.tolist() == [[-1, 0, 0]]
    assert dual.absolute.tolist() == [[1, 2, 0]]
    assert dual.with_negated_weights().positive.tolist() == layer.positive.tolist()


def test_half_precision_weights_are_derived_in_single_precision() -> None:
    layer = FullyConnected(nn.Parameter(torch.ones(1, 2, dtype=torch.bfloat16)))
    for derived in (layer.full, layer.positive, layer.absolute):
        assert derived.dtype == torch.float32


def test_bias_is_shaped_to_be_added_to_an_output() -> None:
    module = nn.Conv2d(2, 3, 1)
    assert convolution(module).over_outputs(module.bias).shape == (3, 1, 1)
    assert FullyConnected(torch.ones(4, 1)).over_outputs(torch.ones(4)).shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (70000, 2), (3, 100000), (7,), ()])
def test_parts_in_any_shape_and_precision(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight = torch.randn(shape).to(dtype)
    layer = FullyConnected(weight)
    wide = layer.in_double_precision().with_negated_weights()
    for kind, of in (("positive", relu), ("negative", lambda w: -relu(-w)), ("absolute", torch.abs)):
        assert torch.equal(getattr(layer, kind), of(weight.float()))
        assert torch.equal(getattr(wide, kind), of(-weight.double()))


def relu(weight: Tensor) -> Tensor:
    return torch.where(weight > 0, weight, 0.0)


def test_parts_of_both_signs_side_by_side() -> None:
    for module in (nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3)):
        layer = convolution(module)
        expected = torch.cat((relu(module.weight), -relu(-module.weight)), 0 if layer.transposed else 1)
        assert torch.equal(layer.both_signs, expected)
        dual = torch.cat((relu(-module.weight), -relu(module.weight)), 0 if layer.transposed else 1)
        assert torch.equal(layer.with_negated_weights().both_signs, dual)
