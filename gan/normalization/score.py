r"""The score in the losses of a GAN: a critic under a normalisation rule.

The score is computed by one of three methods, which differ in the variables in which its gradient
is exact:

``value``          in the critic's weights and in x: a second-order backward pass
``for_generator``  in x alone; one pass for a piecewise linear critic
``for_critic``     in the critic's weights alone; two plain passes where linear regions are known
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.normalization.derivatives import Critic, differentiate, norms, per_row, scores
from gan.normalization.linear_regions import RecordedSlopes, has_regions
from gan.normalization.module_types import is_piecewise_linear
from gan.normalization.rules import GradientNorm

__all__ = ["NormedScore", "Score"]


class NormedScore(NamedTuple):
    """Scores of a batch, and the gradient norms where they are computed."""

    score: Tensor  # (B,)
    norms: Tensor | None  # (B,), of the critic before normalisation
    score_norms: Tensor | None = None  # (B,), of the score, differentiable in the critic's weights


class Score:
    r"""The score :math:`\hat f` of ``critic`` under ``rule``; with ``rule`` None it is f."""

    def __init__(self, critic: Critic, rule: GradientNorm | None = None) -> None:
        self.critic = critic
        self.rule = rule

    def __call__(
        self, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
    ) -> Float[Tensor, "batch"]:
        """Return :meth:`value`."""
        return self.value(x, labels)

    def value(
        self, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
    ) -> Float[Tensor, "batch"]:
        r"""Return :math:`\hat f(x)`, differentiable in the critic's weights and in x.

        Inside ``torch.no_grad()`` the result is detached, and there is no second-order pass.
        """
        if self.rule is None:
            return scores(self.critic, x, labels)
        f, g = differentiate(self.critic, x, labels, create_graph=torch.is_grad_enabled())
        return self.rule(f, norms(g))

    def for_generator(
        self, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
    ) -> Float[Tensor, "batch"]:
        r"""Return :math:`\hat f(x)` with its exact gradient in x alone.

        The gradient norm n of a piecewise linear critic is constant around x, and :math:`\nabla
        \hat f = (\partial \hat f / \partial f) \, \nabla f` needs no second-order pass: the result
        is the score's value plus :math:`\langle \nabla \hat f, x - x_0 \rangle` at :math:`x_0 = x`.
        """
        if self.rule is None or not is_piecewise_linear(self.critic):
            return self.value(x, labels)

        x_constant = x.detach()
        f, g = differentiate(self.critic, x_constant, labels, create_graph=False)
        n = norms(g)
        score_gradient = per_row(self.rule.slope(f, n), x) * g
        return self.rule(f, n) + (score_gradient * (x - x_constant)).flatten(1).sum(1)

    def for_critic(
        self, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
    ) -> NormedScore:
        r"""Return :math:`\hat f(x)` with its exact gradient in the critic's weights alone.

        Where the critic's linear regions are known
        (:func:`gan.normalization.linear_regions.has_regions`), there is no second-order pass. In
        the region of x the critic is affine, :math:`F(x') = f + \langle \nabla f, x' - x \rangle`
        with :math:`d n = \langle \nabla f / n, d \nabla f \rangle`, so that

        .. math:: d \hat f = \partial_f \hat f \; d F(x'), \qquad
            x' = x + \frac{\partial_n \hat f}{\partial_f \hat f} \frac{\nabla f}{n}

        at a constant :math:`x'`: for GN the foot :math:`x - f \nabla f / n^2` of x on the plane F =
        0. One plain pass to :math:`\nabla f` and one plain pass at :math:`x'` with the slopes of x
        cost less than a double backward pass.
        """
        if self.rule is None:
            return NormedScore(scores(self.critic, x, labels), None)
        critic = self.critic
        needs_graph = torch.is_grad_enabled()
        if needs_graph and isinstance(critic, nn.Module) and has_regions(critic):
            return _score_by_region(critic, self.rule, x.detach(), labels)

        f, g = differentiate(critic, x.detach(), labels, create_graph=needs_graph)
        n = norms(g)
        return NormedScore(self.rule(f, n), n.detach())

    def with_norms(
        self, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
    ) -> NormedScore:
        r"""Return scores and norms by one second-order pass, differentiable in the weights.

        ``score_norms`` are :math:`\|\nabla \hat f\| = n \, \partial \hat f / \partial f` where that
        is exact, which is without a rule or for a piecewise linear critic, otherwise None.
        """
        f, g = differentiate(self.critic, x, labels)
        n = norms(g)
        if self.rule is None:
            return NormedScore(f, n, n)
        if not is_piecewise_linear(self.critic):
            return NormedScore(self.rule(f, n), n)
        return NormedScore(self.rule(f, n), n, self.rule.slope(f, n) * n)


def _score_by_region(
    critic: nn.Module, rule: GradientNorm, x: Tensor, labels: Tensor | None
) -> NormedScore:
    slopes = RecordedSlopes(critic)
    with slopes.recording():
        f, g = differentiate(critic, x, labels, create_graph=False)
    n = norms(g)

    with slopes.replaying():
        affine = scores(critic, x + per_row(rule.lever(f, n), x) * g, labels)
    return NormedScore(rule(f, n) + rule.slope(f, n) * (affine - affine.detach()), n)
