"""Print digests of the maps of Captum's LRP and layer LRP, for every case that Captum ships and for its rules.

The Captum that comes first on the path is used. A changed copy must print what the installed one prints: the same maps, bit by
bit, where no new argument is given.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from captum.attr import LRP, LayerLRP, NoiseTunnel
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule
from captum.testing.attr.helpers.gen_test_utils import get_target_layer, parse_test_config
from captum.testing.attr.helpers.test_config import config
from captum.testing.helpers.basic import set_all_random_seeds
from torch import Tensor, nn

Maps = tuple[str, Any]


def of_cases() -> Iterator[Maps]:
    """Of Captum's own cases."""
    for entry in config:
        for algorithm in {LRP, LayerLRP} & set(entry["algorithms"]):
            _, model, arguments, layer, noise, _ = parse_test_config(entry)
            if "initial_relevance" in arguments:
                continue
            model = copy.deepcopy(model)
            method = algorithm(model) if layer is None else algorithm(model, get_target_layer(model, layer))
            set_all_random_seeds(1)
            yield entry["name"], (NoiseTunnel(method) if noise else method).attribute(**arguments)


def of_rules() -> Iterator[Maps]:
    """Of each rule of Captum, with the convergence delta and at a layer."""
    for rule in (EpsilonRule, GammaRule, Alpha1_Beta0_Rule):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(8, 5, 1),
        ).eval()
        inputs = torch.randn(2, 3, 10, 10)
        for method in (LRP(model), LayerLRP(model, model[4])):
            for layer in (0, 4, 7):
                model[layer].rule = rule()
            model[1].rule = IdentityRule()
            yield rule.__name__, method.attribute(inputs, target=(3, 0, 0), return_convergence_delta=True)


def tensors(result: Any) -> Iterator[Tensor]:
    """All tensors of a result, in their order."""
    if isinstance(result, Tensor):
        yield result.detach().contiguous()
    else:
        for part in result:
            yield from tensors(part)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    maps = [*of_cases(), *of_rules()]
    for name, result in maps:
        digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors(result)))
        print(name, digest.hexdigest())
    print(len(maps), "maps")
