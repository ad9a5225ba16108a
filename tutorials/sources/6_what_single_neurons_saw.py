# %% [markdown]
# # 6. What single neurons saw
#
# Outputs are not all that can be explained. Section 5.3 of [the paper](https://arxiv.org/abs/1812.02100) takes
# neurons of a hidden layer that see the same part of the image and asks what each of them responded to, in this one
# image. LRP gives them all the same map; the maps of CLRP2 differ. Whether they are also *right* is tested at the
# end. (CLRP1 is not defined here: the other neurons of a layer are not the opposite of one of them.)

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data

from captum_clrp import NeuronContrastiveLRP2, NeuronLRPZBeta
from captum_clrp.classifiers import load_classifier
from captum_clrp.evaluation import (
    activations_at,
    compose_grid,
    mean_similarity,
    neuron_drops,
    strongest_neurons,
)

network = load_classifier("tf_efficientnet_lite0")
model, low, high = network.model, network.low, network.high

# %% [markdown]
# ## An image with several things
#
# Four photographs in one picture of 224 x 224 pixels. The paper takes a toy shop with many animals, and the first
# fully connected layer of VGG16, whose neurons all see the whole image. In a convolutional layer, the neurons at *one
# position* see the same part. In the last convolution of EfficientNet-Lite0 that is the whole image, too, as the maps
# below show.

# %%
# alt: A grid of four photographs: a cat, a cup of coffee, a rocket, and a man behind a camera on a tripod.
photographs = [data.chelsea(), data.coffee(), data.rocket(), data.camera()]
cells = [network.prepare(Image.fromarray(p).convert("RGB")) for p in photographs]
scene = compose_grid(torch.stack(cells), n=2)[None]  # (1, 3, 448, 448)
scene = F.interpolate(scene, size=(224, 224), mode="area")
inputs = network.normalize(scene)
plt.figure(figsize=(3, 3))
plt.imshow(scene[0].permute(1, 2, 0))
_ = plt.axis("off")

# %% [markdown]
# ## The eight most active neurons of one position
#
# A neuron is selected as in Captum: an int for a fully connected layer, a tuple `(channel, row, column)` for a
# convolution. All eight share one forward pass, which stops at the layer.

# %%
# alt: Two rows of eight maps. In the first row, LRP, all maps are the same. In the second row, CLRP2, they differ:
#   some show the cat's face, some the cup, some a spot on the border between photographs; one is empty.
layer = model.bn2  # the batch normalisation and rectifier behind the last convolution
activations = activations_at(model, layer, inputs)[0]  # (1280, 7, 7)
neurons = strongest_neurons(activations, 8)
print("(channel, row, column):", neurons)
assert len({(row, column) for _, row, column in neurons}) == 1

lrp = NeuronLRPZBeta(model, layer, low, high).attribute_neurons(inputs, neurons)[
    0
]  # (8, 3, 224, 224)
clrp = NeuronContrastiveLRP2(model, layer, low, high).attribute_neurons(
    inputs, neurons
)[0]

figure, axes = plt.subplots(2, 8, figsize=(10, 2.9))
for row, (method, maps) in zip(axes, {"LRP": lrp, "CLRP2": clrp}.items(), strict=True):
    for axis, heat, neuron in zip(row, maps.sum(1), neurons, strict=True):
        limit = max(
            heat.abs().flatten().quantile(0.995), torch.finfo(torch.float32).tiny
        )
        axis.imshow(heat, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{method}, {neuron[0]}", fontsize=7)
        axis.set_axis_off()
figure.tight_layout()

# %% [markdown]
# LRP gives the same map eight times. The mean correlation between the maps of two different neurons says so in
# numbers:

# %%
similarity = {
    name: mean_similarity(maps, "correlation")
    for name, maps in {"LRP": lrp, "CLRP2": clrp}.items()
}
print({name: round(value, 3) for name, value in similarity.items()})
assert similarity["LRP"] > 0.99
assert similarity["CLRP2"] < 0.7
reached = (lrp[0].abs().sum(0) > 0).float().mean()
print(f"relevance reaches {reached:.0%} of the pixels")
assert reached > 0.95

# %% [markdown]
# One map of CLRP2 is empty: nowhere does more relevance *arrive* for this neuron than for its opposite. Both start
# with the same amount, so more of the neuron's own relevance was absorbed on the way. With `conserve=True` nothing is
# absorbed, and no map is empty:

# %%
empty = [
    neuron[0] for neuron, heat in zip(neurons, clrp, strict=True) if not heat.any()
]
conserving = NeuronContrastiveLRP2(
    model, layer, low, high, conserve=True
).attribute_neurons(inputs, neurons)[0]
print(
    f"empty: channel {empty}; with conserve=True: "
    f"{sum(not heat.any() for heat in conserving)} empty maps"
)
assert len(empty) == 1
assert all(heat.any() for heat in conserving)

# %% [markdown]
# ## Is it true?
#
# A test from the paper (fig. 5c): cover the strongest place of neuron $i$'s map, and see how far every neuron $j$
# falls. If maps tell what single neurons responded to, the diagonal should be strong.

# %%
# alt: Two matrices of eight by eight coloured squares, for LRP and CLRP2; rows are patches that were covered, columns
#   the neurons that were watched. For LRP all rows are the same.
mean_image = inputs[0].mean((1, 2), keepdim=True)
before = torch.stack([activations[neuron] for neuron in neurons])
matrices = {
    name: neuron_drops(model, layer, inputs[0], neurons, maps, mean_image, size=25)
    / before
    for name, maps in {"LRP": lrp, "CLRP2": clrp}.items()
}

figure, axes = plt.subplots(1, 2, figsize=(6, 2.8))
for axis, (name, fall) in zip(axes, matrices.items(), strict=True):
    drawn = axis.imshow(fall, cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    axis.set_title(name, fontsize=8)
    axis.set_xlabel("neuron that is watched", fontsize=8)
axes[0].set_ylabel("neuron whose patch is covered", fontsize=8)
figure.colorbar(drawn, ax=axes, label="fall, share of activation")

for name, fall in matrices.items():
    own = float(fall.diagonal().mean())
    others = float((fall.sum() - fall.diagonal().sum()) / 56)
    if name == "CLRP2":
        assert own < others + 0.02  # the diagonal is not stronger
    print(
        f"{name:6s} own patch lowers a neuron by {own:.1%}, "
        f"another's patch by {others:.1%} on average"
    )
assert torch.allclose(matrices["LRP"], matrices["LRP"][:1].expand(8, 8), atol=1e-5)
assert not torch.allclose(
    matrices["CLRP2"], matrices["CLRP2"][:1].expand(8, 8), atol=1e-2
)

# %% [markdown]
# For LRP all rows are the same: one map, one patch, one effect. CLRP2 names different patches for different neurons.
# But on this image and network its diagonal is *not* stronger than the rest: covering the place that a map singles out
# does not lower its own neuron most. So the maps differ from neuron to neuron; that they show what drives each of them
# is not confirmed here. (The paper shows it for eight neurons of VGG16, on one image, with patches of 9 x 9.)
#
# Eight neurons of one image are only a first look. `captum-clrp evaluate neurons` repeats this on many images, with
# intervals. The project did so on 200 photographs, with the same outcome: the patch of CLRP2 is the one that hurts its
# own neuron most less often than that of LRP (see *Do the maps find what matters?* in the documentation).
