# %% [markdown]
# # 9. Transformers and ConvNeXt
#
# The rules of [the paper](https://arxiv.org/abs/1812.02100) were made for networks with ReLU, whose features are
# never negative. In ConvNeXt, ViT and Swin features have both signs. This tutorial shows why the paper's rules fail
# there, what the *gamma* rules do instead, and what it means that attention is treated as a gate.
#
# ImageNet weights of such networks do not come as a package, so small networks take their place. They are part of the
# repository, in `benchmarks/digits`, and were trained to name the handwritten digits in a collage. So run this
# tutorial from a checkout, with `pip install ".[tutorials]"`.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from captum_clrp import ContrastiveLRP1, LRPZBeta, check_conservation, explain_plan
from captum_clrp.composites import Composite
from captum_clrp.evaluation import class_similarity

places = [Path.cwd(), *Path.cwd().parents]
ROOT = next(p for p in places if (p / "benchmarks" / "digits").is_dir())
sys.path.append(str(ROOT))  # the checkout, where benchmarks/ is

from benchmarks.digits.collages import draw  # noqa: E402
from benchmarks.digits.train import load  # noqa: E402

networks = {
    "ReLU": load("cnn-relu", seed=0),
    "ConvNeXt": load("convnext", seed=0),
    "ViT": load("vit-mean", seed=0),
}

# %% [markdown]
# ## Collages of digits
#
# Each collage has 16 x 16 pixels, with values from -1 to 1, and four digits of different classes. The network sees
# which digits are there, not where; but we know where each one is.

# %%
# alt: Four collages; each has one handwritten digit in each quarter.
collages = draw(np.random.default_rng(0), 60, "held-out", digits=4)
images, labels = collages.images, collages.labels  # (60, 1, 16, 16), (60, 4)
figure, axes = plt.subplots(1, 4, figsize=(6.4, 2))
for axis, image, names in zip(axes, images, labels.tolist(), strict=False):
    axis.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
    axis.set_title("{} {} / {} {}".format(*names), fontsize=9)
    axis.set_axis_off()
figure.tight_layout()

for name, network in networks.items():
    with torch.no_grad():
        found = network(images).topk(4).indices
    right = (found[:, :, None] == labels[:, None]).any(2).float().mean()
    print(f"{name:9s} finds {right:.0%} of the digits")
    assert right > 0.9

# %% [markdown]
# ## Features of both signs
#
# What does the output layer of each network read? Here is how many of its inputs are negative, before they are
# averaged over the positions.


# %%
def features(network: nn.Module) -> torch.Tensor:
    """What is averaged over the positions, in front of the output layer."""
    seen = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            name = getattr(function, "__name__", "")
            if name in ("mean", "adaptive_avg_pool2d"):
                seen.append(args[0])
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        network(images)
    return seen[-1]


negative = {
    name: float((features(network) < 0).float().mean())
    for name, network in networks.items()
}
for name, share in negative.items():
    print(f"{name:9s} {share:.0%} of the features are negative")
assert negative["ReLU"] == 0
assert min(negative["ConvNeXt"], negative["ViT"]) > 0.3

# %% [markdown]
# ## What goes wrong with them
#
# Take a mean over three tokens that hold 2, -1 and -4. It is -1, and what made it negative are the last two. The
# paper's rule shares relevance by the *positive* parts: everything goes to the first token, which opposes the result.

# %%
tokens = torch.tensor([[[2.0, -1.0, -4.0]]])  # (1, 1, 3)


