"""The composites of the literature are what LXT, which is by the authors of AttnLRP, means by them: on torchvision's ViT.

``pip install lxt "transformers<5"``, as in the ``lxt`` session of ``noxfile.py``.
"""

import pytest
import torch
import torchvision

try:
    import lxt.efficient  # noqa: F401
except ImportError as error:
    pytest.skip(f'LXT cannot be imported ({error}): pip install lxt "transformers<5"', allow_module_level=True)
pytest.importorskip("sklearn")

from benchmarks.digits import attention, measure, train
from captum_clrp import LRPZBeta


def stirred_vit() -> torch.nn.Module:
    """Random weights, and biases, affine terms and position embeddings that are not zero."""
    model = torchvision.models.VisionTransformer(
        image_size=12, patch_size=4, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=5
    )
    for parameter in model.parameters():
        if parameter.dim() == 1 or float(parameter.detach().std()) < 0.03:
            torch.nn.init.normal_(parameter, float(parameter.detach().mean()), 0.2)
    return model.eval().double()


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize("rules", ["cp-lrp", "attnlrp"])
def test_relevance_is_that_of_lxt(rules):
    # LXT adds 1e-10 to the argument of GELU that it divides by; our stabilizer is 1e-9.
    model, x, targets = stirred_vit(), torch.randn(4, 3, 12, 12, dtype=torch.float64), torch.tensor([0, 3, 1, 4])
    by_lxt = attention.lxt(rules)(model, x, targets)
    assert distance(LRPZBeta(model, rules=rules).attribute(x, target=targets), by_lxt) < 1e-5
    other = LRPZBeta(model, rules={"cp-lrp": "attnlrp", "attnlrp": "cp-lrp"}[rules]).attribute(x, target=targets)
    assert distance(other, by_lxt) > 0.1


@pytest.mark.parametrize("rules", ["cp-lrp", "attnlrp"])
def test_relevance_is_that_of_lxt_on_a_trained_network(rules):
    model = train.load("vit", 0).double()
    images, labels = measure.select(train.load("vit", 0), 4)
    images, targets = images.double(), labels[:, 1]
    by_lxt = attention.lxt(rules)(model, images, targets)
    assert distance(LRPZBeta(model, -1.0, 1.0, rules=rules).attribute(images, target=targets), by_lxt) < 1e-4


def test_networks_are_not_patched():
    model = stirred_vit()
    forwards = {type(module): type(module).forward for module in model.modules()}
    attention.lxt("cp-lrp")(model, torch.randn(1, 3, 12, 12, dtype=torch.float64), torch.tensor([1]))
    assert all(kind.forward is forward for kind, forward in forwards.items())
    assert not any("forward" in vars(module) for module in model.modules())
