# %% [markdown]
# # 8. From Taylor to rules
#
# Where do the rules of LRP come from? *Deep Taylor decomposition* says: from the Taylor expansion of a neuron at a
# point where the neuron is zero. Supplement A of [the paper](https://arxiv.org/abs/1812.02100) shows that it makes no
# difference how many orders of the expansion one takes. Here the computer takes the derivatives, and we look at what
# comes out.

# %%
import matplotlib.pyplot as plt
import torch
from PIL import Image
from skimage import data

from captum_clrp import LayerLRPZBeta
from captum_clrp.classifiers import load_classifier
from captum_clrp.engine.linear_maps import FullyConnected
from captum_clrp.rules import Epsilon, WSquare, ZBeta, ZPlus, distribute, prepare
from captum_clrp.theory import taylor

torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## One neuron
#
# A rectifier with three inputs, $f(x) = \max(0,\; x \cdot w + b)$, with a negative bias.

# %%
w, b = torch.tensor([2.0, -1.0, 4.0]), -1.0
x = torch.tensor([2.0, 3.0, 1.0])
f = taylor.rectifier(w, b)
print(f"f(x) = 4 - 3 + 4 - 1 = {f(x):g}")
assert f(x) == 4

# %% [markdown]
# A **root point** $x^r$ is a point with $f(x^r) = 0$. There are many. Walk from $x$ along a *search direction* $v$
# until you reach one:
#
# $$x^r = x - \frac{x \cdot w + b}{v \cdot w}\, v$$
#
# Every rule is a direction:
#
# | rule | direction $v_i$ | in words |
# |---|---|---|
# | z | $x_i$ | towards the origin |
# | z+ | $x_i$ where $x_i w_i > 0$, else 0 | take away what excites |
# | z^beta | $x_i - l_i$ where $w_i > 0$, else $x_i - h_i$ | to the corner of the box $[l, h]$ that excites least |
# | w^2 | $w_i$ | the shortest way |

# %%
directions = {
    "z": taylor.z_direction,
    "z+": taylor.z_plus_direction,
    "z^beta": taylor.z_beta_direction(-1.0, 5.0),
    "w^2": taylor.w_square_direction,
}
for name, direction in directions.items():
    root = taylor.root_point(x, w, b, direction)
    print(
        f"{name:7s} root {[round(v, 3) for v in root.tolist()]}, "
        f"f(root) = {f(root):.0e}"
    )
    assert abs(f(root)) < 1e-12

# %% [markdown]
# With two inputs one can see them. The line is where the neuron becomes zero.

# %%
# alt: A plane of two inputs with the line where the neuron becomes zero. From the input x four arrows in
#   different directions end on that line, one for each rule; the box of z^beta is drawn too.
w2, b2, x2 = torch.tensor([1.0, -0.5]), -0.5, torch.tensor([2.0, 1.0])
plane = {**directions, "z^beta": taylor.z_beta_direction(0.0, 3.0)}
plt.figure(figsize=(4.2, 3.4))
across = torch.linspace(-0.2, 2.4, 2)
plt.plot(across, (across * w2[0] + b2) / -w2[1], color="black", label="f becomes 0")
for (name, direction), colour in zip(
    plane.items(), ("C0", "C1", "C2", "C3"), strict=True
):
    root = taylor.root_point(x2, w2, b2, direction)
    plt.annotate(
        "",
        root.tolist(),
        x2.tolist(),
        arrowprops={"arrowstyle": "->", "color": colour, "lw": 2},
    )
    plt.plot(*root.tolist(), "o", color=colour, label=name)
plt.plot(*x2.tolist(), "k*", markersize=12, label="x")
plt.gca().add_patch(plt.Rectangle((0, 0), 3, 3, fill=False, linestyle=":"))
plt.xlim(-0.3, 3.2), plt.ylim(-1.2, 3.2)
plt.legend(fontsize=7, loc="lower right")
plt.tight_layout()

# %% [markdown]
# ## The expansion
#
# The term of first order gives input $i$ the relevance $\frac{\partial f}{\partial x_i}\big|_{x^r} (x_i - x^r_i)$,
# those of higher order add products of several differences. `taylor_terms` gets all derivatives by automatic
# differentiation. It does not know that $f$ is a rectifier.

# %%
for name, direction in directions.items():
    terms = taylor.taylor_terms(f, x, taylor.root_point(x, w, b, direction), order=3)
    print(
        f"{name:7s} first order {[round(v, 3) + 0.0 for v in terms[0].tolist()]}, "
        f"sum {terms[0].sum():.3f}",
        end="",
    )
    print(f"; largest of second and third order {terms[1:].abs().max():g}")
    assert torch.isclose(terms.sum(), f(x))
    assert not terms[1:].any()