class Mean(nn.Module):
    """A mean over the tokens, and a score that is large if the mean is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv1d(1, 1, 1, bias=False)
        self.score = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.embed.weight)
        nn.init.constant_(self.score.weight, -3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.embed(x).mean(2))


mean = Mean().eval()
shares = {}
for rules in ("paper", Composite.gamma(0.1)):
    relevance = LRPZBeta(mean, -5.0, 5.0, rules=rules).attribute(tokens)
    name = rules if isinstance(rules, str) else "gamma"
    shares[name] = relevance[0, 0] / relevance.sum()
    print(f"{name:6s}", " ".join(f"{share:6.2f}" for share in shares[name].tolist()))
assert shares["paper"].tolist() == [1, 0, 0]
assert shares["gamma"][0] < 0 < shares["gamma"][1] < shares["gamma"][2]

# %% [markdown]
# With gamma, the last two tokens get relevance and the first gets a negative share: it spoke against the result.
#
# In a whole network the effect adds up from block to block. Half of all products of signed features are positive by
# chance, and sharing by them spreads relevance over everything. Here are the maps of the four digits of one collage.


# %%
# alt: Maps of the four digits of one collage by CLRP1, for the ConvNeXt. With the paper's rules they show blocks that
# have nothing to do with the digit; with gamma each map marks the quarter of its digit.
def show(
    maps: dict[str, torch.Tensor], classes: list[int], image: torch.Tensor
) -> None:
    """A row for each set of rules, all of a row on one scale: red is evidence for the
    class, blue against it.
    """
    figure, axes = plt.subplots(len(maps), 5, figsize=(7.5, 1.75 * len(maps)))
    for row, (title, relevance) in zip(axes, maps.items(), strict=True):
        row[0].imshow(image[0], cmap="gray", vmin=-1, vmax=1)
        row[0].set_title(title, fontsize=9)
        limit = relevance.abs().max()
        for axis, one, number in zip(row[1:], relevance, classes, strict=True):
            axis.imshow(one[0], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_title(f"for the {number}", fontsize=9)
        for axis in row:
            axis.set_axis_off()
    figure.tight_layout()


def of_each_digit(method: type[LRPZBeta], name: str, rules: object) -> torch.Tensor:
    """The maps of the four digits of each collage, ``(60, 4, 1, 16, 16)``, for the
    magnitude of the score.
    """
    maps = method(networks[name], -1.0, 1.0, rules=rules).attribute_classes(
        images, labels
    )
    with torch.no_grad():
        sign = (
            networks[name](images).gather(1, labels).sign()
        )  # a few scores are negative, and so are LRP's maps
    return maps * sign[:, :, None, None, None] if method is LRPZBeta else maps


contrasts = {
    f"CLRP1, {rules}": of_each_digit(ContrastiveLRP1, "ConvNeXt", rules)
    for rules in ("paper", "gamma")
}
show(
    {title: maps[0] for title, maps in contrasts.items()}, labels[0].tolist(), images[0]
)

# %% [markdown]
# In numbers, over all 60 collages: the similarity of LRP's maps of different digits (1 means that the digit makes no
# difference), and the share of CLRP1's relevance that lies in the quarter of the digit (25 % is chance).


# %%
def similarity(maps: torch.Tensor) -> float:
    off_diagonal = ~torch.eye(4, dtype=torch.bool)
    return float(
        torch.stack(
            [class_similarity(m, "cosine")[off_diagonal].mean() for m in maps]
        ).mean()
    )


def in_the_quarter(maps: torch.Tensor) -> float:
    quarters = (
        maps[:, :, 0]
        .clamp(min=0)
        .unflatten(3, (2, 8))
        .unflatten(2, (2, 8))
        .sum((3, 5))
        .flatten(2)
    )
    inside = quarters.diagonal(dim1=1, dim2=2)  # digit k lies in quarter k
    return float((inside / quarters.sum(2).clamp(min=1e-12)).mean())


results = {}
print("                     similarity of LRP    CLRP1 in the quarter")
for name in networks:
    for rules in ("paper", "gamma"):
        alike = similarity(of_each_digit(LRPZBeta, name, rules))
        inside = in_the_quarter(of_each_digit(ContrastiveLRP1, name, rules))
        results[name, rules] = alike, inside
        print(f"{name:9s} {rules:8s} {alike:16.2f} {inside:21.0%}")
assert results["ReLU", "paper"][1] > 0.9
for name in ("ConvNeXt", "ViT"):
    assert results[name, "paper"][0] > 0.95
    assert results[name, "paper"][1] < 0.4
    assert results[name, "gamma"][0] < 0.8
    assert results[name, "gamma"][1] > 0.8

# %% [markdown]
# The paper's rules are right for the network with ReLU. In the other two, LRP's maps do not depend on the digit, and
# CLRP1 is near chance. No relevance is lost by this: the paper's rules keep most of it, but they bring it to places
# that do not depend on the class.

# %%
one = images[:1]
account = check_conservation(
    networks["ViT"],
    one,
    int(labels[0, 0]),
    method=LRPZBeta(networks["ViT"], -1.0, 1.0, rules="paper"),
)
print(
    f"score {account.score:.2f}, at the input "
    f"{account.at_input:.2f}, absorbed {account.absorbed:.2f}"
)
assert account.at_input > 0.9 * account.score

# %% [markdown]
# ## What gamma does
#
# An output $z_j = \sum_i c_{ij}$ is a sum of contributions. The gamma rule counts those that have *the sign of the
# output* $1 + \gamma$ times, and shares relevance by the result:
#
# $$R_i = \sum_j \frac{c_{ij} + \gamma c_{ij}^{\pm}}{\sum_{i'} (c_{i'j} + \gamma c_{i'j}^{\pm})} R_j$$
#
# A small $\gamma$ keeps the signs, but relevance may grow: by up to $1 + 2/\gamma$ in each operation. A large
# $\gamma$ counts little else than contributions with the sign of the output. What does that do to the maps of the
# ViT?

# %%
# alt: Three curves over gamma from 0.01 to 100. The share of CLRP1's relevance in the quarter of the digit is lowest
# for the smallest gamma, highest at 0.1 to 0.3 and hardly falls after it; the similarity of LRP's maps rises; the
# size of the map falls to the size of the score.
gammas = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100]
scores = networks["ViT"](images).gather(1, labels).detach()  # (60, 4)
inside, alike, size = [], [], []
for gamma in gammas:
    rules = Composite.gamma(gamma, convolution=gamma)
    inside.append(in_the_quarter(of_each_digit(ContrastiveLRP1, "ViT", rules)))
    lrp = of_each_digit(LRPZBeta, "ViT", rules)
    alike.append(similarity(lrp))
    size.append(float((lrp.abs().sum((2, 3, 4)) / scores.abs()).mean()))
figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6))
curves = (
    (inside, "CLRP1 in the quarter"),
    (alike, "similarity of LRP's maps"),
    (size, "size of LRP's map / score"),
)
for axis, (curve, title), colour in zip(
    axes, curves, ("#a3202f", "#4393c3", "#333333"), strict=True
):
    axis.plot(gammas, curve, "o-", color=colour)
    axis.set_title(title, fontsize=9)
    axis.set_ylim(0, max(1.05, 1.05 * max(curve)))
    axis.set_xscale("log")
    axis.set_xlabel("gamma")
figure.tight_layout()
for gamma, share, cosine, times in zip(gammas, inside, alike, size, strict=True):
    print(
        f"gamma {gamma:6g}: {share:.0%} in the quarter, "
        f"similarity {cosine:.2f}, size {times:.2f} times the score"
    )
assert inside[0] < inside[2] - 0.1  # the default is 0.1
assert inside[2] > inside[-1]
assert alike[0] < alike[2] < alike[-1]
assert size[0] > 1.5 > 1.2 > size[2]

# %% [markdown]
# Below the default of 0.1, maps grow beyond the score and CLRP1 gets worse. Above it, LRP's maps of different digits
# become more alike, while CLRP1 loses little: a contrast needs only the part in which they differ. You need not
# choose gamma: `rules="auto"`, the default of every class, takes gamma where it finds attention, a normalisation
# over channels or a mean of features that no activation rectified, and the plan says why.

# %%
for name, network in networks.items():
    first_line = str(explain_plan(network, images)).splitlines()[0]
    print(f"{name:9s} {first_line}")
    assert ("gamma" in first_line) == (name != "ReLU")

# %% [markdown]
# ## Attention is a gate
#
# Attention computes weights, a softmax of queries times keys, and then a mean of the *values* with these weights. The
# weights decide *where* to look; what is passed on are the values. Here relevance goes to the values alone, with the
# weights held constant.
#
# A small example makes this visible. Each of two tokens has two features. The first feature makes the key, the second
# the value. The query looks for a large key.


# %%
class Attend(nn.Module):
    """One query over tokens, with the key in feature 0 and the value in feature 1."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.value = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        self.score = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.key.weight.copy_(torch.tensor([[1.0, 0.0]]))
            self.value.weight.copy_(torch.tensor([[0.0, 1.0]]))
            self.score.weight.fill_(1.0)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        return self.key(x).softmax(1)  # (N, tokens, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended = self.weights(x).transpose(1, 2) @ self.value(x)  # (N, 1, 1)
        return self.score(attended[:, 0])


