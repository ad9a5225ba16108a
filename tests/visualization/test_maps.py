import numpy as np
import pytest
import torch
from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.geometry import Geometry
from captum_clrp.visualization import laid_back, seen_part, smoothed
from captum_clrp.visualization.maps import map_of, photograph_of, signed_part


def test_channels_are_summed_and_a_batch_of_one_is_taken():
    relevance = torch.arange(24.0).reshape(1, 3, 2, 4)
    expected = np.arange(24.0).reshape(3, 2, 4).sum(0)
    for given in (relevance, relevance[0], relevance[0].numpy(), expected):
        np.testing.assert_array_equal(map_of(given), expected)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((2, 3, 4, 4)), np.zeros((0, 4)), np.array([[1.0, np.nan]])])
def test_what_is_no_map_of_one_example_is_refused(bad):
    with pytest.raises(InvalidInputError, match="a map h"):
        map_of(bad)


def test_a_photograph_in_any_form_is_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for given in (Image.fromarray(pixels), pixels, pixels / 255, torch.from_numpy(pixels).movedim(2, 0)):
        np.testing.assert_allclose(photograph_of(given), pixels / 255, atol=1e-12)
    grey = photograph_of(pixels[..., 0])
    assert grey.shape == (5, 7, 3)
    assert (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_photograph_of_any_precision_may_have_a_graph(shape, dtype):
    pixels = torch.tensor([0.0, 0.25, 0.5, 1.0, 0.75]).expand(shape).to(dtype)
    drawn = photograph_of(pixels.clone().requires_grad_())
    assert drawn.shape == (4, 5, 3)
    np.testing.assert_array_equal(drawn, np.broadcast_to(np.array([0, 0.25, 0.5, 1, 0.75])[:, None], (4, 5, 3)))


def test_the_networks_input_is_no_photograph():
    with pytest.raises(InvalidInputError, match="not the normalised input"):
        photograph_of(torch.full((3, 4, 4), -1.5))
    with pytest.raises(InvalidInputError, match="shape"):
        photograph_of(np.zeros((4, 4, 2)))


def test_signs():
    values = np.array([[-2.0, 3.0]])
    assert signed_part(values, "signed").tolist() == [[-2, 3]]
    assert signed_part(values, "positive").tolist() == [[0, 3]]
    assert signed_part(values, "negative").tolist() == [[-2, 0]]
    assert signed_part(values, "absolute").tolist() == [[2, 3]]
    with pytest.raises(InvalidInputError, match="choose 'signed', 'positive'"):
        signed_part(values, "both")


@pytest.mark.parametrize("sigma", [0.7, 2.0, 6.0])
def test_smoothing_keeps_the_sum_also_at_the_edge(sigma):
    values = np.zeros((9, 12))
    values[0, 0], values[8, 5], values[4, 4] = 1.0, 2.0, -0.5
    assert smoothed(values, sigma).sum() == pytest.approx(2.5, abs=1e-6)


def test_smoothing_is_the_gaussian_it_says():
    values = np.zeros((41, 41))
    values[20, 20] = 1.0
    blurred = smoothed(values, 2.0)
    assert blurred[20, 24] / blurred[20, 20] == pytest.approx(np.exp(-(4**2) / (2 * 2.0**2)), rel=1e-4)
    assert smoothed(values, 0) is not None
    np.testing.assert_array_equal(smoothed(values, 0), values)


def test_smoothing_takes_away_the_checkerboard_of_a_stride():
    """A convolution of 3 at stride 2 reaches its inputs 1, 2 or 4 times."""
    ones = torch.ones(1, 1, 33, 33, requires_grad=True)
    torch.nn.functional.conv2d(ones, torch.ones(1, 1, 3, 3), stride=2).sum().backward()
    pattern = ones.grad[0, 0].numpy()
    assert set(np.unique(pattern[1:-1, 1:-1])) == {1, 2, 4}
    inner = smoothed(pattern, 2.0)[8:-8, 8:-8]
    assert inner.max() / inner.min() < 1.01


@pytest.mark.parametrize("sigma", [-1, 99, float("nan")])
def test_smoothing_by_nonsense_is_refused(sigma):
    with pytest.raises(InvalidInputError, match="smoothing by"):
        smoothed(np.ones((8, 8)), sigma)


def test_a_map_is_laid_back_where_the_network_saw_it():
    """A photograph of 80 x 40, resized to 40 x 20, of which the middle 20 x 20 are seen: columns 20 to 60 of the original."""
    geometry, size = Geometry(20, (20, 20)), (80, 40)
    relevance = np.zeros((20, 20))
    relevance[5, 15] = 3.0  # columns 50 and 51, rows 10 and 11
    back = laid_back(relevance, geometry, size)
    assert back.shape == (40, 80)
    assert back.sum() == pytest.approx(3.0, rel=1e-6)
    assert {(int(r), int(c)) for r, c in np.argwhere(back > 0.5 * back.max())} == {
        (10, 50),
        (10, 51),
        (11, 50),
        (11, 51),
    }
    assert seen_part(geometry, size) == (20, 0, 60, 40)


def test_a_padded_crop_is_laid_back_too():
    geometry, size = Geometry(None, (10, 10)), (6, 20)  # padded by 2 on each side, cut by 5 above and below
    relevance = np.ones((10, 10))
    back = laid_back(relevance, geometry, size)
    assert back.sum() == pytest.approx(60)
    assert (back[5:15] > 0.99).all()
    assert (back[:5] == 0).all()
    assert (back[15:] == 0).all()
    assert seen_part(geometry, size) == (0, 5, 6, 15)


def test_a_map_of_another_size_is_not_laid_back():
    with pytest.raises(InvalidInputError, match="geometry of the network"):
        laid_back(np.ones((9, 9)), Geometry(20, (20, 20)), (80, 40))
