r"""Consistency of a critic: its score should not tell a real image from the same image slightly moved.

.. math:: \lambda E (\hat f(T(x)) - \hat f(x))^2

of the score :math:`\hat f` that the loss sees, at real x. T moves an image by up to an eighth of each side
(:mod:`gan.augment`); unlike DiffAugment, the loss itself still sees the images as they are.

References:
    Consistency Regularization for Generative Adversarial Networks (Zhang et al., 2020), https://arxiv.org/abs/1910.12027
    Gradient Normalization for Generative Adversarial Networks (Wu et al., 2021), whose best numbers have it:
    https://arxiv.org/abs/2109.02235
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from gan.gradient_norm import Critic

__all__ = ["consistency_penalty"]


def consistency_penalty(
    score: Critic,
    real: Float[Tensor, "batch *shape"],
    change: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
) -> Float[Tensor, ""]:
    r"""Returns :math:`E (\hat f(T(x)) - \hat f(x))^2` for :math:`T` = ``change``, in one pass of the score."""
    both = torch.cat((labels, labels)) if labels is not None else None
    changed, still = score(torch.cat((change(real), real)), both).chunk(2)
    return (changed - still).square().mean()
