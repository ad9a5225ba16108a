"""Operations at their edges: right, or refused by name; each against the same network written in another way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from captum_clrp import InvalidInputError, LayerLRPZBeta, LRPZBeta, ModelStateError, UnsupportedOperationError
from captum_clrp.rules import Epsilon, Flat

CLOSE = {"rtol": 1e-9, "atol": 1e-12}  # float64 rounding


class Net(nn.Module):
    """A convolution, something, and a fully connected layer."""

    def __init__(self, between: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head, self.matrix = nn.Linear(4, 3), nn.Parameter(torch.randn(4, 4))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        h = self.between(self, F.relu(self.first(x)))
        return self.head(h.mean((2, 3)) if h.dim() == 4 else h)


X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()


def explained(between: Callable[[Net, Tensor], Tensor], **settings: Any) -> Tensor:
    return LRPZBeta(Net(between).double().eval(), **settings).attribute(X, target=1)


def overwritten_weight(net: Net, h: Tensor, write: Callable[[Tensor], Any] = Tensor.neg_) -> Tensor:
    weight = net.matrix.detach().clone()
    result = F.linear(h.mean((2, 3)), weight)
    write(weight)
    return result


def filled(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
    """What a function writes to ``out=``, not what it returns."""
    out = torch.empty(0, dtype=torch.float64)
    function(*args, **kwargs, out=out)
    return out


def saturated(h: Tensor) -> Tensor:
    """With many ties."""
    return F.relu6(50 * h)


PAIRS: dict[str, tuple[Callable[[Net, Tensor], Tensor], Callable[[Net, Tensor], Tensor]]] = {
    "addmm with a base of the inputs": (
        lambda n, h: torch.addmm(n.head.weight.sum() * h.mean((2, 3)), h.mean((2, 3)), n.matrix),
        lambda n, h: n.head.weight.sum() * h.mean((2, 3)) + h.mean((2, 3)) @ n.matrix,
    ),
    "addmm with alpha and beta": (
        lambda n, h: torch.addmm(h.mean((2, 3)), h.mean((2, 3)), n.matrix, alpha=-1, beta=2),
        lambda n, h: 2 * h.mean((2, 3)) + h.mean((2, 3)) @ -n.matrix,
    ),
    "a weight that is overwritten after use": (overwritten_weight, lambda n, h: F.linear(h.mean((2, 3)), n.matrix)),
    "a weight that is overwritten by out=": (
        lambda n, h: overwritten_weight(n, h, lambda w: torch.neg(w, out=w)),
        lambda n, h: F.linear(h.mean((2, 3)), n.matrix),
    ),
    "a weight that is overwritten as an array": (
        lambda n, h: overwritten_weight(n, h, lambda w: w.numpy().__imul__(-1)),
        lambda n, h: F.linear(h.mean((2, 3)), n.matrix),
    ),
    "a weight that is overwritten with others": (
        lambda n, h: overwritten_weight(n, h, lambda w: torch._foreach_neg_([w])),
        lambda n, h: F.linear(h.mean((2, 3)), n.matrix),
    ),
    "a largest value of everything": (
        lambda n, h: torch.stack([saturated(one).max().expand(4) for one in h]),
        lambda n, h: torch.stack([saturated(one).flatten().max(0).values.expand(4) for one in h]),
    ),
    "a median of everything": (
        lambda n, h: torch.stack([saturated(one).median().expand(4) for one in h]),
        lambda n, h: torch.stack([saturated(one).flatten().median(0).values.expand(4) for one in h]),
    ),
    "max of two": (
        lambda n, h: torch.max(saturated(h), saturated(n.second(h))),
        lambda n, h: torch.maximum(saturated(h), saturated(n.second(h))),
    ),
    "vector_norm": (lambda n, h: torch.linalg.vector_norm(h, dim=(2, 3)), lambda n, h: h.square().sum((2, 3)).sqrt()),
    "norm of another power": (lambda n, h: torch.norm(h, 3, dim=(2, 3)), lambda n, h: h.pow(3).sum((2, 3)).pow(1 / 3)),
    "out= of a sum": (lambda n, h: filled(torch.add, h, n.second(h)), lambda n, h: h + n.second(h)),
    "out= of amax": (lambda n, h: filled(torch.amax, h, (2, 3)), lambda n, h: h.amax((2, 3))),
    "out= of maximum": (lambda n, h: filled(torch.maximum, h, n.second(h)), lambda n, h: torch.maximum(h, n.second(h))),
    "out= of where": (
        lambda n, h: filled(torch.where, h > 0.1, h, n.second(h)),
        lambda n, h: torch.where(h > 0.1, h, n.second(h)),
    ),
    "out= of cat": (lambda n, h: filled(torch.cat, [h[:, :2], h[:, 2:]], 1), lambda n, h: h * 1),
    "out= of max": (
        lambda n, h: torch.max(h, 3, True, out=(torch.empty(0).double(), torch.empty(0).long()))[0],
        lambda n, h: h.max(3, True).values,
    ),
    "in place on another type of tensor": (
        lambda n, h: F.relu_(n.second(h.as_subclass(Other)).as_subclass(Tensor)),
        lambda n, h: F.relu(n.second(h)),
    ),
    "a signal as a parameter": (lambda n, h: h + n.second(nn.Parameter(h)), lambda n, h: h + n.second(h)),
    "a weight of another type": (
        lambda n, h: F.relu_(F.conv2d(h, n.second.weight.detach().as_subclass(Other), padding=1)),
        lambda n, h: F.relu(F.conv2d(h, n.second.weight, padding=1)),
    ),
    "zeros in the shape of a signal": (
        lambda n, h: h + n.second(torch.zeros_like(h) + h.new_full((1,), 0.5)),
        lambda n, h: h + n.second(torch.full((2, 4, 8, 8), 0.5).double()),
    ),
    "amax with ties": (
        lambda n, h: F.relu6(50 * h).amax((2, 3)),
        lambda n, h: F.adaptive_max_pool2d(F.relu6(50 * h), 1),
    ),
    "amax of one dimension": (lambda n, h: h.amax(3, keepdim=True), lambda n, h: h.max(3, keepdim=True).values),
    "amin of one dimension": (lambda n, h: h.amin(-1, keepdim=True), lambda n, h: h.min(-1, keepdim=True).values),
    "clamped by a signal": (lambda n, h: torch.clamp(h, min=n.second(h)), lambda n, h: torch.maximum(h, n.second(h))),
    "lerp": (lambda n, h: torch.lerp(h, n.second(h), 0.3), lambda n, h: 0.7 * h + 0.3 * n.second(h)),
    "tensordot": (lambda n, h: torch.tensordot(h.mean((2, 3)), n.matrix, 1), lambda n, h: h.mean((2, 3)) @ n.matrix),
    "einsum of one tensor": (lambda n, h: torch.einsum("nchw->nc", h), lambda n, h: h.sum((2, 3))),
    "another type of tensor": (lambda n, h: h.as_subclass(Other), lambda n, h: h * 1),
    "as_tensor": (lambda n, h: torch.as_tensor(h), lambda n, h: h * 1),
    "dropout by another name": (lambda n, h: torch.dropout(h, 0.5, train=False), lambda n, h: h * 1),
    "view of a kernel": (
        lambda n, h: F.relu_(F.adaptive_avg_pool1d(h.flatten(2), 1)).flatten(1),
        lambda n, h: h.mean((2, 3)),
    ),
    "a gate in the shape of its signal": (
        lambda n, h: h * h.mean((2, 3), keepdim=True).sigmoid().expand_as(h),
        lambda n, h: h * h.mean((2, 3), keepdim=True).sigmoid(),
    ),
    "forward of a module": (lambda n, h: n.second.forward(h), lambda n, h: n.second(h)),
}


class Other(Tensor):
    """A type of tensor of some library."""


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore")
def test_the_same_written_in_two_ways_is_explained_alike(name: str) -> None:
    one, other = PAIRS[name]
    torch.testing.assert_close(explained(one), explained(lambda n, h: other(n, h).reshape_as(one(n, h))), **CLOSE)


def test_area_interpolation_is_average_pooling() -> None:
    pooled = explained(lambda n, h: F.adaptive_avg_pool2d(h, 2), avg_pool="even")
    torch.testing.assert_close(
        explained(lambda n, h: F.interpolate(h, 2, mode="area"), avg_pool="even"), pooled, **CLOSE
    )


def test_at_ties_one_winner_takes_all() -> None:
    tied = torch.ones(1, 1, 2, 2).double()
    for function in (
        lambda x: x.amax((2, 3)),
        lambda x: x.amin((2, 3)),
        lambda x: torch.maximum(x, x.clone()).amax((2, 3)),
    ):
        model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), Lambda(function), nn.Linear(1, 2)).double()
        received = LayerLRPZBeta(model, model[0], conserve=True).attribute(tied, target=0)
        assert int((received != 0).sum()) == 1


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Sign(torch.autograd.Function):
    """A binarised activation with a straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Above(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0.1).double()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


