"""What ``speed`` measures: a setting (network, batch, device, ...) and a case (method and work)."""

from __future__ import annotations

import contextlib
import contextvars
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import networks, peers

SIZES = {"inception_v3": 299}
NAMES = {
    "alexnet": "torchvision/alexnet",
    "vgg16": "torchvision/vgg16",
    "resnet50": "torchvision/resnet50",
    "efficientnet_lite0": "timm/tf_efficientnet_lite0",
    "inception_v3": "torchvision/inception_v3",
    "densenet121": "torchvision/densenet121",
}
METHODS = {
    "saliency": "Captum Saliency",
    "guided": "Captum GuidedBackprop",
    "ours": "captum_clrp",
    "captum": "Captum LRP",
    "zennit": "Zennit",
    "autolrp": "autoLRP",
}


@dataclass(frozen=True)
class Setting:
    """Where and on what the cases run.

    Args:
        network: key of :data:`NAMES`, or a label of :mod:`benchmarks.networks`.
        batch: number of pictures.
        device: ``"cpu"`` or a CUDA device.
        precision: ``"float32"``, ``"tf32"`` or ``"bfloat16"`` (autocast).
        layout: ``"contiguous"`` or ``"channels_last"``.
        size: height and width; 0 takes the network's usual one.
    """

    network: str
    batch: int = 1
    device: str = "cpu"
    precision: str = "float32"
    layout: str = "contiguous"
    size: int = 0

    @property
    def title(self) -> str:
        """Heading of the table."""
        parts = [self.network, f"batch {self.batch}"]
        if self.size:
            parts.append(f"{self.size} x {self.size}")
        if self.device != "cpu":
            parts += [self.precision, self.layout]
        return ", ".join(parts)

    @property
    def pixels(self) -> int:
        """Height and width of the input."""
        entry = self.entry
        usual = entry.size if entry.source == "toy" else SIZES.get(self.network, 224)
        return self.size or usual

    @property
    def entry(self) -> networks.Network:
        """The network in the list of all."""
        return networks.find_networks([NAMES.get(self.network, self.network)])[0]


@dataclass(frozen=True)
class Case:
    """One method doing one kind of work: ``gradient``, ``LRP``, ``CLRP1``, ``CLRP2``, ``classes K``.

    Ours may add, behind a comma, how it saves memory or time: in small batches, with weights at rest, in bfloat16; or that
    the model's forward pass and the convolutions and matrix products of relevance are run by themselves: what no
    implementation that calls these kernels can go below.
    """

    method: str
    work: str

    @property
    def key(self) -> str:
        """Name in the JSON file."""
        return f"{self.method}: {self.work}"

    @property
    def title(self) -> str:
        """Name in the table."""
        return METHODS[self.method] + ("" if self.work == "gradient" else f", {self.work}")


IN_TWOS = "internal_batch_size=2"
AT_REST = "weights at rest"
BRIEF = "bfloat16"
KERNELS = "kernels alone"
CASES = (
    Case("saliency", "gradient"),
    Case("guided", "gradient"),
    *(Case("ours", w) for w in ("LRP", "CLRP1", "CLRP2", "classes 1", "classes 5", "classes 20")),
    *(Case("ours", f"LRP, {how}") for how in (IN_TWOS, AT_REST, BRIEF, f"{BRIEF}, {AT_REST}")),
    *(Case("ours", f"{w}, {BRIEF}") for w in ("CLRP1", "CLRP2")),
    *(Case(m, w) for m in ("captum", "zennit", "autolrp") for w in ("LRP", "CLRP1", "CLRP2")),
)


