r"""The loss of a critic: its scores' loss plus the penalties, in one forward.

A normalised score needs no second-order pass where the critic's linear regions are known
(:meth:`gan.normalization.Score.for_critic`). r1 and r2 penalise the gradient of the normalised
score; for a piecewise linear critic under gradient normalisation one second-order pass computes
them and the score: :math:`\|\nabla \hat f\| = n \, \partial \hat f / \partial f`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.config import Recipe
from gan.losses import critic_loss
from gan.normalization.score import NormedScore, Score
from gan.penalties import PENALTIES, CriticBatch
from univae.dtypes import at_least_float32, autocast

__all__ = ["CriticLoss"]


class CriticLoss(nn.Module):
    """A module whose forward has all passes of the critic, as a distributed wrapper requires."""

    def __init__(self, critic: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.critic = critic
        self.recipe = recipe
        self.score = Score(critic, recipe.rule)

    def forward(
        self,
        real: Float[Tensor, "batch *shape"],
        fake: Float[Tensor, "batch *shape"],
        labels: Tensor | None,
        *,
        regularized: bool,
        noise: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and numbers to log.

        Args:
            real: real rows.
            fake: generated rows, with the labels of the real ones.
            labels: labels of the real rows, for a conditional critic.
            regularized: whether this step computes the lazy terms, r1 and r2.
            noise: random numbers of the points of gradient penalties and the changes of ``cr``.
        """
        batch = CriticBatch(self.score, real, fake, labels, noise)
        weights = self.recipe.penalties.weights()
        lazy = [name for name in weights if PENALTIES[name].lazy] if regularized else []
        with autocast(real.device, torch.bfloat16, enabled=self.recipe.bf16):
            scored = self._scores(batch, lazy)
            penalty = self._penalty(batch) + self._lazy_penalty(batch, scored, lazy)
            separate_terms = self._separate_terms(batch)

        real_score, fake_score = torch.split(scored.score, len(real))
        loss = critic_loss(self.recipe.loss, real_score, fake_score) + penalty
        logged = {"real_score": real_score.mean(), "fake_score": fake_score.mean()}
        if weights:
            logged["penalty"] = penalty
        if scored.norms is not None:
            logged["norm_median"] = scored.norms.median()
            logged["norm_max"] = scored.norms.amax()
        for name, term in separate_terms.items():
            loss = loss + weights[name] * term
            logged[PENALTIES[name].log_name] = term
        return loss, {name: value.detach() for name, value in logged.items()}

    def _scores(self, batch: CriticBatch, lazy: list[str]) -> NormedScore:
        x = torch.cat((batch.real, batch.fake))
        labels = torch.cat((batch.labels, batch.labels)) if batch.labels is not None else None
        # One second-order pass over both halves computes scores and all lazy terms. Without a
        # normalisation a single lazy term costs less in a separate pass over one half.
        shares_pass = len(lazy) > 1 or (bool(lazy) and self.score.rule is not None)
        if shares_pass:
            return self.score.with_norms(x, labels)
        return self.score.for_critic(x, labels)

    def _penalty(self, batch: CriticBatch) -> Tensor:
        total = at_least_float32(batch.real.new_zeros(()))
        for name, weight in self.recipe.penalties.weights().items():
            penalty = PENALTIES[name]
            if penalty.term is not None and not penalty.lazy and not penalty.log_name:
                total = total + weight * penalty.term(batch)
        return total

    def _lazy_penalty(self, batch: CriticBatch, scored: NormedScore, lazy: list[str]) -> Tensor:
        weights = self.recipe.penalties.weights()
        total = torch.zeros_like(scored.score[0])
        for name in lazy:
            penalty = PENALTIES[name]
            if scored.score_norms is not None and penalty.from_norms is not None:
                real_norms, fake_norms = scored.score_norms.chunk(2)
                term = penalty.from_norms(real_norms, fake_norms)
            else:
                assert penalty.term is not None
                term = penalty.term(batch)
            total = total + weights[name] * term
        return self.recipe.lazy * total

    def _separate_terms(self, batch: CriticBatch) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for name in self.recipe.penalties.used():
            penalty = PENALTIES[name]
            if penalty.term is not None and penalty.log_name:
                terms[name] = penalty.term(batch)
        return terms
