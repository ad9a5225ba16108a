# %% [markdown]
# # 2. LRP looks the same for every class
#
# Section 3.1 of [the paper](https://arxiv.org/abs/1812.02100) describes an experiment: explain the three classes that
# a network finds most likely, and ten classes drawn at random, all with LRP. If the maps say something about the
# class, they should differ. Figure 1 of the paper shows that they do not. Here is the same experiment in pictures and
# numbers.

# %%
import matplotlib.pyplot as plt
import torch
from PIL import Image
from skimage import data

from captum_clrp import ContrastiveLRP1, LayerLRPZBeta, LRPZBeta, class_scores
from captum_clrp.classifiers import load_classifier
from captum_clrp.evaluation import class_similarity

network = load_classifier(
    "tf_efficientnet_lite0"
)  # with its preprocessing, bounds and class names
model, low, high = network.model, network.low, network.high

cat = Image.fromarray(data.chelsea()).crop((115, 0, 265, 300)).resize((112, 224))
cup = Image.fromarray(data.coffee()).crop((200, 0, 400, 400)).resize((112, 224))
both = Image.new("RGB", (256, 256))  # of which the network sees the middle 224 x 224
both.paste(cat, (16, 16))
both.paste(cup, (128, 16))
photographs = {
    "coffee": Image.fromarray(data.coffee()),
    "rocket": Image.fromarray(data.rocket()),
    "cat and coffee": both,
}
inputs = {name: network.inputs(photograph) for name, photograph in photographs.items()}

# %% [markdown]
# For each photograph: the three likeliest classes, and ten of the hundred likeliest drawn at random, whose scores are
# propagated *together*. Any initial relevance can be given for that; `class_scores` makes it.
#
# `avg_pool="even"` is the paper's rule for average pooling: relevance is spread evenly over the pooled region.

# %%
maps, names = {}, {}
lrp = LRPZBeta(model, low, high, avg_pool="even")
for photograph, x in inputs.items():
    with torch.no_grad():
        likely = model(x)[0].topk(100).indices
    top3 = likely[:3].tolist()
    drawn = likely[
        torch.randperm(100, generator=torch.Generator().manual_seed(0))[:10]
    ].tolist()
    of_top3 = lrp.attribute_classes(x, top3)[0]
    of_ten = lrp.attribute(x, initial_relevance=class_scores(drawn))
    maps[photograph] = torch.cat([of_top3, of_ten])  # (4, 3, 224, 224)
    names[photograph] = [network.class_names[c] for c in top3] + ["ten random classes"]