attend = Attend().eval()
two = torch.tensor([[[2.0, 1.0], [0.0, 1.0]]])  # the same value, another key
relevance = LRPZBeta(attend, 0.0, 2.0).attribute(two)[0]
print("attention weights", [round(w, 3) for w in attend.weights(two)[0, :, 0].tolist()])
print("relevance of keys  ", [round(r, 3) for r in relevance[:, 0].tolist()])
print("relevance of values", [round(r, 3) for r in relevance[:, 1].tolist()])
assert not relevance[:, 0].any()
assert torch.allclose(relevance[:, 1], attend.weights(two)[0, :, 0], atol=1e-5)

# %% [markdown]
# The values share the score in proportion to their attention weights, and the keys get nothing, although the first
# token's key is the reason why it got most. So a map answers *what was mixed into the result*, not *why the network
# looked there*. Change a key, and the score does not change here, because both values are equal; with other values it
# would:

# %%
unequal = torch.tensor([[[2.0, 1.0], [0.0, 0.2]]])
swapped = unequal.clone()
swapped[0, :, 0] = torch.tensor([0.0, 2.0])
before, after = attend(unequal).item(), attend(swapped).item()
keys = LRPZBeta(attend, 0.0, 2.0).attribute(unequal)[0, :, 0]
print(
    f"score {before:.2f}, with the keys swapped {after:.2f}; "
    f"relevance of the keys {keys.abs().sum():.2f}"
)
assert before - after > 0.5
assert not keys.any()

# %% [markdown]
# The keys matter, and the map does not say so. This is the price of the gate. Rules that send relevance through the
# softmax exist (`rules="attnlrp"`), but in them much of the score is absorbed and relevance can grow without limit.
#
# ## To take away
#
# 1. Look at `explain_plan(model, inputs)`: its first line names the composite, and why it was taken.
# 2. Conservation is necessary, not sufficient: the paper's rules conserve on a ViT and say nothing about the class.
# 3. These are small networks on digits. With ImageNet weights, ConvNeXt, ViT and Swin were not measured.
#
# The page *Features of both signs* of the documentation has the rules operation by operation.
