"""Agreement with Zennit, an implementation that we did not write, on networks where both mean the same.

Zennit adds its stabilizer to every denominator and lets biases take a share unless told not to; with a
tiny stabilizer and ``zero_params="bias"`` its ``ZPlus`` and ``ZBox`` are the rules of the paper.
"""

from __future__ import annotations

import pytest
from helpers.nets import HIGH, LOW, distance, pictures, zennit_map
from torch import Tensor, nn

from captum_clrp import LRPZBeta
from captum_clrp.rules import ZPlus

pytest.importorskip("zennit")

from zennit.composites import LayerMapComposite, SpecialFirstLayerMapComposite
from zennit.core import Composite
from zennit.rules import Norm, Pass, ZBox
from zennit.rules import ZPlus as ZennitZPlus
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

TINY = {"stabilizer": 1e-12, "zero_params": "bias"}
LAYERS = [(Activation, Pass()), (BatchNorm, Pass()), (AvgPool, Norm(stabilizer=1e-12)), (Linear, ZennitZPlus(**TINY))]
EVERYWHERE_ZPLUS = LayerMapComposite(layer_map=LAYERS)


def with_box(low: float | Tensor, high: float | Tensor) -> Composite:
    box = [(Convolution, ZBox(low, high, **TINY)), (nn.Linear, ZBox(low, high, **TINY))]
    return SpecialFirstLayerMapComposite(layer_map=LAYERS, first_map=box)


NETWORKS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 9), nn.ReLU(), nn.Linear(9, 5)),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 5),
    ),
    "batch norm and average pooling": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ),
    "one dimension": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 6, 5, stride=3), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(138, 5)
    ),
    "transposed convolution": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 5),
    ),
}


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    net = NETWORKS[request.param]().double()
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return net.eval()


def test_zplus_is_zennits(model: nn.Module) -> None:
    # Zennit's z+ splits inputs by sign as well, so the first layer may have it on signed inputs.
    x = pictures(2, 12).double()
    expected = zennit_map(EVERYWHERE_ZPLUS, model, x, 3)
    first = next(m for m in model.modules() if hasattr(m, "weight"))
    first.rule = ZPlus()
    assert distance(LRPZBeta(model).attribute(x, target=3), expected) <= 1e-8


def test_zbeta_is_zennits_box_rule(model: nn.Module) -> None:
    x = pictures(2, 12).double()
    expected = zennit_map(with_box(-3.0, 3.0), model, x, 3)
    assert distance(LRPZBeta(model, -3.0, 3.0).attribute(x, target=3), expected) <= 1e-8


def test_alexnet_in_single_precision_is_zennits(alexnet: nn.Module) -> None:
    x = pictures(2, 127)
    expected = zennit_map(with_box(LOW, HIGH), alexnet, x, 3)
    actual = LRPZBeta(alexnet, LOW, HIGH).attribute(x, target=3)
    assert distance(actual, expected) <= 1e-4
