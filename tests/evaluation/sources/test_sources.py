"""Samples, scenes and mean images."""

import numpy as np
import pytest
import torch
from helpers import shaped

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import ILSVRC2012, Geometry, GridSource, ImageFolder, PhotographSource, Team, mean_image
from captum_clrp.evaluation.sources import subset
from captum_clrp.evaluation.sources.loading import ahead

GEOMETRY = Geometry(24, (24, 24))


def test_a_sample_is_the_picture_and_its_places(tmp_path):
    source = PhotographSource(ILSVRC2012(shaped.ilsvrc(tmp_path)), Geometry(60, (60, 60)))
    first, second, third = source
    assert first.pixels.dtype == torch.uint8
    assert first.pixels.shape == (3, 60, 60)
    # 80 -> 60: pixels 10..50 x 20..60 become 7.5..37.5 x 15..45.
    rows, columns = first.explained[0].mask.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
        15,
        44,
        7,
        36,
    )  # centre 7.5 belongs, 37.5 does not
    # 100 x 60: the crop begins at column 20, so that only the second box is seen, at 40..80 (cut at 60).
    assert int(second.explained[0].mask.sum()) == 20 * 20
    assert third.explained == ()
    assert third.cropped_away == ("n04552348",)


def test_subsets_are_drawn_by_seed_and_keep_the_order():
    ids = [f"image {i}" for i in range(50)]
    assert subset(ids, None, 0) == subset(ids, 99, 0) == list(range(50))
    drawn = subset(ids, 10, 0)
    assert drawn == sorted(drawn) == subset(ids, 10, 0)
    assert drawn != subset(ids, 10, 1)
    assert set(drawn) < set(subset(ids, 20, 0))  # more images are the same ones and others


def test_too_few_classes_make_no_scene(folder):
    with pytest.raises(InvalidInputError, match="3 classes"):
        GridSource(ImageFolder(folder), GEOMETRY, 2)


@pytest.fixture
def many(tmp_path):
    for i in range(14):
        shaped.noise(tmp_path / f"{i % 5}_{i:02d}.png", 40, 30, i)
    return ImageFolder(tmp_path)


def test_scenes(many):
    source = GridSource(many, GEOMETRY, 2, seed=1)
    assert len(source) == 3  # 14 photographs of 5 classes in hands of 4
    used = [part for id_ in source.ids for part in id_.partition(": ")[2].split(" | ")]
    assert len(used) == len(set(used)) == 12
    for scene in source:
        assert len({e.label for e in scene.explained}) == 4
        assert scene.pixels.shape == (3, 48, 48)
        for cell, e in enumerate(scene.explained):
            row, column = divmod(cell, 2)
            assert e.mask[row * 24 : row * 24 + 24, column * 24 : column * 24 + 24].all()
            assert int(e.mask.sum()) == 24 * 24
    singles = {s.id: s.pixels for s in PhotographSource(many, GEOMETRY)}
    first = source.ids[0].partition(": ")[2].split(" | ")
    assert torch.equal(source[0].pixels[:, 24:, :24], singles[first[2]])


def test_scenes_by_seed_rounds_and_limit(many):
    ids = GridSource(many, GEOMETRY, 2, seed=1).ids
    assert ids == GridSource(many, GEOMETRY, 2, seed=1).ids != GridSource(many, GEOMETRY, 2, seed=2).ids
    assert len(GridSource(many, GEOMETRY, 2, rounds=3)) == 9
    assert len(set(GridSource(many, GEOMETRY, 2, rounds=3).ids)) == 9
    assert GridSource(many, GEOMETRY, 2, seed=1, limit=2).ids == ids[:2]


def test_scenes_can_be_as_large_as_the_input(many):
    assert GridSource(many, GEOMETRY, 2, shrink=True)[0].pixels.shape == (3, 24, 24)


def test_fingerprints_tell_sources_apart(many, folder):
    sources = [
        PhotographSource(many, GEOMETRY),
        PhotographSource(many, Geometry(30, (24, 24))),
        PhotographSource(many, GEOMETRY, limit=5),
        PhotographSource(ImageFolder(folder), GEOMETRY),
        GridSource(many, GEOMETRY, 2),
        GridSource(many, GEOMETRY, 2, seed=1),
    ]
    assert len({s.fingerprint() for s in sources}) == 6
    assert sources[0].fingerprint() == PhotographSource(many, GEOMETRY).fingerprint()


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


def test_reading_ahead_keeps_the_order_and_stays_within_bounds():
    begun = []

    def read(item):
        begun.append(item)
        return -item

    results = ahead(read, range(20), count=3)
    assert next(results) == 0
    assert max(begun) <= 4
    assert [0, *results] == [-i for i in range(20)]


def test_reading_ahead_hands_errors_on():
    def read(item):
        raise OSError(f"disk {item}")

    with pytest.raises(OSError, match="disk 0"):
        next(ahead(read, range(3)))
