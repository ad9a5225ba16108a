"""The networks of both benchmarks, and weights for them that are worth explaining.

Every entry is built offline with random weights. :func:`realistic` turns those into weights on
which a propagation rule can go wrong: freshly built networks have zero biases, unit normalisation
statistics and layer scales of 1e-6, which hides most leaks of relevance.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """One classifier of a model library.

    Args:
        name: what the library calls it.
        source: ``"torchvision"``, ``"timm"`` or ``"toy"`` (a small network for the tests).
        family: the architecture it stands for.
        size: height and width of the square input, small, but enough for the deepest feature map to
            have something to look at.
        options: keyword arguments for torchvision's constructor.
        heavy: left out unless all networks are asked for; it repeats a family at greater size.
        refused: contains an operation that has no rule, so a refusal by name is the right answer.
    """

    name: str
    source: str
    family: str
    size: int = 112
    options: tuple[tuple[str, object], ...] = ()
    heavy: bool = False
    refused: bool = False

    @property
    def label(self) -> str:
        """Unique name, for example ``timm/resnet10t`` or ``torchvision/googlenet+transform_input``."""
        extra = "".join(f"+{key}" for key, _ in self.options)
        return f"{self.source}/{self.name}{extra}"

    def build(self, seed: int = 0) -> nn.Module:
        """The network in evaluation mode with the library's own initialisation, drawn from ``seed``.

        The global random state is left as it was.
        """
        with _fixed_seed(seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._construct().eval()

    def _construct(self) -> nn.Module:
        if self.source == "toy":
            return toy_network(self.name)
        if self.source == "torchvision":
            import torchvision

            model: nn.Module = torchvision.models.get_model(self.name, weights=None, **dict(self.options))
            return model
        import timm

        timm_model: nn.Module = timm.create_model(self.name, pretrained=False)
        if not timm_model.num_classes:  # some are published without a classifier
            timm_model.reset_classifier(1000)
        return timm_model


@contextlib.contextmanager
def _fixed_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def toy_network(name: str = "plain") -> nn.Module:
    """A classifier of ten classes small enough for a unit test.

    ``plain`` has no normalisation and no bias, ``residual`` has batch norm, biases, a functional sum
    and a gate.
    """
    if name == "plain":
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 10, bias=False),
        )
    return _ToyResidual()


class _ToyResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        gate = torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = x + self.branch(x) * gate
        return self.classifier(torch.relu(x).mean((2, 3)))


TOY = (Network("plain", "toy", "toy", size=16), Network("residual", "toy", "toy", size=16))


# The first names of a family run by default; those behind the bar repeat it at greater size.
_TORCHVISION: dict[str, tuple[str, str]] = {
    "alexnet": ("alexnet", ""),
    "vgg": ("vgg11 vgg11_bn vgg16 vgg16_bn", "vgg13 vgg13_bn vgg19 vgg19_bn"),
    "resnet": ("resnet18 resnet34 resnet50", "resnet101 resnet152"),
    "resnext": ("resnext50_32x4d", "resnext101_32x8d resnext101_64x4d"),
    "wide_resnet": ("wide_resnet50_2", "wide_resnet101_2"),
    "squeezenet": ("squeezenet1_0 squeezenet1_1", ""),
    "densenet": ("densenet121 densenet169", "densenet161 densenet201"),
    "inception_v3": ("inception_v3", ""),
    "googlenet": ("googlenet", ""),
    "shufflenet": ("shufflenet_v2_x0_5 shufflenet_v2_x1_0", "shufflenet_v2_x1_5 shufflenet_v2_x2_0"),
    "mobilenet_v2": ("mobilenet_v2", ""),
    "mobilenet_v3": ("mobilenet_v3_small mobilenet_v3_large", ""),
    "mnasnet": ("mnasnet0_5 mnasnet1_0", "mnasnet0_75 mnasnet1_3"),
    "efficientnet": (
        "efficientnet_b0 efficientnet_b1 efficientnet_b2",
        "efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7",
    ),
    "efficientnet_v2": ("efficientnet_v2_s", "efficientnet_v2_m efficientnet_v2_l"),
    "regnet_x": (
        "regnet_x_400mf regnet_x_800mf regnet_x_1_6gf",
        "regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf",
    ),
    "regnet_y": (
        "regnet_y_400mf regnet_y_800mf regnet_y_1_6gf",
        "regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf regnet_y_128gf",
    ),
    "convnext": ("convnext_tiny convnext_small", "convnext_base convnext_large"),
    "vit": ("vit_b_16 vit_b_32", "vit_l_16 vit_l_32 vit_h_14"),
    "swin": ("swin_t", "swin_s swin_b"),
    "swin_v2": ("swin_v2_t", "swin_v2_s swin_v2_b"),
    "maxvit": ("maxvit_t", ""),
}

_TIMM: dict[str, str] = {
    "resnet": "resnet10t resnet26d resnet32ts resnet51q resnetaa34d resnetblur18 resnetrs50",
    "resnext": "resnext26ts resnext50_32x4d",
    "res2net": "res2net50_14w_8s res2next50",
    "resnest": "resnest14d resnest26d",
    "sknet": "skresnet18 skresnext50_32x4d",
    "seresnet": "seresnet18 seresnext26d_32x4d seresnet33ts",
    "ecaresnet": "ecaresnet26t ecaresnetlight eca_resnet33ts",
    "senet": "legacy_seresnet18 legacy_seresnext26_32x4d",
    "resnetv2": "resnetv2_18 resnetv2_50 resnetv2_50d_gn resnetv2_50d_evos resnetv2_50d_frn",
    "resnetv2_bit": "resnetv2_50x1_bit",
    "tresnet": "tresnet_m",
    "densenet": "densenet121 densenetblur121d",
    "dpn": "dpn48b dpn68",
    "vovnet": "vovnet39a ese_vovnet19b_slim ese_vovnet19b_dw eca_vovnet39b",
    "dla": "dla34 dla46_c dla60_res2net",
    "hrnet": "hrnet_w18_small",
    "efficientnet": "efficientnet_b0 tf_efficientnet_b0 efficientnet_b0_gn efficientnet_es",
    "efficientnet_lite": "efficientnet_lite0 tf_efficientnet_lite0",
    "efficientnetv2": "efficientnetv2_rw_t tf_efficientnetv2_b0",
    "efficientnet_evos": "efficientnet_b0_g16_evos",
    "efficientnet_condconv": "efficientnet_cc_b0_4e",
    "mixnet": "mixnet_s tf_mixnet_s",
    "mnasnet": "mnasnet_050 semnasnet_050 spnasnet_100",
    "fbnet": "fbnetc_100 fbnetv3_b",
    "mobilenetv1": "mobilenetv1_100",
    "mobilenetv2": "mobilenetv2_035",
    "mobilenetv3": "mobilenetv3_small_050 mobilenetv3_large_100 mobilenetv3_rw",
    "mobilenetv4": "mobilenetv4_conv_small_035 mobilenetv4_conv_medium",
    "mobilenet_edgetpu": "mobilenet_edgetpu_100 mobilenet_edgetpu_v2_xs",
    "hardcorenas": "hardcorenas_a",
    "lcnet": "lcnet_035 lcnetv2_small",
    "tinynet": "tinynet_e",
    "rexnet": "rexnet_100 rexnetr_100",
    "regnet": "regnetx_002 regnety_002 regnetv_040",
    "regnetz": "regnetz_005 regnetz_b16 regnetz_c16_evos",
    "repvgg": "repvgg_a0",
    "mobileone": "mobileone_s0",
    "repvit": "repvit_m0_9",
    "nfnet": "eca_nfnet_l0 nfnet_l0 nfnet_f0",
    "normfree_resnet": "nf_resnet26 nf_seresnet26 nf_ecaresnet26 nf_regnet_b0",
    "gernet": "gernet_s",
    "darknet": "darknet17 sedarknet21 darknetaa53",
    "cspnet": "cs3darknet_s cs3darknet_focus_s cspresnet50 cspresnext50 cspdarknet53",
    "cspnext": "cspnext_tiny",
    "selecsls": "selecsls42",
    "xception": "legacy_xception xception41 xception41p",
    "inception": "inception_v3 inception_v4 inception_resnet_v2",
    "nasnet": "nasnetalarge",
    "pnasnet": "pnasnet5large",
    "ghostnet": "ghostnet_050 ghostnetv2_100 ghostnetv3_050",
    "repghost": "repghostnet_050",
    "convnext": "convnext_atto convnext_atto_ols convnext_atto_rms",
    "convnextv2": "convnextv2_atto",
    "convmixer": "convmixer_768_32",
    "hgnet": "hgnet_tiny",
    "hgnetv2": "hgnetv2_b0",
    "fastvit": "fastvit_t8",
    "fasternet": "fasternet_t0",
    "inception_next": "inception_next_atto",
    "starnet": "starnet_s050 starnet_s1",
    "rdnet": "rdnet_tiny",
    "vgg": "vgg11 vgg11_bn",
    "poolformer": "poolformer_s12 poolformerv2_s12",
    "convformer": "convformer_s18",
    "mambaout": "mambaout_femto",
    "focalnet": "focalnet_tiny_srf focalnet_tiny_lrf",
}

# Networks that mix positions by attention or by products of two activations; most take one size only.
_ATTENTION: dict[str, str] = {
    "vit": (
        "vit_tiny_patch16_224 vit_relpos_small_patch16_224 vit_medium_patch16_gap_256 "
        "vit_small_r26_s32_224 flexivit_small vit_srelpos_small_patch16_224 "
        "vit_pwee_patch16_reg1_gap_256 vit_betwixt_patch16_reg1_gap_256 vit_wee_patch16_reg1_gap_256 "
    ),
    "deit": "deit_tiny_patch16_224 deit_tiny_distilled_patch16_224",
    "deit3": "deit3_small_patch16_224",
    "eva": "eva02_tiny_patch14_224",
    "cait": "cait_xxs24_224",
    "xcit": "xcit_nano_12_p16_224",
    "swin": "swin_tiny_patch4_window7_224 swin_s3_tiny_224",
    "swinv2": "swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224",
    "mobilevit": "mobilevit_xxs",
    "mobilevitv2": "mobilevitv2_050",
    "coatnet": "coatnet_nano_rw_224",
    "coat": "coat_tiny coat_lite_tiny",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "levit": "levit_128s levit_conv_128s",
    "pit": "pit_ti_224",
    "pvt_v2": "pvt_v2_b0",
    "convit": "convit_tiny",
    "crossvit": "crossvit_tiny_240",
    "tnt": "tnt_s_patch16_224 tnt_s_legacy_patch16_224",
    "twins": "twins_pcpvt_small twins_svt_small",
    "mixer": "mixer_s32_224 gmixer_12_224 resmlp_12_224 gmlp_ti16_224 gmlp_s16_224",
    "gcvit": "gcvit_xxtiny",
    "edgenext": "edgenext_xx_small",
    "tiny_vit": "tiny_vit_5m_224",
    "nest": "nest_tiny nest_tiny_jx",
    "mvitv2": "mvitv2_tiny",
    "davit": "davit_tiny",
    "fastvit": "fastvit_sa12",
    "hiera": "hiera_tiny_224",
    "maxvit": "maxvit_rmlp_pico_rw_256 maxvit_tiny_tf_224",
    "maxxvit": "maxxvit_rmlp_nano_rw_256",
    "coatnext": "coatnext_nano_rw_224",
    "volo": "volo_d1_224",
    "caformer": "caformer_s18",
    "mobilenetv4_hybrid": "mobilenetv4_hybrid_medium_075 mobilenetv4_hybrid_medium",
    "visformer": "visformer_tiny",
    "efficientformer": "efficientformer_l1",
    "efficientformerv2": "efficientformerv2_s0",
    "iformer": "iformer_t",
    "global_context_resnet": "gcresnext26ts",
    "halonet": "halonet26t sehalonet33ts eca_halonext26ts",
    "botnet": "botnet26t_256",
    "lambda_resnet": "lambda_resnet26t",
    "bat": "bat_resnext26ts",
    "lamhalobotnet": "lamhalobotnet50ts_256",
    "nextvit": "nextvit_small",
    "shvit": "shvit_s1",
    "swiftformer": "swiftformer_xs",
    "vitamin": "vitamin_small_224",
    "resnet_attention": "resnet50_clip",
}
_SIZE_OF_ATTENTION = 224  # unless the name ends in another one

# The usual input leaves a deepest map of 4 x 4. Costly networks get less; some join maps of different
# depth and take multiples of 32 only. Those that need more have
# light depthwise layers or a stem of many strides: in a map of 3 x 3 or less every position sees the
# whole picture, and maps of two classes of a random network differ by rounding only.
_USUAL_SIZE = 112
_SIZES = {
    64: "nfnet_f0 nfnet_l0 eca_nfnet_l0 cspdarknet53 darknetaa53 resnetv2_50x1_bit regnetv_040 convmixer_768_32",
    256: "halonet26t sehalonet33ts eca_halonext26ts bat_resnext26ts",
    128: "resnetaa34d dla34 dla46_c dla60_res2net hrnet_w18_small nasnetalarge pnasnet5large",
    160: "shufflenet_v2_x0_5 shufflenet_v2_x1_0 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large "
    "mnasnet0_5 mnasnet1_0 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b7 "
    "tf_efficientnet_b0 efficientnet_b0_gn efficientnet_b0_g16_evos efficientnet_es efficientnet_cc_b0_4e efficientnet_lite0 "
    "tf_efficientnet_lite0 tf_efficientnetv2_b0 mixnet_s tf_mixnet_s mnasnet_050 semnasnet_050 "
    "spnasnet_100 fbnetc_100 fbnetv3_b mobilenetv1_100 mobilenetv2_035 mobilenetv3_small_050 "
    "mobilenetv3_large_100 mobilenetv3_rw mobilenetv4_conv_small_035 mobilenetv4_conv_medium "
    "mobilenet_edgetpu_100 mobilenet_edgetpu_v2_xs hardcorenas_a lcnet_035 lcnetv2_small tinynet_e "
    "rexnet_100 rexnetr_100 ghostnet_050 ghostnetv2_100 ghostnetv3_050 repghostnet_050 mobileone_s0 "
    "starnet_s050 starnet_s1 fasternet_t0 repvit_m0_9 ese_vovnet19b_dw",
    192: "inception_v3 inception_v4 inception_resnet_v2",
    240: "flexivit_small",
    224: "vit_b_16 vit_b_32 vit_l_16 vit_l_32 vit_h_14 swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b maxvit_t",
}
_SIZE_OF = {name: size for size, names in _SIZES.items() for name in names.split()}

_REFUSED = (Network("sequencer2d_s", "timm", "sequencer", size=224, refused=True),)


def _listed() -> Iterator[Network]:
    for family, (usual, heavy) in _TORCHVISION.items():
        for name in usual.split():
            yield Network(name, "torchvision", family, _size(name))
        for name in heavy.split():
            yield Network(name, "torchvision", family, _size(name), heavy=True)
    for name in ("inception_v3", "googlenet"):
        transform = (("transform_input", True),)
        yield Network(name, "torchvision", name, _size(name), options=transform)
    for family, names in _TIMM.items():
        for name in names.split():
            yield Network(name, "timm", family, _size(name))
    for family, names in _ATTENTION.items():
        for name in names.split():
            stated = re.search(r"_(\d{3})$", name)
            yield Network(name, "timm", family, int(stated[1]) if stated else _SIZE_OF.get(name, _SIZE_OF_ATTENTION))


def _size(name: str) -> int:
    return _SIZE_OF.get(name, _USUAL_SIZE)


NETWORKS: tuple[Network, ...] = tuple(_listed())
REFUSED: tuple[Network, ...] = _REFUSED


def find_networks(names: list[str] | None = None, *, heavy: bool = False) -> list[Network]:
    """The networks to survey.

    Args:
        names: labels (``timm/vgg11``), names (``vgg11``, in every library that has one) or sources
            (``timm``); ``None`` takes all.
        heavy: with ``names=None``, also those that repeat a family at greater size.

    Raises:
        ValueError: a name that is neither, with the place where names are listed.
    """
    everything = [*NETWORKS, *REFUSED, *TOY]
    if names is None:
        return [n for n in everything if n.source != "toy" and (heavy or not n.heavy)]
    chosen: dict[str, Network] = {}
    for name in names:
        matches = [n for n in everything if name in (n.label, n.name) or (name == n.source and (heavy or not n.heavy))]
        if not matches:
            raise ValueError(
                f"no network is called {name!r}; give a label such as 'timm/resnet10t', a name "
                "such as 'resnet18' or a source ('torchvision', 'timm'); --list shows all"
            )
        chosen.update({n.label: n for n in matches})
    return list(chosen.values())


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """Random pictures with large structures and fine grain, normalised as ImageNet input.

    Returns:
        Tensor of shape (count, 3, size, size) within :func:`picture_bounds`.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    grain = torch.rand(count, 3, size, size, generator=generator)
    values = (0.75 * smooth + 0.25 * grain).clamp(0, 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (values - mean) / std


def picture_bounds() -> tuple[Tensor, Tensor]:
    """Lowest and highest value of a normalised ImageNet pixel, each of shape (1, 3, 1, 1)."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return -mean / std, (1 - mean) / std


def realistic(model: nn.Module, *, size: int = 112, seed: int = 0) -> nn.Module:
    """Give a freshly built network weights such as training leaves behind, in place.

    Biases are drawn from N(0, 0.1); everything that scales a channel (affine weights of
    normalisation layers, layer scales, gains) is multiplied by U(0.5, 1.5), after those that start
    near zero were set to one; weight tensors that start at zero are drawn anew. Then the running
    statistics of batch normalisation are measured on a few batches of :func:`pictures`.

    Args:
        model: network in evaluation mode that takes (N, 3, size, size).
        size: height and width of the calibration pictures.
        seed: of everything drawn here.

    Returns:
        The same network, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    kept = {id(p) for m in model.modules() if isinstance(m, nn.PReLU) for p in m.parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if id(parameter) not in kept:
                _randomise(name, parameter, generator)
    _calibrate(model, size, seed)
    return model


def _randomise(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(parameter.shape, generator=generator)

    last = name.rsplit(".", 1)[-1]
    kernel = last.endswith("weight") and parameter.ndim >= 2
    if "bias" in last or last in ("beta", "tau", "shift"):
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    elif not kernel and sum(length > 1 for length in parameter.shape) <= 1:
        base = torch.where(parameter.abs() < 0.1, torch.ones_like(parameter), parameter)
        parameter.copy_(base * uniform(0.5, 1.5))
    elif not parameter.any():
        fan_in = max(1, parameter[0].numel())
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)


def _calibrate(model: nn.Module, size: int, seed: int, batches: int = 2, count: int = 8) -> None:
    with_statistics = [m for m in model.modules() if isinstance(getattr(m, "running_var", None), Tensor)]
    if not with_statistics:
        return
    momenta = [getattr(m, "momentum", None) for m in with_statistics]
    for module in with_statistics:
        module.train()
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # plain mean over the batches
        else:
            setattr(module, "momentum", 1.0)  # noqa: B010  # others keep the last batch
    try:
        with torch.no_grad():
            for index in range(batches):
                model(pictures(count, size, seed=1000 * (seed + 1) + index))
    finally:
        for module, momentum in zip(with_statistics, momenta, strict=True):
            module.eval()
            module.momentum = momentum  # type: ignore[assignment]
