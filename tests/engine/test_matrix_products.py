"""Products that take the way of a convolution are the same products; the oracle is float64."""

import platform

import pytest
import torch
from torch import Tensor

from captum_clrp.engine import _torch, matrix_products
from captum_clrp.engine._torch import mkl_is_slow
from captum_clrp.engine.matrix_products import pointwise, product, transposed_pointwise, transposed_product

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@pytest.fixture(params=[False, True], ids=["mkl", "onednn"])
def slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether MKL counts as slow: both ways run on every processor."""
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch was built without oneDNN")
    monkeypatch.setattr(matrix_products, "mkl_is_slow", lambda: request.param)
    return bool(request.param)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def kernels(call: object) -> set[str]:
    with torch.profiler.profile() as profile:
        call()  # type: ignore[operator]
    return {event.key for event in profile.key_averages()}


SIZES = [
    ((3, 70, 96), 384),  # a batch of tokens
    ((2, 8, 9, 128), 256),  # channels last
    ((200, 768), 64),
    ((64, 1024), 64),  # a signal too small for PyTorch's choice
    ((1, 12, 384), 96),  # few rows
    ((1, 900, 32), 512),
    ((1, 900, 24), 512),  # few channels
]


@pytest.mark.parametrize(("shape", "outputs"), SIZES)
def test_a_product_is_itself(slow: bool, shape: tuple[int, ...], outputs: int) -> None:
    torch.manual_seed(0)
    values, weight = torch.rand(shape), torch.rand(outputs, shape[-1])
    signal = torch.rand(*shape[:-1], outputs)
    close(product(values, weight), values.double() @ weight.double().T)
    close(transposed_product(signal, weight), signal.double() @ weight.double())


def test_values_may_lie_anyhow_in_memory(slow: bool) -> None:
    torch.manual_seed(0)
    values, weight = torch.rand(96, 100, 2).permute(2, 1, 0), torch.rand(96, 128).T
    close(product(values, weight), values.double() @ weight.double().T)
    signal = torch.rand(128, 100, 2).permute(2, 1, 0)
    close(transposed_product(signal, weight), signal.double() @ weight.double())


@pytest.mark.parametrize(("shape", "outputs"), [((5,), 3), ((2, 0), 3), ((2, 3, 4), 0), ((0, 4), 3), ((0, 2, 4), 3)])
def test_a_product_of_nothing_is_pytorchs(slow: bool, shape: tuple[int, ...], outputs: int) -> None:
    values, weight = torch.rand(shape), torch.rand(outputs, shape[-1])
    close(product(values, weight), torch.nn.functional.linear(values.double(), weight.double()))
    signal = torch.rand(*shape[:-1], outputs)
    close(transposed_product(signal, weight), signal.double().matmul(weight.double()))


def test_no_weights_are_copied_for_values_that_lie_anyhow(slow: bool) -> None:
    """As the input of an attention whose examples come second."""
    values, weight = torch.rand(5, 40, 96).transpose(0, 1), torch.rand(128, 96)
    signal = torch.rand(5, 40, 128).transpose(0, 1)
    assert "aten::bmm" not in kernels(lambda: product(values, weight))
    assert "aten::bmm" not in kernels(lambda: transposed_product(signal, weight))


PICTURES = [
    (1, 64, 256, 28),
    (1, 192, 1152, 7),  # either signal or values are too small for PyTorch's choice
    (1, 1152, 192, 7),
    (1, 256, 256, 8),  # both are
    (3, 64, 80, 30),
    (1, 24, 96, 40),  # few channels
]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("examples", "inputs", "outputs", "size"), PICTURES)
def test_a_pointwise_convolution_is_itself(
    slow: bool, examples: int, inputs: int, outputs: int, size: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    values = torch.rand(examples, inputs, size, size).contiguous(memory_format=memory_format)
    signal = torch.rand(examples, outputs, size, size).contiguous(memory_format=memory_format)
    weight = torch.rand(outputs, inputs, 1, 1)
    matrix = weight.double().flatten(1)
    found, received = pointwise(values, weight), transposed_pointwise(signal, weight, values)
    if slow and size > 10 and inputs >= 64:
        assert found is not None
        assert received is not None
    if found is not None:
        close(found, torch.einsum("oi,nixy->noxy", matrix, values.double()))
    if received is not None:
        close(received, torch.einsum("oi,noxy->nixy", matrix, signal.double()))


@needs_onednn
def test_large_ones_go_to_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_products, "mkl_is_slow", lambda: True)
    values, weight, signal = torch.rand(100, 512), torch.rand(256, 512), torch.rand(100, 256)
    for call in (lambda: product(values, weight), lambda: transposed_product(signal, weight)):
        ran = kernels(call)
        assert not {"aten::mm", "aten::addmm", "aten::bmm"} & ran
        assert not [kernel for kernel in ran if "slow" in kernel]  # what PyTorch takes on one core but for the dilation
    for rows, inputs, outputs, convolved in (
        (900, 32, 512, True),
        (40, 1024, 256, False),  # few rows
        (900, 24, 512, False),  # few channels
        (300, 96, 256, False),  # few multiplications
    ):
        ran = kernels(lambda n=rows, i=inputs, o=outputs: product(torch.rand(n, i), torch.rand(o, i)))
        assert bool({"aten::mm", "aten::addmm"} & ran) != convolved


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_stay(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN has no float64, and PyTorch hands it bfloat16 anyway."""
    monkeypatch.setattr(matrix_products, "mkl_is_slow", lambda: True)
    values, weight = torch.rand(100, 512, dtype=dtype), torch.rand(256, 512, dtype=dtype)
    assert product(values, weight).dtype == dtype
    assert "aten::mkldnn_convolution" not in kernels(lambda: product(values, weight))


@pytest.mark.parametrize(
    ("maker", "capability", "slow"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        ("", "AVX512", False),
    ],
)
@needs_onednn
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="PyTorch was built without MKL")
def test_where_mkl_is_slow(maker: str, capability: str, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "processor", lambda: maker)
    monkeypatch.setattr(_torch.Path, "read_text", lambda path, **options: maker)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    _torch._is_amd_with_avx512.cache_clear()
    try:
        assert mkl_is_slow() is slow
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
        assert not mkl_is_slow()
    finally:
        _torch._is_amd_with_avx512.cache_clear()
