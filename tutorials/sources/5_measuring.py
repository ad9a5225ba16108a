# %% [markdown]
# # 5. Measuring
#
# A map that looks right can be wrong. Section 5.2 of [the paper](https://arxiv.org/abs/1812.02100) measures maps in
# two ways: does the relevance lie *in the box* of the object (the pointing game), and does the score *fall* when the
# strongest place is covered (the ablation)? Here are both on a small scale, and a third: does the map find the right
# photograph in a *grid*?
#
# With five photographs the numbers say little about the methods in general. They show how measuring works; the command
# `captum-clrp evaluate` does the same on whole datasets, with intervals.

# %%
import matplotlib.pyplot as plt
import torch
from captum.attr import Saliency
from matplotlib.patches import Rectangle

from captum_clrp import ContrastiveLRP1, ContrastiveLRP2, LRPZBeta
from captum_clrp.classifiers import load_classifier
from captum_clrp.evaluation import (
    EnergyPointingGame,
    GridPointingGame,
    PatchAblation,
    PointingGame,
    compose_grid,
    critical_share,
)
from captum_clrp.evaluation.datasets import Embedded
from captum_clrp.geometry import Geometry, box_mask

network = load_classifier("tf_efficientnet_lite0")
model, low, high = network.model, network.low, network.high

# %% [markdown]
# ## Photographs with boxes
#
# Five photographs come with the package, with the class and the box of the object. Boxes follow the photograph
# through the network's resizing and cropping.

# %%
# alt: Five photographs with red boxes around a cat, a cup, a rocket, a man with a camera on a tripod, and a woman in
# uniform.
photographs = [Embedded(collages=False).photograph(i) for i in range(5)]
geometry = Geometry(
    256, (224, 224)
)  # the shorter side to 256 pixels, then the middle 224 x 224

images, labels, masks = [], [], []
figure, axes = plt.subplots(1, 5, figsize=(8, 1.9))
for photograph, axis in zip(photographs, axes, strict=True):
    picture = photograph.read()
    target = photograph.targets[0]
    boxes = [geometry.box(box, *picture.size) for box in target.boxes]
    images.append(network.prepare(picture))
    labels.append(target.label)
    masks.append(box_mask(boxes, 224, 224))
    axis.imshow(images[-1].permute(1, 2, 0))
    for box in boxes:
        axis.add_patch(
            Rectangle(box[:2], box[2] - box[0], box[3] - box[1], fill=False, ec="red")
        )
    axis.set_title(target.name, fontsize=8)
    axis.set_axis_off()
figure.tight_layout()

images, masks = network.normalize(torch.stack(images)), torch.stack(masks)
labels = torch.tensor(labels)
likeliest = model(images).detach().topk(5).indices
assert (likeliest == labels[:, None]).any(1).all()  # the network sees what is explained

# %% [markdown]
# ## Maps

# %%
methods = {
    "gradient": Saliency(model),
    "LRP": LRPZBeta(model, low, high),
    "CLRP1": ContrastiveLRP1(model, low, high),
    "CLRP2": ContrastiveLRP2(model, low, high),
}
maps = {
    name: method.attribute(images, target=labels).detach()
    for name, method in methods.items()
}

# %% [markdown]
# ## The pointing game
#
# A hit is a map whose strongest pixel lies in the box. This is easy: the middle of a photograph is often in the box.
# So the paper makes it harder. A threshold leaves a *foreground* that holds a share $p$ of the energy (the sum of the
# positive relevance), and **all** of it must lie in the box. `critical_share` is the largest $p$ for which that is
# true.

# %%
in_the_box = masks[:, 112, 112]
print(f"the middle lies in the box of {int(in_the_box.sum())} of 5 photographs")
print("the boxes cover", ", ".join(f"{mask.float().mean():.0%}" for mask in masks))
assert int(in_the_box.sum()) >= 3
assert masks[0].all()  # the cat's box covers the whole crop: every map is a hit there

# %% [markdown]
# The first photograph says nothing: the box of the cat covers all that the network sees, so every map scores 1 there.
# In the curves below an accuracy of 0.2 is this trivial photograph alone.

