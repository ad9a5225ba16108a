"""What all sources share."""

from captum_clrp.evaluation import Geometry, GridSource, ImageFolder, PhotographSource
from captum_clrp.evaluation.sources import subset

GEOMETRY = Geometry(24, (24, 24))


def test_subsets_are_drawn_by_seed_and_keep_the_order():
    ids = [f"image {i}" for i in range(50)]
    assert subset(ids, None, 0) == subset(ids, 99, 0) == list(range(50))
    drawn = subset(ids, 10, 0)
    assert drawn == sorted(drawn) == subset(ids, 10, 0)
    assert drawn != subset(ids, 10, 1)
    assert set(drawn) < set(subset(ids, 20, 0))  # more images are the same ones and others


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
