# %% [markdown]
# # 7. Max pooling, padding and the border
#
# Supplement B of [the paper](https://arxiv.org/abs/1812.02100) reports a flaw that the maps brought to light: for
# torchvision's Inception v3 they light up along the *border of the image*. Relevance goes to the winner of each max
# pooling, and at the border the winners lie in the outermost line more often than they should. The authors suspect
# the zero padding of the convolutions in front.
#
# ImageNet weights of Inception v3 do not come as a package, so this tutorial builds the flaw from scratch, in a
# network small enough to try what causes it: the pooling, or the padding? The command for a real network stands at the
# end.

# %%
import matplotlib.pyplot as plt
import torch
from PIL import Image
from skimage import data
from torch import nn

from captum_clrp import LRPZBeta
from captum_clrp.evaluation import (
    border_winners,
    observe_pooling,
    replicated_borders,
    sign_flip_test,
    winner_map,
)

# %% [markdown]
# ## Zero padding is an edge
#
# A convolution with padding sees zeros beyond the border. Where the picture is bright, the step from zero to bright
# is a strong edge: an edge detector fires along the whole border, although there is nothing.

# %%
# alt: Three pictures: a grey square, the response of an edge detector with zero padding, bright along the whole
#   border, and the response with the border continued, which is zero.
flat = torch.full((1, 1, 16, 16), 0.7)
edges = nn.Conv2d(1, 1, 3, padding=1, bias=False)
with torch.no_grad():
    edges.weight.copy_(torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]]))
    zeros = edges(flat)
    with replicated_borders():  # continues the border instead of padding with zeros
        continued = edges(flat)

figure, axes = plt.subplots(1, 3, figsize=(6, 2.2))
for axis, values, title in zip(
    axes,
    (flat, zeros, continued),
    ("input", "zero padding", "border continued"),
    strict=True,
):
    axis.imshow(values[0, 0], cmap="gray", vmin=0, vmax=4)
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()

assert (zeros[0, 0, 0] > 1).all()
assert zeros[0, 0, 1:-1, 1:-1].abs().max() < 1e-5
assert continued.abs().max() < 1e-5

# %% [markdown]
# ## Who wins the pooling?
#
# A small network in the style of Inception's first layers: convolutions, a rectifier, then a max pooling of 3 x 3.
# Its filters are random edge detectors (they sum to zero), as they occur in trained networks.


# %%
def network(padding: int, pooling: nn.Module | None = None) -> nn.Sequential:
    generator = torch.Generator().manual_seed(
        0
    )  # the same weights whatever the padding and the pooling
    conv1 = nn.Conv2d(3, 16, 3, padding=padding, bias=False)
    conv2 = nn.Conv2d(16, 32, 3, padding=padding, bias=False)
    head = nn.Linear(32, 10)
    with torch.no_grad():
        for conv in (conv1, conv2):
            weight = torch.randn(conv.weight.shape, generator=generator)
            conv.weight.copy_(weight - weight.mean((2, 3), keepdim=True))
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
    pooling = pooling or nn.MaxPool2d(3, 3)
    return nn.Sequential(
        conv1,
        nn.ReLU(),
        conv2,
        nn.ReLU(),
        pooling,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        head,
    ).eval()


def crop(photograph: Image.Image, left: int, top: int) -> torch.Tensor:
    box = (
        photograph.convert("RGB")
        .crop((left, top, left + 192, top + 192))
        .resize((96, 96))
    )
    return (
        torch.tensor(list(box.getdata()), dtype=torch.float32)
        .reshape(96, 96, 3)
        .permute(2, 0, 1)
        / 255
    )


photographs = [
    Image.fromarray(p)
    for p in (data.chelsea(), data.coffee(), data.astronaut(), data.camera())
]
images = torch.stack(
    [crop(p, left, top) for p in photographs for left, top in ((20, 30), (200, 100))]
)
print(tuple(images.shape))
padded = network(padding=1)

# %% [markdown]
# `observe_pooling` runs a network and notes each max pooling; `border_winners` counts in the outermost regions. If
# each of the three lines of a region were equally likely, a third of the winners would lie in the outermost one.


# %%
def shares(model: nn.Module) -> list[dict[str, float]]:
    (pooling,) = observe_pooling(model, images)
    return [counts.shares() for counts in border_winners(pooling)]


