# %% [markdown]
# # 4. Your own network
#
# The package takes networks as they come: functional calls, skip connections, gates, layers used twice. This tutorial
# takes a network of your own through the steps: train it (here in a few seconds, to tell shapes apart), look at the
# *plan*, check that relevance is *conserved*, set *rules*, and see what happens when an operation is *refused*.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from captum_clrp import (
    ContrastiveLRP1,
    LRPZBeta,
    ModelStateError,
    UnsupportedOperationError,
    check_conservation,
    explain_plan,
)
from captum_clrp.rules import Gamma

_ = torch.manual_seed(0)

# %% [markdown]
# ## A small task
#
# Pictures of 32 x 32 grey pixels with a disc, a square or a cross somewhere, and noise.

# %%
# alt: Three grey pictures with noise: a bright disc, a bright square, a bright cross.
CLASSES = ["disc", "square", "cross"]
axis = torch.arange(32.0)


def shape(kind: int, row: float, column: float) -> torch.Tensor:
    down, across = (axis - row)[:, None].abs(), (axis - column)[None, :].abs()
    if kind == 0:
        return ((down**2 + across**2) < 25).float()
    if kind == 1:
        return (torch.maximum(*torch.broadcast_tensors(down, across)) < 5).float()
    return (
        (torch.minimum(*torch.broadcast_tensors(down, across)) < 1.5)
        & (down + across < 9)
    ).float()


def pictures(kinds: list[int]) -> torch.Tensor:
    """One shape each at a random place, ``(N, 1, 32, 32)``, values from 0 to 1."""
    places = 6 + 20 * torch.rand(len(kinds), 2)
    drawn = torch.stack(
        [shape(k, *place.tolist()) for k, place in zip(kinds, places, strict=True)]
    )
    return (0.7 * drawn + 0.3 * torch.rand(drawn.shape))[:, None]


figure, axes = plt.subplots(1, 3, figsize=(4.5, 1.7))
for one, picture, name in zip(axes, pictures([0, 1, 2]), CLASSES, strict=True):
    one.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
    one.set_title(name, fontsize=8)
    one.set_axis_off()

# %% [markdown]
# ## A network with a bit of everything
#
# Batch normalisation, a rectifier in place, a skip connection added with `+=`, a gate as in squeeze-and-excitation,
# max pooling and a mean over positions: several of these are not modules, so tools that look at modules alone do not
# see them.


# %%
class ShapeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.gate = nn.Conv2d(16, 16, 1)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.relu(self.norm(self.conv1(x))), 2)
        y = self.conv2(x)
        y += x
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        y = F.max_pool2d(torch.relu(y), 2)
        return self.head(torch.relu(self.conv3(y)).mean((2, 3)))


net = ShapeNet()
optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
for _step in range(200):
    labels = torch.randint(3, (32,))
    optimizer.zero_grad()
    F.cross_entropy(net(pictures(labels.tolist())), labels).backward()
    optimizer.step()
net.eval()

labels = torch.randint(3, (200,))
with torch.no_grad():
    accuracy = float(
        (net(pictures(labels.tolist())).argmax(1) == labels).float().mean()
    )
print(f"accuracy on new pictures: {accuracy:.0%}")
assert accuracy > 0.9

# %% [markdown]
# ## The plan
#
# Before you explain anything, ask the package what it would do. The plan lists every operation that carries relevance,
# with its rule and the reason.

# %%
picture = pictures([0])
plan = explain_plan(net, picture)
print(plan)
assert plan.records[0].operation == "conv2d"
assert plan.records[0].rule.startswith("ZBeta")

# %% [markdown]
# The first convolution gets the z^beta rule, which knows the domain of the input; all other weighted operations get
# z+. A sum shares relevance by the sizes of its parts. At the product, relevance follows the signal and not the gate.
#
# ## Two shapes in one picture

# %%
# alt: A picture with a square on the left and a cross on the right, and four maps. The LRP maps for square and cross
#   mark both shapes; the CLRP1 maps mark the square alone and the cross alone.
two = (0.7 * (shape(1, 16, 7) + shape(2, 16, 24)) + 0.3 * torch.rand(32, 32))[
    None, None
]
SQUARE, CROSS = 1, 2
lrp = LRPZBeta(net, low=0.0, high=1.0).attribute_classes(two, [SQUARE, CROSS])[0]
clrp = ContrastiveLRP1(net, low=0.0, high=1.0).attribute_classes(two, [SQUARE, CROSS])[
    0
]


def show(maps: list[torch.Tensor], titles: list[str]) -> None:
    figure, axes = plt.subplots(1, 1 + len(maps), figsize=(1.6 * (1 + len(maps)), 1.8))
    axes[0].imshow(two[0, 0], cmap="gray")
    for one, relevance, title in zip(axes[1:], maps, titles, strict=True):
        limit = relevance.abs().max()
        one.imshow(relevance[0], cmap="RdBu_r", vmin=-limit, vmax=limit)
        one.set_title(title, fontsize=8)
    for one in axes:
        one.set_axis_off()
    figure.tight_layout()


