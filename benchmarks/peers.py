"""Other implementations of relevance propagation behind one call, set up as favourably as they allow.

All of them get the rules of the paper as far as they have them: z+ for weighted layers with biases
bypassed, z^beta for the first convolution, identity for normalisation and activations. A peer owns
the network it is given and may alter it; hand each its own copy.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

import torch
from torch import Tensor, nn

Seed = Callable[[Tensor], Tensor]
"""From the network's output (N, m) to the initial relevance (N, m) that is sent down."""


class Peer(ABC):
    """One implementation, prepared for one network.

    Args:
        model: the network, in evaluation mode; owned by the peer from now on.
        low: lowest input values, broadcastable to the input.
        high: highest input values.
    """

    name: str
    package: str

    def __init__(self, model: nn.Module, low: Tensor, high: Tensor) -> None:
        self.model = model
        self.low = low
        self.high = high

    @abstractmethod
    def relevances(self, x: Tensor, seeds: Sequence[Seed]) -> tuple[list[Tensor], Tensor]:
        """Relevance at the input for each seed, and the network's output.

        One forward pass serves all seeds where the implementation can do that.
        """

    @classmethod
    def version(cls) -> str:
        """Installed version of the package."""
        return version(cls.package)


def score_of(target: int | Tensor) -> Seed:
    """LRP: the score of ``target`` on ``target``, nothing elsewhere.

    Args:
        target: one class for all examples, or a tensor (N,) with one for each.
    """

    def seed(output: Tensor) -> Tensor:
        index = torch.as_tensor(target, device=output.device).expand(len(output)).unsqueeze(1)
        return torch.zeros_like(output).scatter(1, index, output.gather(1, index))

    return seed


def uniform_dual_of(target: int) -> Seed:
    """Dual of CLRP1: the score of ``target`` spread evenly over all other outputs."""

    def seed(output: Tensor) -> Tensor:
        share = output[:, target] / (output.shape[1] - 1)
        initial = share.unsqueeze(1).repeat(1, output.shape[1])
        initial[:, target] = 0
        return initial

    return seed


def lrp(peer: Peer, x: Tensor, target: int | Tensor) -> Tensor:
    """Relevance (N, C, H, W) for one class, or for one class of each example."""
    return peer.relevances(x, [score_of(target)])[0][0]


def clrp1(peer: Peer, x: Tensor, target: int) -> Tensor:
    """CLRP1 as a user of the peer must do it: two propagations and the difference."""
    (relevance, dual), _ = peer.relevances(x, [score_of(target), uniform_dual_of(target)])
    return (relevance - dual).clamp(min=0)


def clrp2(peer: Peer, x: Tensor, target: int) -> Tensor:
    """CLRP2: the second propagation goes through a network whose target weights are negated."""
    (relevance,), output = peer.relevances(x, [score_of(target)])
    initial = score_of(target)(output)
    with negated_weights(peer.model, target):
        (dual,), _ = peer.relevances(x, [lambda _: initial])
    return (relevance - dual).clamp(min=0)


@contextlib.contextmanager
def negated_weights(model: nn.Module, target: int) -> Iterator[None]:
    """Negate the weights that lead to ``target`` in the last linear layer, and put them back."""
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        last.weight[target].neg_()
    try:
        yield
    finally:
        with torch.no_grad():
            last.weight[target].neg_()