def written(zeros: Tensor, mask: Tensor) -> Tensor:
    zeros[mask] = 1.0
    return zeros


CUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": torch.sign,
    "custom sign": Sign.apply,
    "custom comparison": Above.apply,
    "comparison": lambda h: (h > 0.1).double(),
    "integers": lambda h: (h * 4).round().int().double() / 4,
    "a new tensor": lambda h: X.new_tensor(h),
    "a mask written into zeros": lambda h: written(torch.zeros(h.shape).double(), h > 0.1),
    "indices": lambda h: h.max(1, keepdim=True).indices.double().expand_as(h),
    "another type": lambda h: (h > 0.1).type_as(h),
    "bytes": lambda h: (h * 255).to(torch.uint8).to(h),
    "a table of constants": lambda h: torch.arange(5).double()[(h * 3).long().clamp(0, 4)],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.filterwarnings("ignore")
def test_a_cut_signal_is_refused_as_the_operand_of_weights_and_stays_a_mask(cut: str) -> None:
    with pytest.raises(
        UnsupportedOperationError, match=r"conv2d in module 'second': its operand is made by \w+, which cuts"
    ):
        explained(lambda n, h: h + n.second(CUTS[cut](h)))
    masked = explained(lambda n, h: h * CUTS[cut](h), conserve=True)
    assert masked.abs().sum() > 0


