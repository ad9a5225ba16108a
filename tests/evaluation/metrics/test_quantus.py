"""Against Quantus, where it has the metric, and where ours differs from it on purpose."""

import numpy as np
import pytest
import torch

from captum_clrp import ContrastiveLRP1
from captum_clrp.evaluation import Sensitivity, energy_inside, gini, pointing_hit
from captum_clrp.evaluation.metrics.imputation import imputed
from captum_clrp.evaluation.metrics.likeness import rank_correlation

quantus = pytest.importorskip(  # its OpenCV needs libraries of the system
    "quantus", reason="Quantus is not installed, or cannot be imported", exc_type=ImportError
)


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


def test_sparseness_is_theirs():
    maps = torch.rand(5, 9, 9, generator=torch.Generator().manual_seed(1))
    masks = torch.ones(5, 9, 9, dtype=torch.bool)
    ours = [gini(m) for m in maps]
    assert ours == pytest.approx(theirs(quantus.Sparseness(**OPTIONS), maps, masks).tolist(), abs=1e-5)  # they add 1e-7


def test_imputation_is_theirs():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 12, 10, generator=generator, dtype=torch.float64)
    missing = torch.rand(12, 10, generator=generator) < 0.5
    their = quantus.functions.perturb_func.noisy_linear_imputation(
        image.numpy(), missing.flatten().nonzero().flatten().numpy(), noise=0.0
    )
    torch.testing.assert_close(imputed(image, missing, noise=0), torch.from_numpy(their), rtol=1e-9, atol=1e-9)


def test_randomisation_is_theirs():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    ).eval()
    x = torch.rand(2, 3, 8, 8)

    def explain(model, inputs, targets, **_):
        method = ContrastiveLRP1(model, strength=0.5)
        return method.attribute(torch.as_tensor(inputs), torch.as_tensor(targets)).sum(1, keepdim=True).numpy()

    metric = quantus.MPRT(
        layer_order="top_down", seed=7, similarity_func=quantus.similarity_func.correlation_spearman, **OPTIONS
    )
    found = metric(model=model, x_batch=x.numpy(), y_batch=np.array([0, 2]), explain_func=explain)
    before = explain(model, x, [0, 2])
    their = []
    for layers in ((3,), (3, 0)):
        for layer in layers[-1:]:
            torch.manual_seed(8)  # they add 1
            model[layer].reset_parameters()
        after = explain(model, x, [0, 2])
        their.append([rank_correlation(torch.tensor(a), torch.tensor(b)) for a, b in zip(before, after, strict=True)])
    assert np.array(list(found.values())[1:]) == pytest.approx(np.array(their), abs=1e-6)


def test_sensitivity_is_their_max_sensitivity():
    generator = torch.Generator().manual_seed(0)
    before, after = torch.rand(2, 5, 5, generator=generator), torch.rand(3, 2, 5, 5, generator=generator)
    queue = iter(after.numpy()[:, :, None])  # three noisy copies of both images
    metric = quantus.MaxSensitivity(nr_samples=3, **OPTIONS)
    found = metric(
        model=torch.nn.Flatten(),
        x_batch=np.ones((2, 1, 5, 5), dtype=np.float32),
        y_batch=np.zeros(2, dtype=int),
        a_batch=before.numpy()[:, None],
        channel_first=True,
        explain_func=lambda **_: next(queue),
    )
    ours = Sensitivity()
    ours.update(before, after.transpose(0, 1))
    assert ours.per_image()[0][:, 0].tolist() == pytest.approx(np.array(found).tolist(), rel=1e-5)
