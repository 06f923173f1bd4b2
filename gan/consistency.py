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

from gan.augment import augment
from gan.critic_loss import CriticLoss
from gan.gradient_norm import Critic, normalize_for_critic, scores

__all__ = ["ConsistentCriticLoss", "consistency_penalty"]


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


class ConsistentCriticLoss(CriticLoss):
    """The critic's loss plus the penalty; its score is computed anew, which costs two more passes over real data."""

    def forward(
        self,
        real: Float[Tensor, "batch *shape"],
        fake: Float[Tensor, "batch *shape"],
        labels: Tensor | None,
        regularized: bool,
        noise: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logged = super().forward(real, fake, labels, regularized, noise)
        with torch.autocast(real.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            found = consistency_penalty(self._seen, real, lambda x: augment(x, ("translation",), noise), labels)
        return loss + self.recipe.penalties.cr * found, logged | {"consistency": found.detach()}

    def _seen(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        rule = self.recipe.rule
        if rule is None:
            return scores(self.critic, x, labels)
        return normalize_for_critic(self.critic, x, rule.method, labels=labels, eps=rule.eps, K=rule.K)[0]
