"""The mean of all images of a source."""

import numpy as np
import pytest
import torch
from evaluation.conftest import SIZE
from helpers import shaped
from PIL import Image

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import Geometry, ImageFolder, PhotographSource, Team, mean_image

GEOMETRY = Geometry(24, (24, 24))


def test_the_mean_image_is_the_mean(many):
    source = PhotographSource(many, GEOMETRY)
    expected = np.mean([s.pixels.numpy().astype(float) for s in source], axis=0)
    assert np.allclose(mean_image(source), expected, atol=1e-4)


def test_the_mean_image_is_computed_once_and_kept(many, tmp_path):
    source, counted = PhotographSource(many, GEOMETRY), []
    first = mean_image(source, cache=tmp_path / "cache", progress=counted.append)
    assert sum(counted) == 14
    second = mean_image(source, cache=tmp_path / "cache", progress=counted.append)
    assert sum(counted) == 14
    assert torch.equal(first, second)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(b"damaged")
    assert torch.equal(mean_image(source, cache=tmp_path / "cache"), first)


def test_shares_of_the_mean_add_up_exactly(many, monkeypatch):
    """What two processes sum is what one sums, to the last bit: pixels are whole numbers."""
    source = PhotographSource(many, GEOMETRY)
    sums = []
    for rank in range(2):
        team = Team(rank, 2)
        monkeypatch.setattr(team, "broadcast", lambda value: value)
        monkeypatch.setattr(team, "total", lambda value: sums.append(value) or value)
        mean_image(source, team=team)
    assert torch.equal(((sums[0] + sums[1]).double() / 14).float(), mean_image(source))


def test_images_of_different_size_have_no_mean(tmp_path):
    for i, width in enumerate((20, 30)):
        shaped.noise(tmp_path / f"0_{i}.png", width, 20, i)
    with pytest.raises(InvalidInputError, match="one size"):
        mean_image(PhotographSource(ImageFolder(tmp_path), Geometry(None, None)))


def test_an_unwritable_cache_does_no_harm(many, tmp_path):
    (tmp_path / "file").write_text("")
    mean_image(PhotographSource(many, GEOMETRY), cache=tmp_path / "file" / "below")


def test_mean_images_are_kept_by_the_content_of_their_data(tmp_path, monkeypatch):
    means = []
    for colour in ("red", "blue"):
        (tmp_path / colour / "photos").mkdir(parents=True)
        Image.new("RGB", (SIZE, SIZE), colour).save(tmp_path / colour / "photos" / "0_a.png")
        monkeypatch.chdir(tmp_path / colour)
        source = PhotographSource(ImageFolder("photos"), Geometry(SIZE, (SIZE, SIZE)))
        means.append(mean_image(source, cache=tmp_path / "cache"))
    assert means[0][0].min() == 255
    assert means[1][0].max() == 0