@dataclass
class Bench:
    """The network, the pictures and the methods of one setting; methods are built when first asked.

    Gradient methods and ours share the network, since neither changes it; each peer gets a copy.

    Args:
        setting: where and on what.
        alone: for one case only: a peer takes the network itself, and no time goes into weights
            that are realistic. For measuring memory.
    """

    setting: Setting
    alone: bool = False
    _methods: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        setting = self.setting
        model = setting.entry.build()
        if not self.alone:
            networks.realistic(model, size=min(96, setting.pixels))
        self.model = self._placed(model)
        self.x = self._placed(networks.pictures(setting.batch, setting.pixels, seed=7))
        self.low, self.high = (b.to(setting.device) for b in networks.picture_bounds())
        self.target = 3

    def _placed(self, value):  # type: ignore[no-untyped-def]  # a module or a tensor, the same out
        channels_last = self.setting.layout == "channels_last"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return value.to(self.setting.device).to(memory_format=layout)

    def call(self, case: Case) -> Callable[[], object]:
        """The work of ``case`` as a function without arguments."""
        run = self._runner(case)
        # Peers change weights in place, which autocast's cache of converted weights would not see.
        cache = case.method in ("saliency", "guided", "ours")

        def call() -> object:
            with settled(self.setting, cache=cache), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return run()

        return call

    def _runner(self, case: Case) -> Callable[[], object]:
        if case.method in ("saliency", "guided"):
            gradients = self._method(case.method)
            assert isinstance(gradients, peers.Gradients)
            return lambda: gradients.attribute(self.x, self.target)
        if case.method == "ours":
            return self._ours(case.work)
        peer = self._method(case.method)
        work = {"LRP": peers.lrp, "CLRP1": peers.clrp1, "CLRP2": peers.clrp2}[case.work]
        assert isinstance(peer, peers.Peer)
        return lambda: work(peer, self.x, self.target)

    def _method(self, name: str) -> object:
        if name not in self._methods:
            self._methods[name] = self._build(name)
        return self._methods[name]

    def _build(self, name: str) -> object:
        if name == "saliency":
            return peers.Gradients(self.model)
        model = self.model if self.alone else peers.own_copy(self.model)
        if name == "guided":
            return peers.Gradients(model, guided=True)
        if name == "captum":
            return peers.CaptumLRP(model, self.low, self.high)
        if name == "autolrp":
            return peers.AutoLRP(model, self.low, self.high)
        # Zennit ships canonizers for these two families of torchvision and needs them for ResNets.
        family = self.setting.entry.family if self.setting.entry.source == "torchvision" else ""
        return peers.Zennit(model, self.low, self.high, canonizers=family in ("resnet", "vgg"))

    def _ours(self, work: str) -> Callable[[], object]:
        import captum_clrp

        work, _, how = work.partition(", ")
        classes = {"CLRP1": captum_clrp.ContrastiveLRP1, "CLRP2": captum_clrp.ContrastiveLRP2}.get(
            work, captum_clrp.LRPZBeta
        )
        method = classes(self.model, self.low, self.high, precision="bfloat16" if BRIEF in how else "float32")
        if KERNELS in how:
            return self._kernels(lambda: method.attribute(self.x, target=self.target))
        if AT_REST in how:
            resting = contextvars.copy_context()  # in the turns of this case only
            resting.run(captum_clrp.weights_at_rest().__enter__)
            return lambda: resting.run(method.attribute, self.x, target=self.target)
        size = 2 if how == IN_TWOS else None
        if not work.startswith("classes"):
            return lambda: method.attribute(self.x, target=self.target, internal_batch_size=size)
        several = list(range(int(work.split()[1])))
        return lambda: method.attribute_classes(self.x, several)

    def _kernels(self, run: Callable[[], object]) -> Callable[[], object]:
        of_forward: list[int] = []
        with HeavyCalls() as heavy:
            # counted here: a plain forward pass may fuse what a recorded one does step by step (attention)
            end = self.model.register_forward_hook(lambda *_: of_forward.append(len(heavy.calls)))
            try:
                run()
            finally:
                end.remove()
        of_relevance = heavy.calls[of_forward[0] :]

        def again() -> None:
            with torch.no_grad():
                self.model(self.x)
                for func, args, kwargs in of_relevance:
                    func(*args, **kwargs)

        return again

    def synchronize(self) -> None:
        """Wait for the accelerator, where there is one."""
        if self.setting.device.startswith("cuda"):
            torch.cuda.synchronize(self.setting.device)

    def positive_weight_bytes(self) -> int:
        """Memory of the positive parts of all weights, which an implementation may keep."""
        return sum(
            m.weight.numel() * m.weight.element_size()
            for m in self.model.modules()
            if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))
        )

    def forward_operations(self) -> int:
        """Floating point operations of one forward pass of the batch."""
        from torch.utils.flop_counter import FlopCounterMode

        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.model(self.x)
        return int(counter.get_total_flops())


class HeavyCalls(TorchDispatchMode):
    """Notes the convolutions and matrix products that run, with their arguments."""

    FUNCTIONS = frozenset(
        getattr(torch.ops.aten, name).default
        for name in ("convolution", "convolution_backward", "mm", "addmm", "bmm", "mv", "addmv")
    )

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.FUNCTIONS:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **kwargs or {})


@contextlib.contextmanager
def settled(setting: Setting, *, cache: bool = True) -> Iterator[None]:
    """The arithmetic of a setting: TF32 on or off, autocast to bfloat16 with or without its cache."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = setting.precision == "tf32"
    kind = torch.device(setting.device).type
    try:
        low_precision = setting.precision == "bfloat16"
        with torch.autocast(kind, torch.bfloat16, enabled=low_precision, cache_enabled=cache):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def card_limits(setting: Setting) -> dict[str, float]:
    """What the card reaches in this arithmetic: operations per second and bytes copied per second."""
    import time

    dtype = torch.bfloat16 if setting.precision == "bfloat16" else torch.float32
    a, b = (torch.randn(8192, 8192, device=setting.device, dtype=dtype) for _ in range(2))
    source = torch.empty(2**28, device=setting.device)
    sink = torch.empty_like(source)

    def best(call: Callable[[], Tensor]) -> float:
        seconds = []
        for _ in range(5):
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    with settled(setting):
        product = best(lambda: a @ b)
    copy = best(lambda: sink.copy_(source))
    return {"operations_per_second": 2 * 8192**3 / product, "bytes_per_second": 2 * source.numel() * 4 / copy}