def in_part(h: Tensor) -> Tensor:
    h[:, :1].cumsum_(2)
    return h


REFUSED: dict[str, tuple[Callable[[Net, Tensor], Tensor], str]] = {
    "index_put": (lambda n, h: h.index_put((torch.tensor([0, 1]),), h * 1, accumulate=True), "index_put.*it adds to"),
    "scatter": (lambda n, h: h.scatter(1, torch.zeros_like(h).long(), h, reduce="add"), "scatter.*it adds to"),
    "gather": (lambda n, h: h.gather(1, torch.zeros_like(h).long(), sparse_grad=True), "gather.*sparse_grad"),
    "a sign in place": (lambda n, h: (1 * h).sign_(), "sign_.*in place"),
    "drawn in place": (lambda n, h: (1 * h).clamp(0, 1).bernoulli_(), "bernoulli_.*in place"),
    "a part in place": (lambda n, h: in_part(1 * h), "cumsum_ in module"),
    "largest norm": (lambda n, h: torch.norm(h, float("inf"), dim=(2, 3)), "norm.*no power"),
    "norm of a matrix": (lambda n, h: torch.linalg.norm(h, 2, dim=(2, 3)), "norm.*of a matrix"),
    "a shallow copy": (lambda n, h: h + n.second(copy.copy(h)), r"__reduce_ex__.*write x\.clone\(\)"),
    "an exported operation": (
        lambda n, h: torch.ops.aten.relu.default(h),
        "explain the nn.Module that it was made from",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refused_by_name(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(UnsupportedOperationError, match=message):
        explained(function)


def test_errors_of_pytorch_name_the_operation_and_its_module() -> None:
    with pytest.raises(ModelStateError, match=r"conv2d in module 'second' could not be recorded: .*channels"):
        explained(lambda n, h: n.second(h[:, :2]))
    with pytest.raises(ModelStateError, match="cond in module '.*' could not be recorded"):
        explained(lambda n, h: torch.cond(torch.tensor(True), lambda z: z * 2, lambda z: z, (h,)))
    with pytest.raises(ModelStateError, match=r"conv2d in module 'first' could not be recorded"):
        LRPZBeta(Net(lambda n, h: h).eval()).attribute(X.half(), target=1)


def test_a_convolution_of_one_example_says_how_examples_are_counted() -> None:
    with pytest.raises(InvalidInputError, match=r"one by one must leave it to each \(x\[i : i \+ 1\]\)"):
        explained(lambda n, h: torch.stack([n.second(one) for one in h]))


@pytest.mark.parametrize("module", [nn.RReLU(), torchvision.ops.DropBlock2d(0.5, 3)], ids=lambda m: type(m).__name__)
def test_random_modules_in_training_mode_are_refused(module: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), module, nn.Flatten(), nn.Linear(144, 2)).double()
    with pytest.raises(ModelStateError, match=type(module).__name__):
        LRPZBeta(model).attribute(X, target=1)
    assert LRPZBeta(model.eval()).attribute(X, target=1).isfinite().all()


def test_bounds_go_through_a_normalisation_by_statistics_of_the_batch_as_the_range_of_its_result() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, track_running_stats=False).double().eval()
    rest = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).double().eval()
    received = LRPZBeta(nn.Sequential(norm, rest), 0.0, 1.0).attribute(X, target=1)
    torch.testing.assert_close(received, LRPZBeta(rest).attribute(norm(X).detach(), target=1), **CLOSE)