def mean_share(rows: list[dict[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


with_zeros = shares(padded)
with replicated_borders():
    with_border_continued = shares(padded)
without = shares(network(padding=0))
for title, rows in {
    "zero padding": with_zeros,
    "border continued": with_border_continued,
    "no padding": without,
}.items():
    print(
        f"{title:17s} winners in the outermost line {mean_share(rows, 'outer'):.0%}, "
        f"expected {mean_share(rows, 'uniform'):.0%}, inside "
        f"the picture {mean_share(rows, 'interior'):.0%}"
    )
assert mean_share(with_zeros, "outer") > mean_share(with_zeros, "interior") + 0.04
assert abs(mean_share(with_border_continued, "outer") - 1 / 3) < 0.04
assert abs(mean_share(without, "outer") - 1 / 3) < 0.04

# %% [markdown]
# With zeros the outermost line wins too often, also compared with the regions inside the picture, which are the fair
# baseline; with the border continued, or without padding, it wins about as often as it should. Is it chance? Each
# image gives one difference to the uniform expectation. If there were no effect, its sign would be arbitrary.

# %%
p_value = sign_flip_test([row["outer"] - row["uniform"] for row in with_zeros])
print(f"p = {p_value:.4f} with {len(with_zeros)} images")
assert p_value < 0.01

# %% [markdown]
# `winner_map` shows where the winners of the outermost regions lie.

# %%
# alt: Two maps of the winners near a corner. With zero padding the outer two of three lines hold most winners and the
#   third few; with the border continued the winners spread over all three.
(pooling,) = observe_pooling(padded, images)
with replicated_borders():
    (pooling_continued,) = observe_pooling(padded, images)
figure, axes = plt.subplots(1, 2, figsize=(5, 2.6))
for axis, observed, title in zip(
    axes,
    (pooling, pooling_continued),
    ("zero padding", "border continued"),
    strict=True,
):
    axis.imshow(winner_map(observed)[:24, :24], cmap="Reds", vmin=0, vmax=90)
    axis.set_title(f"{title} (corner)", fontsize=8)
    axis.set_axis_off()

# %% [markdown]
# ## What it does to the map
#
# The map of the padded network has a bright frame. Is that the work of the winners, as the paper suspects? Or does the
# edge of the padding draw the relevance by itself? Two things can be changed independently: the pooling (maximum,
# average, none) and the border (zeros, continued, no padding). Here is the relevance per pixel in a frame of two
# pixels, compared with the mean over the picture, for all nine combinations. 1 would be no frame at all.

# %%
# alt: The crop of the cup of coffee and three LRP maps: with zero padding and maximum pooling the border is a bright
#   frame, with zero padding and average pooling it is one as well, with the border continued there is none.
frame = torch.ones(96, 96, dtype=torch.bool)
frame[2:-2, 2:-2] = False
poolings = {
    "maximum": nn.MaxPool2d(3, 3),
    "average": nn.AvgPool2d(3, 3),
    "none": nn.Identity(),
}


def amount(padding: int, pooling: nn.Module) -> torch.Tensor:
    """The relevance of each pixel, ``(N, 96, 96)``."""
    return (
        LRPZBeta(network(padding, pooling), 0.0, 1.0)
        .attribute(images, target=0)
        .abs()
        .sum(1)
    )


amounts = {}
for name, pooling in poolings.items():
    amounts[name, "zero padding"] = amount(1, pooling)
    with replicated_borders():
        amounts[name, "border continued"] = amount(1, pooling)
    amounts[name, "no padding"] = amount(0, pooling)
borders = ("zero padding", "border continued", "no padding")
density = {case: float(a[:, frame].mean() / a.mean()) for case, a in amounts.items()}
print(f"{'pooling':10s}" + "".join(f"{border:>18s}" for border in borders))
for name in poolings:
    print(
        f"{name:10s}" + "".join(f"{density[name, border]:18.2f}" for border in borders)
    )
for name in poolings:
    assert density[name, "zero padding"] > 2
    assert density[name, "border continued"] < 1
    assert density[name, "no padding"] < 1
assert (
    abs(density["average", "zero padding"] / density["maximum", "zero padding"] - 1)
    < 0.1
)

cases = (
    ("maximum", "zero padding"),
    ("average", "zero padding"),
    ("maximum", "border continued"),
)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.2))
axes[0].imshow(images[2].permute(1, 2, 0))
limit = amounts[cases[0]][2].flatten().quantile(0.995)
for axis, case in zip(axes[1:], cases, strict=True):
    axis.imshow(amounts[case][2], cmap="Reds", vmin=0, vmax=limit)
    axis.set_title("{} pooling,\n{}".format(*case), fontsize=8)
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# The rows are nearly alike, the columns are not. In *this* network the frame comes from the edge of the zero padding
# alone: it is there with average pooling and without any pooling, and it is gone with the border continued, whatever
# the pooling. The winners in the outermost line are another symptom of the same edge, not the cause of the frame. (The
# column without padding is no fair comparison: there, pixels at the border are seen by fewer windows.)
#
# Nothing in the explanation is wrong: the network really does respond to its border. Whether the same holds for
# Inception v3 with its trained weights is not shown here.
#
# ## A real network
#
# For any network, with the test and the picture, where its weights can be downloaded:
#
# ```python
# from torchvision.models import Inception_V3_Weights, inception_v3
#
# weights = Inception_V3_Weights.IMAGENET1K_V1
# model = inception_v3(weights=weights).eval()
# for pooling in observe_pooling(model, images):
#     print(pooling.name, [counts.shares() for counts in border_winners(pooling)])
# ```
#
# There is nothing to mend in the explanation. What helps is a network without the edge: with
# `padding_mode="replicate"` in its convolutions, as in the middle column of the table above.