show([*lrp, *clrp], ["LRP: square", "LRP: cross", "CLRP1: square", "CLRP1: cross"])


def share_on_the_left(relevance: torch.Tensor) -> float:
    positive = relevance.clamp(min=0)
    return float(positive[..., :16].sum() / positive.sum())


shares = [share_on_the_left(r) for r in (*lrp, *clrp)]
print("relevance on the left:", " ".join(f"{share:.0%}" for share in shares))
assert shares[2] > 0.8
assert shares[3] < 0.2
assert shares[0] - shares[1] < shares[2] - shares[3]

# %% [markdown]
# ## Is anything lost?
#
# The sum of the relevance at the input should be the score. What is missing was *absorbed*, by neurons that are
# active through their bias alone and have no input to answer for it. `check_conservation` says how much, and where.

# %%
report = check_conservation(net, two, target=SQUARE, method=LRPZBeta(net, 0.0, 1.0))
print(report)
assert abs(report.unaccounted) < 1e-3 * abs(report.score)

# %% [markdown]
# Here nothing was lost. In a network with depthwise convolutions, such as the EfficientNet of [tutorial
# 1](1_first_explanation.ipynb), it can be most of the score. Then `conserve=True` spreads what would be absorbed over
# the inputs of those neurons, and the input alone sums to the score.

# %%
conserved = LRPZBeta(net, 0.0, 1.0, conserve=True).attribute(two, target=SQUARE)
score = net(two)[0, SQUARE].item()
print(f"score {score:.4f}, relevance at the input {conserved.sum():.4f}")
assert abs(conserved.sum() - score) < 1e-2 * abs(score)

# %% [markdown]
# ## Your own rules
#
# Assign a rule to a module, as in Captum, and it replaces the one in the plan. The gamma rule, for example, favours
# the contributions that have the sign of the output without dropping the others. Delete it, and the plan is as before.

# %%
# alt: The picture of square and cross and two LRP maps for square: with z+, and with the gamma rule in conv2 and
# conv3.
net.conv2.rule = Gamma(0.25)
net.conv3.rule = Gamma(0.25)
print("\n".join(str(explain_plan(net, two)).splitlines()[2:]))
with_gamma = LRPZBeta(net, 0.0, 1.0).attribute(two, target=SQUARE)
show([lrp[0], with_gamma[0]], ["z+", "gamma in conv2, conv3"])
assert any(record.rule.startswith("Gamma") for record in explain_plan(net, two).records)
assert not torch.allclose(with_gamma[0], lrp[0])

del net.conv2.rule, net.conv3.rule
assert torch.equal(
    LRPZBeta(net, 0.0, 1.0).attribute_classes(two, [SQUARE, CROSS])[0], lrp
)

# %% [markdown]
# ## When an operation is refused
#
# If no rule is known for an operation, you get an error and no map, because a wrong map would look just as
# convincing. The error names every such operation, the module, and what to do.


# %%
class WithSimilarity(ShapeNet):
    """Scores by the similarity of the two halves of the picture: which of them would
    get the relevance?
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        left, right = y.chunk(2, 3)
        return F.cosine_similarity(left.flatten(2), right.flatten(2), dim=2)[:, :3]


try:
    LRPZBeta(WithSimilarity().eval()).attribute(two, target=SQUARE)
except UnsupportedOperationError as error:
    refusal = str(error)
print(refusal)
assert "cosine_similarity" in refusal

# %% [markdown]
# The remedies, in the order in which to try them:
#
# 1. Explain a part of the model that does without it: `LayerLRPZBeta` and its contrastive twins read relevance at a
#    layer.
# 2. Replace the operation by one that has a rule: similarity to a constant prototype, for example, is a linear layer.
# 3. If you know how the operation shares relevance, add a row to `captum_clrp.engine.operations.TABLE`.
#
# Other states in which no explanation would be true are refused as well, such as a network in training mode, whose
# batch normalisation would change with every call.

# %%
try:
    LRPZBeta(net.train()).attribute(two, target=SQUARE)
except ModelStateError as error:
    refusal = str(error)
print(refusal)
assert "model.eval()" in refusal
_ = net.eval()

# %% [markdown]
# ## A checklist
#
# 1. `model.eval()`.
# 2. `print(explain_plan(model, inputs))`: does every operation get the rule that you expect?
# 3. `print(check_conservation(model, inputs, target))`: is *unaccounted* zero, and do you know where relevance is
#    absorbed?
# 4. Give `low` and `high` in the units of the input: for photographs, normalised pixels (`normalized_bounds`).
# 5. Look at several classes side by side, on one scale.
