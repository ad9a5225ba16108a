"""The list of networks covers what it says, and realistic weights are realistic."""

import pytest
import torch
from torch import nn

from benchmarks import networks


def test_lists_are_long_enough_and_labels_unique():
    labels = [n.label for n in networks.find_networks()]
    assert len(labels) == len(set(labels))
    families = {s: {n.family for n in networks.NETWORKS if n.source == s} for s in ("torchvision", "timm")}
    assert len(families["timm"]) >= 40
    assert len(families["torchvision"]) == 22
    assert len(networks._ATTENTION) >= 45


def test_every_classifier_of_torchvision_is_listed():
    import torchvision

    offered = set(torchvision.models.list_models(module=torchvision.models))
    listed = {n.name for n in networks.NETWORKS if n.source == "torchvision"}
    assert listed == offered


def test_every_timm_network_exists():
    timm = pytest.importorskip("timm")
    listed = {n.name for n in (*networks.NETWORKS, *networks.REFUSED) if n.source == "timm"}
    assert listed <= set(timm.list_models())


def test_find_by_name_label_and_source():
    assert {n.label for n in networks.find_networks(["vgg11"])} == {"torchvision/vgg11", "timm/vgg11"}
    assert [n.label for n in networks.find_networks(["timm/vgg11"])] == ["timm/vgg11"]
    assert not any(n.heavy for n in networks.find_networks(["torchvision"]))
    assert any(n.heavy for n in networks.find_networks(heavy=True))
    with pytest.raises(ValueError, match="no network is called 'vgg12'"):
        networks.find_networks(["vgg12"])


def test_pictures_stay_in_their_bounds():
    x = networks.pictures(4, 24, seed=1)
    low, high = networks.picture_bounds()
    assert x.shape == (4, 3, 24, 24)
    assert ((x >= low) & (x <= high)).all()
    assert torch.equal(x, networks.pictures(4, 24, seed=1))
    assert not torch.equal(x, networks.pictures(4, 24, seed=2))


def test_realistic_weights():
    fresh, model = networks.TOY[1].build(), networks.TOY[1].build()
    assert networks.realistic(model, size=16) is model
    assert not any(m.training for m in model.modules())
    assert torch.equal(model.branch.weight, fresh.branch.weight)  # kernels stay
    assert not torch.equal(model.norm.weight, fresh.norm.weight)
    assert model.norm.weight.min() >= 0.5
    assert model.norm.weight.max() <= 1.5
    assert (model.norm.bias != 0).all()
    assert model.norm.momentum == fresh.norm.momentum
    again = networks.realistic(networks.TOY[1].build(), size=16)
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_batch_statistics_are_those_of_the_pictures():
    model = networks.realistic(networks.TOY[1].build(), size=16, seed=5)
    batches = [networks.pictures(8, 16, seed=6000 + i) for i in range(2)]
    with torch.no_grad():
        means = torch.stack([model.stem(b).mean((0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(model.norm.running_mean, means)


def test_small_scales_and_zero_heads_are_made_to_count():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.full((4,), 1e-6))
            self.head = nn.Linear(4, 3)
            nn.init.zeros_(self.head.weight)

        def forward(self, x):
            return self.head(self.gamma * x.mean((2, 3)).repeat(1, 2)[:, :4])

    model = networks.realistic(Scaled().eval(), size=8)
    assert model.gamma.min() >= 0.5
    assert model.head.weight.abs().sum() > 0


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    networks.realistic(networks.TOY[1].build(seed=9), size=16)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_sizes_are_given_to_networks_that_exist():
    names = {n.name for n in networks.NETWORKS}
    assert set(networks._SIZE_OF) <= names
