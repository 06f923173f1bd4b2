r"""An audit of a critic: gradient norms, slopes within and across linear regions, layer norms.

It separates three statements that are often confused. The *pointwise* gradient :math:`\|\nabla
f\|`; the *slope* between two points, within one linear region and across regions; and a
*certificate*, the product of upper bounds of the Lipschitz constants of all calls of modules, which
bounds every slope. Only a certificate makes :math:`(E f(x) - E f(y)) / L \le W_1` a lower bound; a
normalised score has none, because it jumps between regions.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.audit_calls import record_calls
from gan.audit_facts import Facts
from gan.audit_layers import Certificate, Layer, certify, measure_layers
from gan.audit_slopes import Slopes, measure_slopes
from gan.audit_verdict import verdict
from gan.metrics.transport import exact_wasserstein
from gan.normalization.derivatives import Critic, differentiate, norms, scores
from gan.normalization.module_types import is_piecewise_linear
from gan.normalization.rules import GradientNorm, NormalizationName
from gan.normalization.score import Score

__all__ = ["Facts", "Layer", "Slopes", "audit"]

QUANTILES = (0.05, 0.5, 0.95, 1.0)
# A gradient norm counts as above 1 if it exceeds 1 by more than float32 rounding.
GRADIENT_TOLERANCE = 1e-5
# Rows, and relative rounding error, of the test that scores are independent of other rows.
INDEPENDENCE_ROWS = 8
INDEPENDENCE_TOLERANCE = 1e-4


def audit(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    other: Float[Tensor, "batch2 *shape"] | None = None,
    *,
    normalization: NormalizationName = "none",
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
    lengths: Sequence[float] = (1e-3, 1e-2, 1e-1),
) -> Facts:
    """Measure a critic at rows ``x``, and its estimate of their distance to ``other``.

    The critic is in evaluation mode meanwhile.

    Args:
        critic: the critic before normalisation.
        x: rows, real ones for instance.
        other: rows, generated ones for instance; without labels only.
        normalization: the rule of the score that is audited.
        labels: labels of ``x``, for a conditional critic.
        eps: constant of ``gran``.
        K: constant of ``gn`` and ``gran``.
        lengths: of the segments whose slopes are measured, in units of the median distance between
            rows.
    """
    score = Score(critic, GradientNorm.of(normalization, eps, K))
    if not isinstance(critic, nn.Module):
        return _measure(score, normalization, x.detach(), other, labels, lengths)
    training = critic.training
    critic.eval()
    try:
        return _measure(score, normalization, x.detach(), other, labels, lengths)
    finally:
        critic.train(training)


def _measure(
    score: Score,
    normalization: NormalizationName,
    x: Tensor,
    other: Tensor | None,
    labels: Tensor | None,
    lengths: Sequence[float],
) -> Facts:
    critic = score.critic
    _, critic_gradient = differentiate(critic, x, labels, create_graph=False)
    value, gradient = differentiate(score, x, labels, create_graph=False)
    gradient_norms = norms(gradient)
    layers, certificate = _certificate(score, x, labels)
    wasserstein = None
    if labels is None:
        wasserstein = _distances(critic, x, other, certificate.constant)

    facts = Facts(
        normalization=normalization,
        piecewise_linear=is_piecewise_linear(critic),
        own_sample=_is_independent_of_other_rows(critic, x, labels),
        gradient_norms=_quantiles(gradient_norms),
        raw_norms=_quantiles(norms(critic_gradient)),
        above_one=(gradient_norms > 1 + GRADIENT_TOLERANCE).double().mean().item(),
        largest_score=value.abs().max().item(),
        slopes=tuple(measure_slopes(score, critic, x, labels, length) for length in lengths),
        layers=layers,
        certificate=certificate.constant,
        wasserstein=wasserstein,
        uncertified=certificate.refusal,
    )
    return replace(facts, verdict=verdict(facts))


def _certificate(
    score: Score, x: Tensor, labels: Tensor | None
) -> tuple[tuple[Layer, ...], Certificate]:
    """Return the norms of the critic's layers, and the Lipschitz constant that they prove."""
    critic = score.critic
    if not isinstance(critic, nn.Module):
        return (), Certificate(None, "the critic is no module")
    recording = record_calls(critic, x, labels)
    layers = measure_layers(critic, recording)
    if score.rule is not None:
        return layers, Certificate(None, "the score is normalised by its gradient")
    if labels is not None:
        return layers, Certificate(None, "the critic is conditional")
    return layers, certify(critic, recording, layers)


def _distances(
    critic: Critic, x: Tensor, other: Tensor | None, certificate: float | None
) -> tuple[float | None, float] | None:
    """Return the certified lower bound of W_1 between the rows, and its exact value."""
    if other is None:
        return None
    exact = exact_wasserstein(x.flatten(1), other.flatten(1))
    if not certificate:
        return None, exact
    return _score_difference(critic, x, other) / certificate, exact


@torch.no_grad()
def _score_difference(critic: Critic, x: Tensor, other: Tensor) -> float:
    """Return :math:`|E f(x) - E f(y)|`, in float64: rounded scores could exceed the bound."""
    assert isinstance(critic, nn.Module)
    precise_critic = copy.deepcopy(critic).double()
    difference = scores(precise_critic, x.double()).mean()
    difference -= scores(precise_critic, other.double()).mean()
    return difference.abs().item()


def _quantiles(values: Tensor) -> tuple[float, ...]:
    levels = torch.tensor(QUANTILES, dtype=torch.float64, device=values.device)
    return tuple(values.double().quantile(levels).tolist())


@torch.no_grad()
def _is_independent_of_other_rows(critic: Critic, x: Tensor, labels: Tensor | None) -> bool:
    """Return whether the first score is unchanged when the other rows of its batch change."""
    rows = x[:INDEPENDENCE_ROWS]
    row_labels = labels[:INDEPENDENCE_ROWS] if labels is not None else None
    changed_rows = torch.cat((rows[:1], rows[1:].flip(0) + 1))
    before = scores(critic, rows, row_labels)[0]
    after = scores(critic, changed_rows, row_labels)[0]
    return bool((before - after).abs() <= INDEPENDENCE_TOLERANCE * (1 + before.abs()))
