r"""What a critic descends: its loss on normalised scores plus the penalties, in one forward.

A normalised score takes the exact path without a second-order pass where the critic allows it
(:func:`gan.normalization.normalize_for_critic`). R1 and R2 are of the score that the loss sees; for a piecewise linear
critic under gradient normalisation one second-order pass serves them and the score:
:math:`\|\nabla \hat f\| = n \, \partial \hat f / \partial f`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.augment import augment
from gan.config import Recipe
from gan.losses import critic_loss
from gan.normalization.gradient import (
    differentiate,
    normalize_for_critic,
    normalize_gradient,
    norms,
    scores,
)
from gan.normalization.module_types import is_piecewise_linear
from gan.penalties import consistency_penalty, divergence_penalty, gradient_penalty, zero_centred
from univae.dtypes import computation_dtype

__all__ = ["CriticLoss"]


class CriticLoss(nn.Module):
    """A module, so that distributed training can wrap it: all the critic's passes are inside its forward."""

    def __init__(self, critic: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.critic = critic
        self.recipe = recipe

    def forward(
        self,
        real: Float[Tensor, "batch *shape"],
        fake: Float[Tensor, "batch *shape"],
        labels: Tensor | None,
        regularized: bool,
        noise: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and numbers to log; generated data have the labels of the real ones.

        ``regularized``: whether this is one of the steps that compute r1 and r2, where they are
        lazy.
        """
        recipe = self.recipe
        rule = self.recipe.rule
        count = len(real)
        x = torch.cat((real, fake))
        y = torch.cat((labels, labels)) if labels is not None else None
        weights = (recipe.penalties.r1, recipe.penalties.r2) if regularized else (0.0, 0.0)
        with torch.autocast(real.device.type, torch.bfloat16, enabled=recipe.bf16):
            n: Tensor | None = None
            if rule is not None and max(weights) == 0:
                f, n = normalize_for_critic(
                    self.critic, x, rule.method, labels=y, eps=rule.eps, K=rule.K
                )
                score = f
            elif (
                rule is not None or min(weights) > 0
            ):  # one differentiated pass serves scores and norms
                f, g = differentiate(self.critic, x, y)
                n = norms(g)
                score = rule(f, n) if rule is not None else f
            else:
                f = score = scores(self.critic, x, y)
            penalty = self._between(real, fake, labels, noise)
            if max(weights) > 0:
                penalty = penalty + recipe.lazy * self._at_data(x, y, f, n, weights)
            consistency = self._consistency(real, labels, noise) if recipe.penalties.cr else None
        loss = critic_loss(recipe.loss, *score.split(count)) + penalty
        logged = {"real_score": score[:count].mean(), "fake_score": score[count:].mean()}
        if recipe.penalties.used():
            logged["penalty"] = penalty
        if n is not None:
            logged |= {"norm_median": n.median(), "norm_max": n.amax()}
        if consistency is not None:
            loss = loss + recipe.penalties.cr * consistency
            logged = logged | {"consistency": consistency}
        return loss, {name: value.detach() for name, value in logged.items()}

    def _between(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, noise: torch.Generator
    ) -> Tensor:
        """The penalties of the plain critic between the data, and that of WGAN-div at them."""
        given = self.recipe.penalties
        total = real.new_zeros((), dtype=computation_dtype(real))
        if weight := max(given.gp, given.lp):
            one_sided = given.lp > 0
            found = gradient_penalty(
                self.critic, real, fake, labels, one_sided=one_sided, generator=noise
            )
            total = total + weight * found
        if given.div:
            both = (labels, labels) if labels is not None else None
            total = total + given.div * divergence_penalty(self.critic, real, fake, both)
        return total

    def _at_data(
        self, x: Tensor, y: Tensor | None, f: Tensor, n: Tensor | None, weights: tuple[float, float]
    ) -> Tensor:
        """r1 and r2 of the score that the loss sees."""
        rule = self.recipe.rule
        if n is not None and (rule is None or is_piecewise_linear(self.critic)):
            halves = (rule.slope(f, n) * n if rule else n).square().chunk(2)
            return sum(
                (w * half.mean() / 2 for w, half in zip(weights, halves, strict=True)),
                torch.zeros_like(f[0]),
            )
        sides = zip(weights, x.chunk(2), y.chunk(2) if y is not None else (None, None), strict=True)
        found = [weight * zero_centred(self._score, x, y) for weight, x, y in sides if weight]
        return sum(found, torch.zeros_like(f[0]))

    def _consistency(self, real: Tensor, labels: Tensor | None, noise: torch.Generator) -> Tensor:
        """Of the score that the loss sees, computed anew: two more passes over real data."""
        rule = self.recipe.rule

        def seen(x: Tensor, labels: Tensor | None = None) -> Tensor:
            if rule is None:
                return scores(self.critic, x, labels)
            return normalize_for_critic(
                self.critic, x, rule.method, labels=labels, eps=rule.eps, K=rule.K
            )[0]

        return consistency_penalty(
            seen, real, lambda x: augment(x, ("translation",), noise), labels
        )

    def _score(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        rule = self.recipe.rule
        if rule is None:
            return scores(self.critic, x, labels)
        return normalize_gradient(
            self.critic, x, rule.method, labels=labels, eps=rule.eps, K=rule.K
        )