def test_a_constant_to_the_power_of_a_signal() -> None:
    base = torch.full((1,), 2.0, dtype=torch.float64, requires_grad=True) * 1  # with a graph of its own
    received = explained(lambda n, h: torch.pow(base, h), conserve=True)
    score = Net(lambda n, h: torch.pow(base, h)).double()(X)[:, 1].detach()
    torch.testing.assert_close(received.flatten(1).sum(1), score, **CLOSE)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True)], ids=["plain", "affine"])
def test_instance_norm_in_front_of_anything_in_place(norm: nn.Module) -> None:
    maps = [
        LRPZBeta(
            nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(inplace), nn.Flatten(), nn.Linear(144, 2)).double().eval()
        )
        for inplace in (True, False)
    ]
    maps[0].model.load_state_dict(maps[1].model.state_dict())
    torch.testing.assert_close(*(m.attribute(X, target=1) for m in maps), **CLOSE)


@pytest.mark.parametrize("rules", ["cp-lrp", "attnlrp"])
def test_a_constant_added_in_place_takes_the_share_that_it_takes_of_a_new_tensor(rules: str) -> None:
    in_place, elsewhere = explained(lambda n, h: h.add_(0.5), rules=rules), explained(lambda n, h: h + 0.5, rules=rules)
    torch.testing.assert_close(in_place, elsewhere, **CLOSE)
    assert not torch.equal(elsewhere, explained(lambda n, h: h, rules=rules))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.Hardtanh])
def test_an_epsilon_rule_of_an_activation_in_place(activation: type[nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), nn.Flatten(), nn.Linear(144, 2)).double().eval()
    plain = LRPZBeta(model).attribute(X, target=1)
    model[1].rule = Epsilon(0.1)
    expected = LRPZBeta(model).attribute(X, target=1)
    model[1] = activation(inplace=True)
    model[1].rule = Epsilon(0.1)
    torch.testing.assert_close(LRPZBeta(model).attribute(X, target=1), expected, **CLOSE)
    assert not torch.equal(plain, expected)