# %%
# alt: Curves of accuracy over the share of energy kept, for gradient, LRP, CLRP1 and CLRP2, all falling from left to
# right to 0.2, which is the one photograph whose box covers everything.
shares = tuple(i / 20 for i in range(1, 21))
curves = {}
plt.figure(figsize=(4.8, 3.2))
for (name, heat), marker in zip(maps.items(), "svo^", strict=True):
    pointing, energy = PointingGame(), EnergyPointingGame(shares)
    pointing.update(heat, masks)
    energy.update(heat, masks)
    curves[name] = energy.compute()
    plt.plot(
        shares,
        curves[name],
        marker=marker,
        fillstyle="none",
        label=f"{name} (maximum: {pointing.compute():.0%})",
    )
    critical = [critical_share(h, m) for h, m in zip(heat, masks, strict=True)]
    print(f"{name:9s} critical shares " + " ".join(f"{c:5.2f}" for c in critical))
    assert (curves[name].diff() <= 0).all()  # the more energy is kept, the fewer hits
    assert critical[0] == 1  # the trivial photograph
assert (curves["CLRP1"] >= curves["LRP"]).all()
plt.ylim(0, 1)
plt.xlabel("share of the energy that is kept")
plt.ylabel("accuracy")
plt.legend(fontsize=8)
plt.tight_layout()

# %% [markdown]
# By its maximum alone, LRP points as well as the contrasts do. Only the stricter question tells them apart, and on
# four photographs that is no result yet.
#
# A map that is the same everywhere points nowhere. It must be a miss, not a hit by luck:

# %%
game = PointingGame()
game.update(torch.ones(5, 3, 224, 224), masks)
assert game.compute() == 0

# %% [markdown]
# ## The grid game
#
# Boxes cannot tell whether a map is about the *class*: on a photograph of one thing, any map of edges does well. A
# grid of photographs of different classes can. Each of four cells is explained with its own class; the score is the
# share of the positive relevance in the right cell. A map that knows nothing of the class gets 25 %.

# %%
chosen = [0, 1, 2, 3]
scene = compose_grid(images[chosen], n=2)[None]  # (1, 3, 448, 448)
scores = {}
for name, method in methods.items():
    if name == "gradient":
        heat = torch.cat(
            [method.attribute(scene.clone(), target=int(labels[c])) for c in chosen]
        ).detach()
    else:
        heat = method.attribute_classes(scene, labels[chosen].tolist())[0]
    grid = GridPointingGame(n=2)
    grid.update(heat, torch.arange(4))
    scores[name] = grid.compute()
    print(
        f"{name:9s} share in the right cell {scores[name]['share']:.0%}, "
        f"maximum there {scores[name]['hit']:.0%}"
    )
assert scores["CLRP1"]["share"] > 0.9
assert scores["CLRP2"]["share"] > 0.9
assert scores["LRP"]["share"] < 0.6
assert scores["gradient"]["share"] < 0.6

# %% [markdown]
# ## The ablation
#
# Replace the 9 x 9 pixels around the maximum of the map by the mean image, and see how far the score of the class
# falls. Here the mean of the five photographs stands in for the mean of a dataset. A random place serves as
# comparison.

# %%
mean_image = images.mean(0)
drops = {}
random_maps = torch.rand(5, 224, 224, generator=torch.Generator().manual_seed(0))
for name, heat in {"random": random_maps, **maps}.items():
    ablation = PatchAblation(mean_image)
    ablation.update(model, images, labels, heat)
    drops[name] = ablation.compute()
    print(
        f"{name:9s} logit falls by {drops[name]['logit']:+.3f}, "
        f"probability by {drops[name]['probability']:+.3f}"
    )
assert max(drops[name]["logit"] for name in maps) > drops["random"]["logit"]
assert abs(drops["random"]["logit"]) < 0.2

# %% [markdown]
# The ablation looks at one place only, so it says little about the rest of a map, and on five photographs the order
# of the methods is chance. For numbers with intervals on your own data:
#
# ```bash
# captum-clrp evaluate ablation --data folder/of/photographs
# captum-clrp evaluate grid
# ```
