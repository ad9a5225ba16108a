r"""The relevance rules derived numerically from Taylor expansions of a rectifier (paper, supplement A).

A neuron :math:`f(x) = \max(0, \sum_i x_i w_i + b)` with :math:`b \le 0` is expanded at a *root point*, where it is 0.
Every rule is one way to look for that point: from :math:`x` along a search direction :math:`v`,

.. math:: x^r = x - \frac{x \cdot w + b}{v \cdot w}\, v, \qquad
          R_i = \frac{\partial f}{\partial x_i}\Bigl|_{x^r} (x_i - x_i^r) = \frac{v_i w_i}{v \cdot w} f(x).

This module takes the derivatives of every order by automatic differentiation instead of on paper: the terms of first
order are the rule, all others are zero. It stands apart from the propagation, which evaluates rules in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jvp

from captum_clrp.errors import InvalidInputError

__all__ = [
    "SearchDirection",
    "decompose",
    "rectifier",
    "root_point",
    "taylor_terms",
    "w_square_direction",
    "z_beta_direction",
    "z_direction",
    "z_plus_direction",
]

SearchDirection = Callable[[Tensor, Tensor], Tensor]
"""From an input ``x`` and weights ``w``, both of shape ``(n,)``, to the direction ``v`` in which the root is sought."""


def z_direction(x: Tensor, w: Tensor) -> Tensor:
    """Towards the origin, ``v = x`` whatever ``w``, both of shape ``(n,)``: the z rule."""
    return x


def z_plus_direction(x: Tensor, w: Tensor) -> Tensor:
    """Take away what excites the neuron: ``x`` where ``x_i w_i > 0`` and 0 elsewhere. The z+ rule.

    For inputs that are not negative this is the paper's ``x_i`` where ``w_i > 0``. Both ``x`` and ``w`` have shape ``(n,)``.
    """
    return torch.where(x * w > 0, x, 0.0)


def z_beta_direction(low: float | Tensor, high: float | Tensor) -> SearchDirection:
    """Towards the corner of the box ``[low, high]`` where the neuron is least excited: the z^beta rule.

    Args:
        low: Lowest value of each input; a number or a tensor of shape ``(n,)``, in the units of the input.
        high: Highest value of each input, likewise.

    Returns:
        The direction ``x - low`` where ``w_i > 0`` and ``x - high`` elsewhere.
    """

    def direction(x: Tensor, w: Tensor) -> Tensor:
        return torch.where(w > 0, x - low, x - high)

    return direction


def w_square_direction(x: Tensor, w: Tensor) -> Tensor:
    """To the nearest root, along the gradient ``v = w``, wherever ``x`` and its domain lie: the w^2 rule. Shapes ``(n,)``."""
    return w


def rectifier(w: Tensor, b: float | Tensor) -> Callable[[Tensor], Tensor]:
    """The neuron ``x -> max(0, x.w + b)``.

    Args:
        w: Weights of shape ``(n,)``.
        b: Bias, a number.
    """
    return lambda x: torch.relu(x @ w + b)


def root_point(x: Tensor, w: Tensor, b: float | Tensor, direction: SearchDirection) -> Tensor:
    """Where the neuron becomes zero when one walks from ``x`` along a search direction.

    Args:
        x: Input of shape ``(n,)``.
        w: Weights of shape ``(n,)``.
        b: Bias, a number of at most 0; otherwise a neuron can be active in its whole domain and has no root in it.
        direction: One of this module's search directions.

    Returns:
        The root point, ``(n,)``; ``x`` itself where the neuron is not active.

    Raises:
        InvalidInputError: if the bias is positive, or no root lies in that direction.
    """
    if float(b) > 0:
        raise InvalidInputError(
            f"bias {float(b):g} is positive, so the neuron may be active everywhere and have no root; give a bias <= 0"
        )
    excitation = x @ w + b
    if excitation <= 0:
        return x.clone()
    v = direction(x, w)
    slope = v @ w
    if slope == 0:
        raise InvalidInputError(
            "the search direction is orthogonal to the weights: no root lies in it; choose another direction"
        )
    return x - excitation / slope * v


def taylor_terms(function: Callable[[Tensor], Tensor], x: Tensor, root: Tensor, order: int = 3) -> Tensor:
    r"""Terms of the Taylor expansion of a function at a root point, order by order and input by input.

    .. math:: R_i^{(n)} = \frac{1}{n!} \sum_{l_1 \ldots l_{n-1}}
              \frac{\partial^n f}{\partial x_i \partial x_{l_1} \ldots \partial x_{l_{n-1}}}\Bigl|_{x^r}
              (x_i - x_i^r) \prod_p (x_{l_p} - x_{l_p}^r)

    Source: paper, supplement A. A rectifier has a kink at its root, and no derivative there. What the expansion means
    is the derivative from the side of ``x``; so derivatives are taken next to the root on the way to ``x`` (a
    millionth of it), where a piecewise linear function already has the slope that it keeps up to ``x``.

    Args:
        function: From a tensor of shape ``(n,)`` to a single value.
        x: The input that is explained, ``(n,)``; float64 is advisable.
        root: The root point, ``(n,)``.
        order: Highest order. Default: 3.

    Returns:
        Tensor of shape ``(order, n)`` whose row ``k`` holds the terms of order ``k + 1``.
    """
    step = x - root
    beside = root + 1e-6 * step

    def differentiated_along_step(slope: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda point: jvp(slope, (point,), (step,))[1]

    slope: Callable[[Tensor], Tensor] = grad(function)
    terms = []
    for n in range(1, order + 1):
        terms.append(slope(beside) * step / math.factorial(n))
        slope = differentiated_along_step(slope)
    return torch.stack(terms)


def decompose(x: Tensor, weight: Tensor, bias: Tensor, direction: SearchDirection, order: int = 3) -> Tensor:
    """Relevance of the inputs of a layer of rectifiers by Taylor expansion, if each neuron's is its activation.

    Args:
        x: Input of the layer, ``(n,)``.
        weight: ``(m, n)``, as of ``nn.Linear``.
        bias: ``(m,)``, none positive.
        direction: One of this module's search directions.
        order: Highest order. Default: 3.

    Returns:
        Tensor of shape ``(order, n)``, the sums over the m neurons of their terms.

    Raises:
        InvalidInputError: as :func:`root_point`.
    """
    terms = x.new_zeros(order, x.numel())
    for w, b in zip(weight, bias, strict=True):
        terms += taylor_terms(rectifier(w, b), x, root_point(x, w, b, direction), order)
    return terms