# %%
# alt: Three rows of five pictures: a photograph and four LRP maps. In each row the four maps cannot be told
#   apart.
def show(maps_of: dict[str, torch.Tensor]) -> None:
    """A row for each photograph, its maps on one colour scale: red is evidence
    for the class, blue against it.
    """
    columns = 1 + max(len(m) for m in maps_of.values())
    figure, axes = plt.subplots(
        len(maps_of), columns, figsize=(1.5 * columns, 1.7 * len(maps_of))
    )
    for row, (photograph, relevance) in zip(
        axes.reshape(-1, columns), maps_of.items(), strict=True
    ):
        heat = relevance.sum(1)  # over the colour channels
        limit = heat.abs().flatten().quantile(0.995)
        seen = network.prepare(photographs[photograph]).permute(1, 2, 0)
        row[0].imshow(seen)
        for axis, one, title in zip(row[1:], heat, names[photograph], strict=False):
            axis.imshow(one, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_title(title, fontsize=7)
        for axis in row:
            axis.set_axis_off()
    figure.tight_layout()


show(maps)

# %% [markdown]
# To the eye, all maps of a row are the same (the last is only stronger: it distributes ten scores). The correlation
# of each pair confirms it; 1 means the same map up to a factor.


# %%
def mean_correlation(relevance: torch.Tensor) -> float:
    pairs = class_similarity(relevance, "correlation")
    return float(pairs[~torch.eye(len(pairs), dtype=torch.bool)].mean())


for photograph, relevance in maps.items():
    print(
        f"{photograph:15s} mean correlation between "
        f"classes {mean_correlation(relevance):.4f}"
    )
    assert mean_correlation(relevance) > 0.999

# %% [markdown]
# ## Why?
#
# Relevance can only go where the network was active. ReLU masks and pooling switches decide that, and they are the
# same whichever class one asks about. Look at the neurons behind a rectifier in the fifth block: about half of them
# receive relevance, and they are the same ones for every class.

# %%
x = inputs["cat and coffee"]
layer = LayerLRPZBeta(model, model.blocks[4][0].bn1, low, high)
top3 = [network.class_names.index(name) for name in names["cat and coffee"][:3]]
receives = layer.attribute_classes(x, top3)[0] != 0  # (3, C, H, W)
assert receives.shape[1:] == (480, 14, 14)  # neurons of the layer, not pixels
agreement = (receives[0] == receives[1:]).float().mean()
print(
    f"{receives[0].float().mean():.0%} of the neurons receive "
    f"relevance; {agreement:.1%} of them agree between classes"
)
assert 0.3 < receives[0].float().mean() < 0.7
assert agreement > 0.99

# %% [markdown]
# The *amounts* could still differ. But with the paper's rule for average pooling, the relevance of a channel is
# spread evenly over all positions before it goes further down: where the evidence for a class was is forgotten at the
# very first step. Almost every modern network ends in an average pooling. (AlexNet and VGG16 do not, and the paper
# reports the same result for them; that is not reproduced here.)
#
# ## Does the other rule for pooling help?
#
# By default this package shares relevance under average pooling *in proportion to the activations*, which is the z+
# rule for a mean. Then the position of the evidence survives:

# %%
# alt: Three rows of five pictures. For coffee and rocket the LRP maps still look alike; for cat and coffee,
#   cat classes mark the cat more and espresso the cup more.
proportional = LRPZBeta(model, low, high)
maps_proportional = {
    photograph: proportional.attribute_classes(
        x, [network.class_names.index(name) for name in names[photograph][:3]]
    )[0]
    for photograph, x in inputs.items()
}
show(maps_proportional)
for photograph, relevance in maps_proportional.items():
    print(
        f"{photograph:15s} mean correlation between "
        f"classes {mean_correlation(relevance):.4f}"
    )
assert mean_correlation(maps_proportional["coffee"]) > 0.95
assert mean_correlation(maps_proportional["rocket"]) > 0.95
assert 0.6 < mean_correlation(maps_proportional["cat and coffee"]) < 0.95

# %% [markdown]
# This is better where two objects are in the picture: the maps of the cat classes lean towards the cat, that of the
# coffee towards the cup. But each map still shows both, and on pictures of one object little changes: *missile* and
# *drilling platform* have nearly the same map.

# %%
rocket = class_similarity(maps_proportional["rocket"], "correlation")
missile, platform = (
    names["rocket"].index(name) for name in ("missile", "drilling platform")
)
print(f"missile and drilling platform: {rocket[missile, platform]:.3f}")
assert rocket[missile, platform] > 0.95


def share_on_the_left(relevance: torch.Tensor) -> float:
    return float(relevance[..., :112].sum() / relevance.sum())


left = [share_on_the_left(one) for one in maps_proportional["cat and coffee"]]
print(
    "on the cat's half:",
    ", ".join(
        f"{n} {s:.0%}" for n, s in zip(names["cat and coffee"], left, strict=False)
    ),
)
assert (
    min(s for n, s in zip(names["cat and coffee"], left, strict=False) if "cat" in n)
    > 0.5
)
assert 0.2 < left[names["cat and coffee"].index("espresso")] < 0.5

# %% [markdown]
# ## And the contrast?

# %%
# alt: Three rows of five pictures. The CLRP1 maps of a row differ: cat classes mark the cat only, espresso
#   the cup only; missile and drilling platform mark different parts of the picture.
clrp = ContrastiveLRP1(model, low, high)
maps_contrast = {
    photograph: clrp.attribute_classes(
        x, [network.class_names.index(name) for name in names[photograph][:3]]
    )[0]
    for photograph, x in inputs.items()
}
show(maps_contrast)
for photograph, relevance in maps_contrast.items():
    print(
        f"{photograph:15s} mean correlation between "
        f"classes {mean_correlation(relevance):.4f}"
    )
    assert mean_correlation(relevance) < 0.6
egyptian_and_tiger = class_similarity(maps_contrast["cat and coffee"], "correlation")[
    0, 1
]
print(f"Egyptian cat and tiger cat: {egyptian_and_tiger:.3f}")
assert egyptian_and_tiger > 0.9

# %% [markdown]
# The same network, the same rules, one subtraction at the output: now different classes have different maps, and the
# two cats, which *are* alike, still have similar maps. What is subtracted is the subject of [tutorial
# 3](3_contrast.ipynb).
#
# One caution: maps that differ are not yet maps that are right. [Tutorial 5](5_measuring.ipynb) measures that.