class CaptumLRP(Peer):
    """Captum's ``LRP`` with the rules that it leaves to the user set by hand on every leaf module.

    ``Alpha1_Beta0_Rule`` without biases on weighted layers, ``EpsilonRule`` on what changes the
    shape (pooling, flattening), ``IdentityRule`` on what keeps it (normalisation, activations),
    nothing on the activations that Captum passes through by itself. It has no z^beta rule.
    """

    name = "Captum LRP"
    package = "captum"

    def __init__(self, model: nn.Module, low: Tensor, high: Tensor) -> None:
        super().__init__(model, low, high)
        _out_of_place(model)
        self._keeps_shape: dict[nn.Module, bool] | None = None

    def relevances(self, x: Tensor, seeds: Sequence[Seed]) -> tuple[list[Tensor], Tensor]:
        from captum.attr import LRP

        if self._keeps_shape is None:
            self._keeps_shape = _leaves_that_keep_shape(self.model, x)
        results = []
        for seed in seeds:
            self._set_rules()
            seeded = _Seeded(self.model, seed)
            results.append(LRP(seeded).attribute(x).detach())
        assert seeded.output is not None
        return results, seeded.output

    def _set_rules(self) -> None:
        from captum.attr._core.lrp import SUPPORTED_NON_LINEAR_LAYERS
        from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, IdentityRule

        assert self._keeps_shape is not None
        weighted = (nn.Linear, nn.modules.conv._ConvNd)
        for leaf in _leaves(self.model):
            if isinstance(leaf, weighted):
                leaf.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True)
            elif type(leaf) in SUPPORTED_NON_LINEAR_LAYERS:
                continue
            elif self._keeps_shape.get(leaf, True) and not _is_pooling(leaf):
                leaf.rule = IdentityRule()
            else:
                leaf.rule = EpsilonRule()


