# %% [markdown]
# # 3. The contrast
#
# LRP answers "where does the score come from?". Contrastive LRP (section 4 of [the
# paper](https://arxiv.org/abs/1812.02100)) asks where *more* of it comes from than for an opposite, the **dual
# concept**, that gets the same score to distribute:
#
# $$R_{CLRP} = \max(0,\; R - R_{dual})$$
#
# This tutorial shows the two dual concepts of the paper, what they are made of, and a third one that you choose.

# %%
import matplotlib.pyplot as plt
import torch
from PIL import Image
from skimage import data

from captum_clrp import (
    ContrastiveLRP,
    ContrastiveLRP1,
    ContrastiveLRP2,
    LRPZBeta,
    TheseClasses,
)
from captum_clrp.classifiers import load_classifier

network = load_classifier("tf_efficientnet_lite0")
model, low, high = network.model, network.low, network.high


def number(name: str) -> int:
    return network.class_names.index(name)


# %% [markdown]
# ## Four things in one picture
#
# Four photographs in a grid make a picture of four classes; and it is known where each of them is.

# %%
# alt: A grid of four photographs: a cat, a cup of coffee, a rocket, and a man behind a camera on a tripod.
photographs = [data.chelsea(), data.coffee(), data.rocket(), data.camera()]
classes = ["tiger cat", "espresso", "missile", "tripod"]
cells = [network.prepare(Image.fromarray(p).convert("RGB")) for p in photographs]
scene = torch.cat(
    [torch.cat(cells[:2], 2), torch.cat(cells[2:], 2)], 1
)  # (3, 448, 448)
inputs = network.normalize(scene)[None]
targets = [number(name) for name in classes]


