"""Winners at the border: by hand, against PyTorch's own indices, and on a network that zero padding deceives."""

import math

import pytest
import torch
import torchvision
from evaluation.conftest import SIZE, Squares, network
from torch import nn
from torch.nn import functional as F

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import METRICS, Bench, Run, border_winners, observe_pooling, replicated_borders
from captum_clrp.evaluation.metrics.pooling_indices import winner_map
from captum_clrp.evaluation.metrics.pooling_observation import Pooling


def pooling(inputs, kernel=2, stride=None, padding=0, dilation=1, ceil=False):
    def two(v):
        return (v, v)

    return Pooling("p", inputs, two(kernel), two(stride or kernel), two(padding), two(dilation), ceil)


def test_winners_by_hand():
    # Regions of 2 x 2, without padding; winners marked. All four regions touch two sides.
    values = torch.tensor([[9.0, 1, 2, 8], [1, 2, 3, 4], [5, 7, 1, 1], [5, 6, 1, 9]])
    # Upper left: 9 in row 0, column 0: outermost at the top and at the left. Upper right: 8 outermost twice.
    # Lower left: 7 in row 2, column 1: neither at the bottom nor at the left. Lower right: 9 outermost twice.
    (counts,) = border_winners(pooling(values[None, None]))
    assert counts == (6, 8, 4.0, 0, 0)
    assert counts.shares()["outer"] == 0.75
    assert counts.shares()["uniform"] == 0.5
    assert math.isnan(counts.shares()["interior"])


def test_a_region_with_a_shared_maximum_has_no_winner():
    values = torch.zeros(4, 4)
    values[0, 3] = 1.0
    (counts,) = border_winners(pooling(values[None, None]))
    assert (counts.outer, counts.regions) == (2, 2)  # the upper right region, at the top and at the right


def test_padding_leaves_fewer_lines():
    # Kernel 3, padding 1: the first regions see lines 0 and 1 only, so that each of them is expected half the time.
    values = torch.rand(1, 2, 8, 8)
    p = pooling(values, kernel=3, stride=2, padding=1)
    assert p.lines(0) == [[0, 1], [1, 2, 3], [3, 4, 5], [5, 6, 7]]
    (counts,) = border_winners(p)
    # Top and left: 4 regions each in 2 channels, expected 1/2; bottom and right: 1/3.
    assert counts.regions == 4 * 4 * 2
    assert counts.expected == pytest.approx(2 * 4 * 2 * (1 / 2 + 1 / 3))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "ceil"),
    [
        (2, 2, 0, 1, False),
        (3, 2, 0, 1, False),
        (3, 2, 1, 1, True),
        (3, 2, 0, 1, True),
        (2, 1, 1, 2, False),
        (3, 3, 1, 1, True),
    ],
)
@pytest.mark.parametrize("size", [(11, 11), (12, 9)])
def test_regions_and_winners_are_those_of_pytorch(size, kernel, stride, padding, dilation, ceil):
    x = torch.rand(2, 3, *size)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil}
    _, indices = F.max_pool2d(x, kernel, return_indices=True, **settings)
    p = pooling(x, kernel, stride, padding, dilation, ceil)
    rows, columns = p.lines(0), p.lines(1)
    assert indices.shape[2:] == (len(rows), len(columns))
    where_row, where_column = indices // size[1], indices % size[1]
    for i, counts in enumerate(border_winners(p)):
        outer = (
            (where_row[i, :, 0] == rows[0][0]).sum()
            + (where_row[i, :, -1] == rows[-1][-1]).sum()
            + (where_column[i, :, :, 0] == columns[0][0]).sum()
            + (where_column[i, :, :, -1] == columns[-1][-1]).sum()
        )
        assert counts.outer == int(outer)
        inner = sum(
            int((where_row[i, :, r, 1:-1] == rows[r][line]).sum()) for r in range(1, len(rows) - 1) for line in (0, -1)
        ) + sum(
            int((where_column[i, :, 1:-1, c] == columns[c][line]).sum())
            for c in range(1, len(columns) - 1)
            for line in (0, -1)
        )
        assert counts.interior_first == inner
    border = torch.ones(len(rows), len(columns), dtype=torch.bool)
    border[1:-1, 1:-1] = False
    expected = torch.bincount(indices[:, :, border].flatten(), minlength=size[0] * size[1]).reshape(size)
    assert torch.equal(winner_map(p), expected)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))

    def forward(self, x):
        x = F.max_pool2d(self.inner(x), kernel_size=(3, 2), stride=1, padding=(1, 0))
        return torch.max_pool2d(x, 2)


def test_modules_and_functions_are_seen_with_their_settings():
    seen = observe_pooling(Functional(), torch.rand(1, 1, 9, 9))
    assert [p.name for p in seen] == ["inner.0", "(model)", "(model)#2"]
    assert [(p.kernel, p.stride, p.padding, p.ceil) for p in seen] == [
        ((2, 2), (2, 2), (0, 0), True),
        ((3, 2), (1, 1), (1, 0), False),
        ((2, 2), (2, 2), (0, 0), False),
    ]


@pytest.mark.parametrize(
    ("name", "poolings"), [("vgg16", 5), ("inception_v3", 4), ("googlenet", 13), ("squeezenet1_1", 3)]
)
def test_real_networks(name, poolings):
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=3, **options).eval()
    size = 96 if name == "inception_v3" else 64
    seen = observe_pooling(model, torch.rand(1, 3, size, size))
    assert len(seen) == poolings
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_replicated_borders_change_padding_only():
    x, w = torch.rand(1, 2, 6, 6), torch.rand(3, 2, 3, 3)
    with replicated_borders():
        inside, same = F.conv2d(x, w), F.conv2d(x, w, padding="same")
        padded, by_hand = F.conv2d(x, w, padding=1), F.conv2d(F.pad(x, (1, 1, 1, 1)), w)
        minus = F.pad(x, (1, 0, 0, 1), value=-1.0)
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), w)
    for found in (same, padded, by_hand):
        assert torch.allclose(found, expected)
    assert torch.equal(inside, F.conv2d(x, w))
    assert minus[0, 0, 0, 0] == -1
    assert not torch.allclose(F.conv2d(x, w, padding=1), expected)  # and it is over


class Deceived(nn.Module):
    """Zero padding lowers a negative filter's penalty at the border, so that the border wins there."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(3, 2)
        self.out = nn.Linear(4, 3)
        nn.init.constant_(self.conv.weight, -0.1)

    def forward(self, x):
        return self.out(self.pool(self.conv(x)).mean((2, 3)))


def test_the_experiment_finds_the_border_and_its_cause(tmp_path):
    torch.manual_seed(0)
    net = network(Deceived())
    summary = Run(METRICS["pooling-indices"](), Squares(8, SIZE + 1), Bench(net, None), tmp_path, quiet=True).go()
    means = {row.quantity: row.mean for row in summary.rows}
    assert means["outer"] > 0.98
    assert means["uniform"] == pytest.approx(1 / 3)
    assert means["interior"] < 0.6
    assert means["outer_replicated"] < 0.7
    tests = summary.extra["p_values"]["pool"]
    assert tests["above_uniform"] == tests["above_replicated"] == 1 / 2**8


def test_without_max_pooling_there_is_nothing_to_see(tmp_path):
    class Plain(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    run = Run(METRICS["pooling-indices"](), Squares(2), Bench(network(Plain()), None), tmp_path, quiet=True)
    with pytest.raises(InvalidInputError, match="no max pooling"):
        run.go()