def _out_of_place(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010  # modules declare no such attribute


class _Seeded(nn.Module):
    """Output whose value is one and whose gradient at the network's output is the seed.

    Captum multiplies what it propagated by the output, so the relevance starts as the seed. The
    seed is taken in the first of Captum's two forward passes: the second runs on other weights.
    """

    def __init__(self, model: nn.Module, seed: Seed) -> None:
        super().__init__()
        self.model = model
        self.seed = seed
        self.output: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(x)
        if self.output is None:
            self.output = output.detach()
            self.initial = self.seed(self.output)
        weighted = (output * self.initial).sum(1)
        return 1 + weighted - weighted.detach()


def _leaves(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if not list(m.children())]


def _is_pooling(module: nn.Module) -> bool:
    return "Pool" in type(module).__name__


def _leaves_that_keep_shape(model: nn.Module, x: Tensor) -> dict[nn.Module, bool]:
    keeps: dict[nn.Module, bool] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            same = inputs[0] is output  # the two hooks of IdentityRule would fire in the wrong order
            keeps[module] = not same and inputs[0].shape == output.shape

    handles = [leaf.register_forward_hook(record) for leaf in _leaves(model)]
    try:
        with torch.no_grad():
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return keeps


class CaptumDefault(Peer):
    """Captum's ``LRP`` as a newcomer calls it: no rule set, the network untouched."""

    name = "Captum LRP, defaults"
    package = "captum"

    def relevances(self, x: Tensor, seeds: Sequence[Seed]) -> tuple[list[Tensor], Tensor]:
        from captum.attr import LRP

        results = []
        for seed in seeds:
            seeded = _Seeded(self.model, seed)
            results.append(LRP(seeded).attribute(x).detach())
        assert seeded.output is not None
        return results, seeded.output


class Zennit(Peer):
    """Zennit with z+ on weighted layers and z^beta (its ``ZBox``) on the first convolution.

    Normalisation and activation modules pass relevance on unchanged, average pooling and the sums
    that canonizers introduce split it in proportion. The stabilizer is as small as Captum's.

    Args:
        model: the network.
        low: lowest input values.
        high: highest input values.
        canonizers: merge batch norms into the layers before them and give torchvision's ResNets
            modules for their sums; the canonizers that Zennit ships.
    """

    name = "Zennit"
    package = "zennit"

    def __init__(self, model: nn.Module, low: Tensor, high: Tensor, *, canonizers: bool = False) -> None:
        super().__init__(model, low, high)
        self.canonizers = canonizers

    def relevances(self, x: Tensor, seeds: Sequence[Seed]) -> tuple[list[Tensor], Tensor]:
        x = x.detach().clone().requires_grad_()
        with self._composite().context(self.model) as model:
            output = model(x)
            initial = [seed(output.detach()) for seed in seeds]
            results = [
                torch.autograd.grad(output, x, r, retain_graph=index + 1 < len(initial))[0]
                for index, r in enumerate(initial)
            ]
        return results, output.detach()

    def _composite(self):  # type: ignore[no-untyped-def]  # Zennit is not typed
        from zennit.composites import SpecialFirstLayerMapComposite
        from zennit.layer import Sum
        from zennit.rules import Norm, Pass, ZBox, ZPlus
        from zennit.torchvision import ResNetCanonizer
        from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

        tiny = {"stabilizer": 1e-9}
        bypassed = (nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, *_activations_of_timm())
        return SpecialFirstLayerMapComposite(
            layer_map=[
                (Activation, Pass()),
                (BatchNorm, Pass()),
                (bypassed, Pass()),
                (AvgPool, Norm(**tiny)),
                (Sum, Norm(**tiny)),
                (Linear, ZPlus(zero_params="bias", **tiny)),
            ],
            first_map=[(Convolution, ZBox(self.low, self.high, zero_params="bias", **tiny))],
            canonizers=[ResNetCanonizer()] if self.canonizers else [],
        )


def _activations_of_timm() -> tuple[type[nn.Module], ...]:
    try:
        from timm.layers import activations
    except ImportError:
        return ()
    return tuple(
        value for value in vars(activations).values() if isinstance(value, type) and issubclass(value, nn.Module)
    )


class AutoLRP(Peer):
    """autoLRP with z+ on weighted operations and its box rule on the first convolution.

    Its box rule takes one bound for all channels. Biases keep their share of the relevance by
    design; there is no setting against it. A wrapped input serves one class, so a batch is
    explained through the sum of its seeded outputs, which autoLRP splits in proportion.
    """

    name = "autoLRP"
    package = "autoLRP"

    def relevances(self, x: Tensor, seeds: Sequence[Seed]) -> tuple[list[Tensor], Tensor]:
        import autolrp

        box = {"low": float(self.low.min()), "high": float(self.high.max())}
        weighted = ("ConvolutionBackward", "AddmmBackward", "MmBackward")
        config = autolrp.LRPConfig(
            rule={**autolrp.BASE, **dict.fromkeys(weighted, "zplus"), "input_conv": ("zbox", box)}
        )
        results = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = autolrp.tensor(x)
            wrapped_output = self.model(wrapped)
            output = wrapped_output.detach().as_subclass(Tensor)
            for seed in seeds:
                initial = seed(output)
                # Operands enter its split by magnitude: signs are put back per example afterwards.
                magnitude = initial.abs()
                factor = torch.where(output == 0, 0, magnitude / output)
                (wrapped_output * factor).sum().lrp(config=config)
                assert wrapped.relevance is not None
                relevance = wrapped.relevance.as_subclass(Tensor) * magnitude.sum()
                sign = initial.sum(1).sign().view(-1, *[1] * (x.ndim - 1))
                results.append(relevance * sign)
        return results, output


class Gradients:
    """Captum's ``Saliency`` and ``GuidedBackprop``: the yardstick, one forward and one backward."""

    def __init__(self, model: nn.Module, *, guided: bool = False) -> None:
        from captum.attr import GuidedBackprop, Saliency

        if guided:
            _out_of_place(model)
        self._method = GuidedBackprop(model) if guided else Saliency(model)

    def attribute(self, x: Tensor, target: int) -> Tensor:
        """Attribution of the shape of ``x``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result: Tensor = self._method.attribute(x, target=target)
        return result


def own_copy(model: nn.Module) -> nn.Module:
    """A deep copy, so that what a peer leaves behind reaches nobody else."""
    return copy.deepcopy(model)