def show(rows: dict[str, torch.Tensor], titles: list[str]) -> None:
    """A row of maps for each method, all of a row on one colour scale: red is
    evidence for the class, blue against it.
    """
    columns = len(titles)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(1.6 * columns, 1.9 * len(rows)), squeeze=False
    )
    for line, (method, relevance) in zip(axes, rows.items(), strict=True):
        heat = relevance.sum(1)
        limit = heat.abs().flatten()[::7].quantile(0.995)
        for axis, one, title in zip(line, heat, titles, strict=True):
            axis.imshow(one, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_title(f"{method}\n{title}", fontsize=7)
            axis.set_axis_off()
    figure.tight_layout()


plt.figure(figsize=(3, 3))
plt.imshow(scene.permute(1, 2, 0))
_ = plt.axis("off")

# %% [markdown]
# ## CLRP1 and CLRP2
#
# - **CLRP1** (`ContrastiveLRP1`): the dual concept is *all other classes*, which share the score of the target
# evenly.
# - **CLRP2** (`ContrastiveLRP2`): the dual concept is the same class with *negated weights* in the output layer.

# %%
# alt: Three rows of four maps, for LRP, CLRP1 and CLRP2. LRP marks all four photographs for each class; CLRP1
#   and CLRP2 mark only the photograph of the class.
methods = {
    "LRP": LRPZBeta(model, low, high),
    "CLRP1": ContrastiveLRP1(model, low, high),
    "CLRP2": ContrastiveLRP2(model, low, high),
}
maps = {
    name: method.attribute_classes(inputs, targets)[0]
    for name, method in methods.items()
}
show(maps, classes)

# %% [markdown]
# In numbers: the share of the positive relevance that lies in the right photograph. A map that knows nothing of the
# class would have 25 %.


# %%
def share_in_cell(relevance: torch.Tensor, cell: int) -> float:
    positive = relevance.sum(0).clamp(min=0)
    row, column = 224 * (cell // 2), 224 * (cell % 2)
    return float(
        positive[row : row + 224, column : column + 224].sum() / positive.sum()
    )


shares = {
    name: [share_in_cell(r, k) for k, r in enumerate(rows)]
    for name, rows in maps.items()
}
print("       " + "".join(f"{name:>12s}" for name in classes))
for name, row in shares.items():
    print(f"{name:7s}" + "".join(f"{share:12.0%}" for share in row))
assert max(shares["LRP"]) < 0.6
assert min(shares["CLRP1"] + shares["CLRP2"]) > 0.9

# %% [markdown]
# ## What happens inside
#
# With the activations fixed, every rule of LRP is *linear* in relevance. So target and dual need no two passes: their
# difference is formed once, at the output, and sent down. For CLRP1 it is the score $S$ at the target and $-S/(m-1)$
# at each of the other $m-1$ classes. Here is the long way round, for comparison.

# %%
target = number("tiger cat")
lrp = methods["LRP"]


def others_share(logits: torch.Tensor) -> torch.Tensor:
    """The dual concept of CLRP1: the target's score, spread evenly over all other
    classes.
    """
    dual = (
        (logits[:, target] / (logits.shape[1] - 1))[:, None].expand_as(logits).clone()
    )
    dual[:, target] = 0
    return dual


of_class = lrp.attribute(inputs, target=target)
of_dual = lrp.attribute(inputs, initial_relevance=others_share)
two_passes = (of_class - of_dual).clamp(min=0)
one_pass = methods["CLRP1"].attribute(inputs, target=target)
difference = float((two_passes - one_pass).norm() / one_pass.norm())
print(
    f"two passes and one pass differ by {difference:.1e} (relative), which is rounding"
)
assert difference < 1e-3

# %% [markdown]
# The signed difference is there as well, with `relu_attributions=False`: blue is where the dual concept gets more.

# %%
# alt: Four signed CLRP1 maps. For each class its own photograph is red and the other three are blue.
signed = methods["CLRP1"].attribute_classes(inputs, targets, relu_attributions=False)[0]
show({"signed CLRP1": signed}, classes)
assert torch.allclose(signed.clamp(min=0), maps["CLRP1"])
assert (signed.flatten(1).min(1).values < 0).all()

# %% [markdown]
# ## Against a class that you choose
#
# "Why this?" is often "why this *rather than that*?". `TheseClasses` names the opposite. For the cat and the coffee
# alone:

# %%
# alt: The cat beside the coffee, and two maps: tiger cat rather than espresso marks the cat, espresso rather
#   than tiger cat marks the cup.
two = inputs[:, :, :224]  # the upper half: cat and coffee, (1, 3, 224, 448)
cat, espresso = number("tiger cat"), number("espresso")
cat_rather = ContrastiveLRP(model, low, high, dual=TheseClasses([espresso])).attribute(
    two, target=cat
)
espresso_rather = ContrastiveLRP(model, low, high, dual=TheseClasses([cat])).attribute(
    two, target=espresso
)
show(
    {"CLRP": torch.cat([cat_rather, espresso_rather])},
    ["cat rather than espresso", "espresso rather than cat"],
)


def share_on_the_left(relevance: torch.Tensor) -> float:
    return float(relevance[..., :224].sum() / relevance.sum())


print(
    f"on the cat: {share_on_the_left(cat_rather):.0%} "
    f"and {share_on_the_left(espresso_rather):.0%}"
)
assert share_on_the_left(cat_rather) > 0.9
assert share_on_the_left(espresso_rather) < 0.1

# %% [markdown]
# The answer depends on the question. With the whole grid as input, *cat rather than espresso* also marks parts of the
# rocket and of the tripod, since they, too, are stronger evidence for a cat than for an espresso. Against all other
# classes, as in CLRP1, they hardly do.

# %%
in_grid = ContrastiveLRP(model, low, high, dual=TheseClasses([espresso])).attribute(
    inputs, target=cat
)
elsewhere = {
    "rather than espresso": share_in_cell(in_grid[0], 2) + share_in_cell(in_grid[0], 3),
    "rather than all others": share_in_cell(maps["CLRP1"][0], 2)
    + share_in_cell(maps["CLRP1"][0], 3),
}
print(
    {
        question: f"{share:.1%} on rocket and tripod"
        for question, share in elsewhere.items()
    }
)
assert elsewhere["rather than espresso"] > 0.1
assert elsewhere["rather than all others"] < 0.05

# %% [markdown]
# This helps most where classes are close to each other. For the photograph of the coffee, *cup* is the second choice
# of the network. CLRP1 compares each with all other classes; only a contrast of the two says what makes the
# difference between them.

# %%
# alt: Four maps of the photograph of the coffee. CLRP1 for espresso marks the coffee and the rim, CLRP1 for cup
#   only parts of the saucer; espresso rather than cup marks the coffee, cup rather than espresso marks the spoon.
coffee = cells[1][None]
cup = number("cup")
maps_coffee = torch.cat(
    [
        methods["CLRP1"].attribute_classes(coffee, [espresso, cup])[0],
        ContrastiveLRP(model, low, high, dual=TheseClasses([cup])).attribute(
            coffee, target=espresso
        ),
        ContrastiveLRP(model, low, high, dual=TheseClasses([espresso])).attribute(
            coffee, target=cup
        ),
    ]
)
show(
    {"CLRP": maps_coffee},
    ["espresso", "cup", "espresso rather than cup", "cup rather than espresso"],
)
overlap = torch.minimum(*(m.sum(0) / m.sum() for m in maps_coffee[2:])).sum()
print(f"the two last maps share {overlap:.1%} of their relevance")
assert overlap < 0.05
with torch.no_grad():
    assert model(coffee)[0].topk(2).indices.tolist() == [espresso, cup]

# %% [markdown]
# In the picture, *espresso rather than cup* lies on the coffee, and *cup rather than espresso* not on the rim of the
# cup, as one might think, but on the spoon. A map shows what this network goes by, not what a cup is.
#
# ## When not to trust a contrast
#
# - **Zero does not mean unimportant.** A pixel that is evidence for the class and for its opposite alike is zero.
# - **It compares, it does not judge.** A network that recognises a ship by the water gets a map of the water.
# - **Both sides must arrive.** The contrast compares amounts. Where a network absorbs much relevance on the way, the
#   class and its opposite may lose different shares of it. With `conserve=True` nothing is lost on either side
#   ([tutorial 4](4_your_own_network.ipynb)), and the signed contrast sums to zero:

# %%
conserving = ContrastiveLRP1(model, low, high, conserve=True)
contrast = conserving.attribute(coffee, target=espresso, relu_attributions=False)
print(
    f"sum of the signed contrast {contrast.sum():+.4f}, of "
    f"its positive part {contrast.clamp(min=0).sum():.2f}"
)
assert abs(contrast.sum()) < 0.01 * contrast.clamp(min=0).sum()