# %% [markdown]
# Three things to see. First: relevance sums to $f(x)$, whichever root was chosen. Second: all higher orders are zero,
# because a rectifier is *linear* between the root and $x$. Third: the first order is $\frac{v_i w_i}{v \cdot w}
# f(x)$, and with the four directions put in, these are the rules. For z+ by hand: $v = (2, 0, 1)$, $v \cdot w = 8$,
# relevance $(\tfrac{4}{8}, 0, \tfrac{4}{8}) \cdot 4 = (2, 0, 2)$.

# %%
by_hand = torch.tensor([2.0, 0.0, 2.0])
root = taylor.root_point(x, w, b, taylor.z_plus_direction)
assert torch.allclose(taylor.taylor_terms(f, x, root)[0], by_hand)

# %% [markdown]
# A subtlety: at its root a rectifier has a kink, and no derivative. What is meant is the derivative from the side of
# $x$. Asked at the kink itself, automatic differentiation answers 0, and nothing would be left to distribute:

# %%
at_the_kink = torch.tensor([0.5, 0.0, 0.0], requires_grad=True)  # 2 * 0.5 - 1 = 0
(gradient,) = torch.autograd.grad(f(at_the_kink), at_the_kink)
print("gradient at the kink:", gradient.abs().tolist())
assert not gradient.any()

# %% [markdown]
# ## Higher orders are not always zero
#
# The statement is about rectifiers. Square the neuron, and at its root the first order vanishes; everything sits in
# the second. So a network of other neurons would need other rules.

# %%
root = taylor.root_point(x, w, b, taylor.z_plus_direction)
squared = taylor.taylor_terms(lambda p: f(p) ** 2, x, root)
for order, term in enumerate(squared, start=1):
    print(f"order {order}: {[round(v, 3) + 0.0 for v in term.tolist()]}")
assert squared[0].abs().max() < 1e-3
assert torch.isclose(squared[1].sum(), f(x) ** 2, rtol=1e-3)

# %% [markdown]
# ## A layer, against the package's rules
#
# A layer distributes the relevance of all its neurons. If each neuron's relevance is its activation, the sum of all
# first-order terms must be what the package's rules give in closed form.

# %%
generator = torch.Generator().manual_seed(0)
weight = torch.randn(12, 7, generator=generator)
bias = -torch.rand(12, generator=generator)
activations_below = 2 * torch.rand(7, generator=generator)
activations = torch.relu(weight @ activations_below + bias)
layer = FullyConnected(weight, bias)

rules = {
    "z": (taylor.z_direction, Epsilon(0.0)),
    "z+": (taylor.z_plus_direction, ZPlus()),
    "z^beta": (taylor.z_beta_direction(0.0, 2.0), ZBeta(0.0, 2.0)),
    "w^2": (taylor.w_square_direction, WSquare()),
}
for name, (direction, rule) in rules.items():
    terms = taylor.decompose(activations_below, weight, bias, direction)
    closed_form = distribute(
        layer, prepare(rule, layer, activations_below[None]), activations[None]
    )[0]
    error = float((terms.sum(0) - closed_form).abs().max())
    print(f"{name:7s} {type(rule).__name__:8s} Taylor and rule differ by {error:.0e}")
    assert error < 1e-12
    assert not terms[1:].any()

# %% [markdown]
# ## What the derivation assumes
#
# It assumes that the relevance of every neuron *is its activation*. At the output that is so: relevance starts as the
# logit. Further down, the paper argues (section 3.2), it is not, and this is why the derivation does not make LRP
# class-discriminative. A look into EfficientNet-Lite0, at a layer near the middle:

# %%
# alt: A cloud of points, activation against relevance of single neurons in a middle layer. The points do not
#   lie on a line: neurons of equal activation have very different relevance.
torch.set_default_dtype(torch.float32)
network = load_classifier("tf_efficientnet_lite0")
coffee = network.inputs(Image.fromarray(data.coffee()))
block = network.model.blocks[3][0].bn1  # ends in a rectifier
relevance = LayerLRPZBeta(network.model, block, network.low, network.high).attribute(
    coffee, target=967
)
seen = {}
handle = block.register_forward_hook(
    lambda _, __, output: seen.update(activations=output)
)
with torch.no_grad():
    network.model(coffee)
handle.remove()

active = seen["activations"].flatten() > 0
pairs = torch.stack(
    [seen["activations"].flatten()[active], relevance.flatten()[active]]
)
correlation = float(torch.corrcoef(pairs)[0, 1])
plt.figure(figsize=(4, 3))
plt.plot(*pairs[:, ::20], ".", markersize=2)
plt.xlabel("activation"), plt.ylabel("relevance")
plt.tight_layout()
print(f"correlation of activation and relevance: {correlation:.2f}")
assert correlation < 0.7

# %% [markdown]
# If relevance were the activation (or proportional to it), the points would lie on a line. So the rules are good
# rules for other reasons, conservation above all; and a map that is to show the evidence for one class needs a
# contrast ([tutorial 3](3_contrast.ipynb)).
