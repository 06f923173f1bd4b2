r"""Gradient normalisation: a critic divided by the norm of its own input gradient.

.. math:: n_i = \|\nabla_{x_i} f_i\|, \qquad
    \hat f = K \frac{f}{n + |f|} \;\text{(GN)}, \qquad
    \hat f = K \frac{f \, n}{n^2 + \epsilon} \;\text{(GraN)}

For a piecewise linear f (ReLU, LeakyReLU, convolutions, pooling) :math:`\nabla n = 0` almost
everywhere, so :math:`\|\nabla \hat f\| = K (n / (n + |f|))^2 \le K`, or :math:`K n^2 / (n^2 +
\epsilon) < K`. This does not make :math:`\hat f` Lipschitz: n, and :math:`\hat f` with it, jumps
where x crosses an activation boundary. For example :math:`f = 1 + \mathrm{relu}(x)` has
:math:`\hat f = 1` for x < 0 and 1/2 at x = 0+. For a smooth f (SiLU, softplus, attention) not even
the pointwise bound holds. :mod:`gan.audit` measures both.

These functions are one-call forms of :class:`gan.normalization.score.Score`.

References:
    Gradient Normalization for Generative Adversarial Networks (Wu et al., 2021),
    https://arxiv.org/abs/2109.02235

    GraN-GAN: Piecewise Gradient Normalization for GANs (Bhaskara et al., 2021),
    https://arxiv.org/abs/2111.03162
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gan.normalization.derivatives import Critic
from gan.normalization.rules import GradientNorm, Method
from gan.normalization.score import Score

__all__ = ["normalize_for_critic", "normalize_for_generator", "normalize_gradient"]


def normalize_gradient(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    method: Method = "gn",
    *,
    create_graph: bool = True,
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
) -> Float[Tensor, "batch"]:
    r"""Return :math:`\hat f(x)`, in at least float32.

    With ``create_graph`` the result is differentiable in the critic's weights and in x, n included
    (a second-order backward pass). Without it the result is detached: with a constant n its
    gradient would be wrong. ``x`` and its ``requires_grad`` are not changed.

    Raises:
        InputError: the critic uses statistics of its batch, or does not return one number per row.
    """
    score = Score(critic, GradientNorm(method, eps, K))
    with torch.set_grad_enabled(create_graph and torch.is_grad_enabled()):
        return score.value(x, labels)


def normalize_for_generator(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    method: Method = "gn",
    *,
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
) -> Float[Tensor, "batch"]:
    r"""Return :math:`\hat f(x)` with its exact gradient in x alone.

    One pass for a piecewise linear critic, a second-order pass for any other;
    see :meth:`gan.normalization.score.Score.for_generator`.
    """
    return Score(critic, GradientNorm(method, eps, K)).for_generator(x, labels)


def normalize_for_critic(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    method: Method = "gn",
    *,
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    r"""Return :math:`\hat f(x)` with its exact gradient in the critic's weights alone, and n.

    Two plain passes where the critic's linear regions are known, a second-order pass otherwise; see
    :meth:`gan.normalization.score.Score.for_critic`.
    """
    result = Score(critic, GradientNorm(method, eps, K)).for_critic(x, labels)
    assert result.norms is not None
    return result.score, result.norms
