"""What is measured on one photograph, and on one scene of four."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contrast.maps import Setting, all_maps
from benchmarks.contrast.measuring import Model, remembering
from captum_clrp.classifiers import Classifier
from captum_clrp.evaluation import MethodSet, Sample, energy_inside, insertion_deletion, pointing_hit
from captum_clrp.evaluation.methods.base import image_seed
from captum_clrp.evaluation.metrics.fills import blurred
from captum_clrp.evaluation.metrics.likeness import rank_correlation, structural_similarity
from captum_clrp.evaluation.metrics.patch_ablation import patch_drops
from captum_clrp.evaluation.metrics.randomisation import randomised, resettable
from captum_clrp.evaluation.metrics.sparseness import gini

__all__ = ["PATCH", "STEPS", "by_patches", "measure_photograph", "measure_scene"]

PATCH = 16
"""Side of the patches that are taken away or brought back."""
STEPS = 14

Values = dict[str, dict[str, float]]


def by_patches(heat: Tensor, side: int = PATCH) -> Tensor:
    """A map of which every pixel has the sum of its patch; patches at the far border may be smaller."""
    pad = [(-n) % side for n in heat.shape]
    sums = F.avg_pool2d(F.pad(heat.double()[None], (0, pad[1], 0, pad[0])), side)[0] * side**2
    tall = sums.repeat_interleave(side, 0).repeat_interleave(side, 1)
    return tall[: heat.shape[0], : heat.shape[1]]


def faithfulness(model: Model, image: Tensor, label: int, heat: Tensor, steps: int, seed: int) -> dict[str, float]:
    """Areas under deletion and insertion of patches; what is not there is blurred."""
    soft = blurred(image)
    scores = insertion_deletion(
        model,
        image,
        label,
        by_patches(heat),
        soft,
        start=soft,
        steps=steps,
        batch=2 * (steps + 1),
        generator=torch.Generator().manual_seed(seed),
    )
    deletion, insertion, _ = scores.areas()
    return {"deletion": deletion, "insertion": insertion}


def measure_photograph(
    network: Classifier, settings: Sequence[Setting], others: MethodSet, sample: Sample, mean: Tensor, steps: int
) -> dict[str, Any]:
    """One photograph with one object: is the map faithful, does it depend on the classifier, how sparse is it?

    Args:
        network: The network.
        settings: Settings and contrasts of relevance.
        others: Methods without a dual concept.
        sample: A photograph.
        mean: The mean image.
        steps: Of deletion and insertion.
    """
    explained = sample.explained[0]
    inputs = network.inputs(sample.pixels[None])
    maps = all_maps(network, settings, others, inputs, [explained.label], sample.id)
    last = resettable(network.model)[-1:]
    with randomised(network.model, last, seed=0):
        of_random = all_maps(network, settings, others, inputs, [explained.label], sample.id)
    run = remembering(network.model, [inputs[0], blurred(inputs[0])])
    logits = run(inputs)[0]
    values: Values = {}
    drops = patch_drops(run, inputs[0], [(explained.label, heat) for (heat,) in maps.values()], mean)
    for (name, (heat,)), drop in zip(maps.items(), drops, strict=True):
        seed = image_seed("ties", sample.id, name)
        values[name] = faithfulness(run, inputs[0], explained.label, heat, steps, seed) | {
            "drop": drop.probability,
            "gini": gini(heat),
            "randomised_rank": rank_correlation(heat, of_random[name][0]),
            "randomised_ssim": structural_similarity(heat, of_random[name][0]),
        }
    return _record(sample.id, explained.label, int(logits.argmax()) == explained.label, values)


def measure_scene(
    network: Classifier,
    settings: Sequence[Setting],
    others: MethodSet,
    sample: Sample,
    faithful: Callable[[int, str], bool],
    steps: int,
) -> list[dict[str, Any]]:
    """One scene: is the relevance for a class where the class is, and is the map faithful where the class has rivals?

    Args:
        network: The network.
        settings: Settings and contrasts of relevance.
        others: Methods without a dual concept.
        sample: A scene.
        faithful: Whether the deletion and insertion of a class, by its position, and a method are measured: those of all
            classes cost four times those of a photograph.
        steps: Of deletion and insertion.
    """
    inputs = network.inputs(sample.pixels[None])
    maps = all_maps(network, settings, others, inputs, [e.label for e in sample.explained], sample.id)
    run = remembering(network.model, [inputs[0], blurred(inputs[0])])
    records = []
    for k, explained in enumerate(sample.explained):
        assert explained.mask is not None
        values: Values = {}
        for name, heats in maps.items():
            heat = heats[k]
            values[name] = {
                "share": energy_inside(heat, explained.mask),
                "hit": float(pointing_hit(heat, explained.mask)),
            }
            if faithful(k, name):
                seed = image_seed("ties", sample.id, explained.label, name)
                found = faithfulness(run, inputs[0], explained.label, heat, steps, seed)
                values[name] |= {f"scene_{metric}": value for metric, value in found.items()}
        records.append(_record(sample.id, explained.label, None, values))
    return records


def _record(id_: str, label: int, top: bool | None, values: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        "id": id_,
        "label": label,
        "top": top,
        "values": {m: {metric: round(v, 6) for metric, v in of_method.items()} for m, of_method in values.items()},
    }


def mean_pixels(samples: Iterable[Sample]) -> Tensor:
    """Mean of samples of one size, in 0 ... 255, ``(3, H, W)``."""
    total, count = torch.zeros(()), 0
    for sample in samples:
        total, count = total + sample.pixels.double(), count + 1
    return total / count
