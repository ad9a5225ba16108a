"""Weighted operations as linear maps, and the memory of their derived weights."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Iterator

import pytest
import torch
from helpers import oracles
from torch import Tensor, nn

from captum_clrp import LRPZBeta
from captum_clrp.engine.linear_maps import Convolution, FullyConnected, LinearMap, ProductMap, WeightCache, weight_cache


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    weight_cache.clear()
    yield
    weight_cache.clear()


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


# --- the cache


def test_positive_weights_are_computed_once_per_version_of_a_parameter() -> None:
    weight = nn.Parameter(torch.randn(3, 4))
    first = FullyConnected(weight).positive
    assert FullyConnected(weight).positive is first


def change_in_place(weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(-1)


def change_data_in_place(weight: nn.Parameter) -> None:
    weight.data.mul_(-1)  # PyTorch counts no version here


def replace_data(weight: nn.Parameter) -> None:
    weight.data = -weight.data


def load_state(weight: nn.Parameter) -> None:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    module.weight = weight
    module.load_state_dict({"weight": -weight.detach()})


def take_a_step(weight: nn.Parameter) -> None:
    weight.grad = 2 * weight.detach().clone()
    torch.optim.SGD([weight], lr=1.0).step()
    weight.grad = None


@pytest.mark.parametrize("change", [change_in_place, change_data_in_place, replace_data, load_state, take_a_step])
def test_a_change_of_the_parameter_is_noticed(change) -> None:  # type: ignore[no-untyped-def]
    weight = nn.Parameter(torch.randn(3, 4))
    before = FullyConnected(weight).positive.clone()
    change(weight)
    after = FullyConnected(weight).positive
    torch.testing.assert_close(after, weight.detach().clamp(min=0))
    assert not torch.equal(before, after)


def test_a_map_follows_the_weights_after_training() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.rand(2, 3).double()
    LRPZBeta(model).attribute(x, target=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(x).sum().backward()
    optimizer.step()
    torch.testing.assert_close(LRPZBeta(model).attribute(x, target=0), oracles.lrp(model, x, 0), rtol=1e-9, atol=1e-9)


def test_derived_weights_go_with_their_parameter() -> None:
    cache = WeightCache()
    weight = nn.Parameter(torch.randn(3, 4))
    cache.get(weight, "positive", lambda w: w.clamp(min=0))
    assert len(cache._entries) == 1
    del weight
    gc.collect()
    assert not cache._entries


def test_a_derived_weight_serves_its_own_key_only() -> None:
    cache, weight = WeightCache(), nn.Parameter(torch.tensor([[-1.0, 2.0]]))
    positive = cache.get(weight, "positive", lambda w: w.clamp(min=0))
    negative = cache.get(weight, "negative", lambda w: w.clamp(max=0))
    assert positive.tolist() == [[0, 2]]
    assert negative.tolist() == [[-1, 0]]
    assert cache.get(weight, "positive", torch.neg) is positive


def test_tensors_that_are_no_parameters_are_not_kept() -> None:
    cache, weight = WeightCache(), torch.randn(3, 4)
    first = cache.get(weight, "positive", lambda w: w.clamp(min=0))
    assert cache.get(weight, "positive", lambda w: w.clamp(min=0)) is not first
    assert not cache._entries


def test_the_cache_can_be_switched_off_and_emptied() -> None:
    cache, weight = WeightCache(), nn.Parameter(torch.randn(3, 4))
    first = cache.get(weight, "positive", lambda w: w.clamp(min=0))
    cache.clear()
    assert cache.get(weight, "positive", lambda w: w.clamp(min=0)) is not first
    cache.clear()
    cache.enabled = False
    cache.get(weight, "positive", lambda w: w.clamp(min=0))
    assert not cache._entries


def test_threads_may_share_the_cache() -> None:
    weights = [nn.Parameter(torch.full((2, 2), float(i + 1))) for i in range(4)]
    wrong: list[float] = []

    def work(offset: int) -> None:
        for step in range(200):
            i = (step + offset) % 4
            positive = FullyConnected(weights[i]).positive
            if positive.unique().tolist() != [i + 1]:
                wrong.append(positive.max().item())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
