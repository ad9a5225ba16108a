"""Scenes of several photographs."""

import pytest
import torch

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import Geometry, GridSource, ImageFolder, PhotographSource

GEOMETRY = Geometry(24, (24, 24))


def test_too_few_classes_make_no_scene(folder):
    with pytest.raises(InvalidInputError, match="3 classes"):
        GridSource(ImageFolder(folder), GEOMETRY, 2)


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