def test_tensors_of_other_types_are_taken_as_inputs() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2)).double().eval()
    received = LRPZBeta(model).attribute(X.as_subclass(Other), target=1)
    torch.testing.assert_close(received.as_subclass(Tensor), LRPZBeta(model).attribute(X, target=1), **CLOSE)


def test_a_rule_holds_where_only_forward_is_called() -> None:
    called, forwarded = Net(lambda n, h: n.second(h)).double(), Net(lambda n, h: n.second.forward(h)).double()
    plain = LRPZBeta(called).attribute(X, target=1)
    called.second.rule = forwarded.second.rule = Flat()
    expected = LRPZBeta(called).attribute(X, target=1)
    torch.testing.assert_close(LRPZBeta(forwarded).attribute(X, target=1), expected, **CLOSE)
    assert not torch.equal(plain, expected)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class Blocks(nn.Module):
    """Two blocks; what the second one runs is the first one's where ``tied``."""

    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor], tied: str = "") -> None:
        super().__init__()
        torch.manual_seed(4)
        self.start, self.head, self.one, self.two = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), Block(), Block()
        if tied == "module":
            self.two.conv = self.one.conv
        if tied == "weight":
            self.two.conv.weight = self.one.conv.weight
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.call(self.two, self.call(self.one, F.relu(self.start(x)))).mean((2, 3)))


def test_a_rule_of_a_block_holds_where_only_its_forward_is_called() -> None:
    called, forwarded = Blocks(lambda m, x: m(x)).double(), Blocks(lambda m, x: m.forward(x)).double()
    plain = LRPZBeta(called).attribute(X, target=1)
    called.one.rule = forwarded.one.rule = Flat()
    expected = LRPZBeta(called).attribute(X, target=1)
    torch.testing.assert_close(LRPZBeta(forwarded).attribute(X, target=1), expected, **CLOSE)
    assert not torch.equal(plain, expected)


@pytest.mark.parametrize("tied", ["module", "weight"])
def test_a_rule_does_not_hold_in_another_block_that_shares_weights(tied: str) -> None:
    shared, apart = Blocks(lambda m, x: m(x), tied).double(), Blocks(lambda m, x: m(x)).double()
    apart.load_state_dict(shared.state_dict())
    for model in (shared, apart):
        (model.one if tied == "module" else model.one.conv).rule = Flat()
    torch.testing.assert_close(LRPZBeta(shared).attribute(X, target=1), LRPZBeta(apart).attribute(X, target=1), **CLOSE)


def test_a_rule_that_nothing_takes_is_a_warning() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(144, 2)).double()
    softplus = model[1]
    net = Lambda(lambda x: model[3](model[2](softplus.forward(model[0](x)))))
    net.model, softplus.rule = model, Epsilon(0.1)
    with pytest.warns(UserWarning, match=r"the rule of module\(s\) 'model.1' was not used.*call the module instead"):
        LRPZBeta(net).attribute(X, target=1)


def test_an_explainer_shows_its_settings() -> None:
    shown = repr(LRPZBeta(Net(lambda n, h: h), conserve=True))
    assert shown == "LRPZBeta(Net, avg_pool='proportional', conserve=True, rules=Composite(auto), precision='float32')"


def test_the_best_of_nothing_are_indices_all_the_same() -> None:
    """Detectors look for the best of those above a threshold, and there may be none."""

    def forward(net: Any, h: Tensor) -> Tensor:
        scores = h.flatten()
        found, places = scores[scores > 1e9].topk(0)
        assert (found.dtype, places.dtype) == (h.dtype, torch.int64)
        return h + torch.cat((found, scores.new_zeros(1))).sum()

    assert LRPZBeta(Net(forward)).attribute(X.float(), target=1).isfinite().all()
