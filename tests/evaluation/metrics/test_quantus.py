"""Against Quantus, where it has the metric, and where ours differs from it on purpose."""

import numpy as np
import pytest
import torch

from captum_clrp.evaluation import energy_inside, pointing_hit

quantus = pytest.importorskip("quantus", reason="Quantus is not installed; it is a peer, not a dependency")


def theirs(metric, maps, masks):
    batch = maps.numpy()[:, None]
    scores = metric(
        model=None,
        x_batch=batch,
        y_batch=np.zeros(len(batch), dtype=int),
        a_batch=batch,
        s_batch=masks.numpy()[:, None],
        channel_first=True,
    )
    return np.array(scores, dtype=float)


@pytest.fixture
def maps_and_masks():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(40, 9, 9, generator=generator), torch.rand(40, 9, 9, generator=generator) < 0.4


OPTIONS = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}


def test_pointing_game(maps_and_masks):
    maps, masks = maps_and_masks
    ours = [float(pointing_hit(m, o)) for m, o in zip(maps, masks, strict=True)]
    assert ours == theirs(quantus.PointingGame(**OPTIONS), maps, masks).tolist()


def test_energy_inside_is_their_relevance_mass_accuracy(maps_and_masks):
    maps, masks = maps_and_masks
    ours = [energy_inside(m, o) for m, o in zip(maps, masks, strict=True)]
    assert ours == pytest.approx(theirs(quantus.RelevanceMassAccuracy(**OPTIONS), maps, masks).tolist(), rel=1e-5)


def test_a_zero_map_hits_in_quantus_and_misses_here():
    maps, masks = torch.zeros(2, 9, 9), torch.zeros(2, 9, 9, dtype=torch.bool)
    masks[:, 0, 0] = True
    maps[1, 4, 4] = 1  # a batch of zero maps alone is refused; one among others is not
    assert theirs(quantus.PointingGame(**OPTIONS), maps, masks).tolist() == [1, 0]
    assert not pointing_hit(maps[0], masks[0])


def test_one_of_several_maxima_is_enough_in_quantus_and_not_here():
    maps, masks = torch.zeros(1, 9, 9), torch.zeros(1, 9, 9, dtype=torch.bool)
    maps[0, 0, 0] = maps[0, 8, 8] = masks[0, 0, 0] = 1
    assert theirs(quantus.PointingGame(**OPTIONS), maps, masks).tolist() == [1]
    assert not pointing_hit(maps[0], masks[0])
