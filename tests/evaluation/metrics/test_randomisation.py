"""Which layers are randomised when, and that the network is as it was afterwards."""

import copy

import pytest
import torch
from torch import nn

from captum_clrp import InvalidInputError, weights_at_rest
from captum_clrp.attribution import LRPZBeta
from captum_clrp.evaluation import Bench, MethodSet, ParameterRandomisation
from captum_clrp.evaluation.metrics.likeness import rank_correlation
from captum_clrp.evaluation.metrics.randomisation import randomised, resettable, stages


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    model[1].running_mean.fill_(0.2)
    return model.eval()


def test_stages_by_hand():
    assert stages(5, "top-down", 2) == [range(4, 5), range(5)]
    assert stages(5, "top-down", 1) == [range(5)]
    assert stages(1, "top-down", 4) == [range(1)]
    assert stages(2, "independent", 4) == [range(1, 2), range(1)]
    assert [len(part) for part in stages(9, "bottom-up", 5)] == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97])
def test_parts_that_are_randomised_alone_are_all_layers_once(count):
    parts = stages(count, "independent", 4)
    assert sorted(i for part in parts for i in part) == list(range(count))
    assert all(parts)


def test_stages_that_cannot_be_are_refused():
    with pytest.raises(InvalidInputError, match="choose 'top-down', 'bottom-up' or 'independent'"):
        stages(5, "sideways")
    for count, steps in ((0, 3), (3, 0)):
        with pytest.raises(InvalidInputError, match="at least one of each"):
            stages(count, "top-down", steps)


def test_layers_are_those_with_parameters_of_their_own_from_below():
    assert resettable(network()) == ["0", "1", "4"]
    with pytest.raises(InvalidInputError, match="ReLU has no module"):
        resettable(nn.ReLU())


def test_chosen_layers_are_random_and_everything_comes_back():
    model = network()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    with randomised(model, ["1", "4"], seed=3) as same:
        assert same is model
        assert torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[4].weight, before["4.weight"])
        assert model[1].running_mean.count_nonzero() == 0
        within = model[4].weight.detach().clone()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    with randomised(model, ["4"], seed=3):  # what a layer draws depends on nothing else
        assert torch.equal(model[4].weight, within)
    with randomised(model, ["4"], seed=4):
        assert not torch.equal(model[4].weight, within)


def test_everything_comes_back_after_an_error():
    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt), randomised(model, ["0"]):
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_maps_are_those_of_the_random_network_even_where_weights_are_kept():
    model, x = network(), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with weights_at_rest():
        explain = LRPZBeta(model)
        before = explain.attribute(x, 1)
        with randomised(model, resettable(model)):
            expected = LRPZBeta(copy.deepcopy(model)).attribute(x, 1)
            torch.testing.assert_close(explain.attribute(x, 1), expected)
            assert not torch.allclose(expected, before)
        assert torch.equal(explain.attribute(x, 1), before)


def test_a_run_compares_with_the_random_network(deep, samples):
    bench = Bench(deep, MethodSet(deep, ["centre", "lrp"]), seed=5)
    found = ParameterRandomisation(steps=2).measure_batch(bench, samples)
    names = resettable(deep.model)
    inputs, label = deep.inputs(torch.stack([s.pixels for s in samples])), samples[0].explained[0].label
    concept = [torch.tensor([[s.explained[0].label] for s in samples])]
    before = bench.compared.maps(inputs, concept, ["a"] * len(samples))["lrp"][0, 0]
    with randomised(deep.model, names[-1:], 5):
        first = bench.compared.maps(inputs, concept, ["a"] * len(samples))["lrp"][0, 0]
    with randomised(deep.model, names, 5):
        last = bench.compared.maps(inputs, concept, ["a"] * len(samples))["lrp"][0, 0]
    (measured,) = found[0]
    assert measured.label == label
    ranks = [rank_correlation(before, first), rank_correlation(before, last)]
    assert measured.values["lrp"]["rank_curve"] == pytest.approx(ranks, abs=1e-6)
    assert measured.values["lrp"]["first"] == pytest.approx(ranks[0])
    assert measured.values["lrp"]["rank"] == pytest.approx(sum(ranks) / 2)
    assert measured.values["centre"]["rank_curve"] == measured.values["centre"]["ssim_curve"] == [1, 1]


def test_more_steps_than_layers_are_refused(deep):
    with pytest.raises(InvalidInputError, match="has 3 layers with parameters; give at most as many steps, not 4"):
        ParameterRandomisation().check(Bench(deep, None))
