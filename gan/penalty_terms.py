r"""Terms that bound a critic's gradient, and the clipping of its weights.

Norms are per row, over all coordinates, in at least float32. The registry of the terms, with the
papers, is :mod:`gan.penalties`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.normalization.derivatives import Critic, differentiate, norms
from univae.errors import InputError

__all__ = [
    "clip_weights",
    "consistency_penalty",
    "divergence_penalty",
    "gradient_penalty",
    "zero_centred",
]

# The power p of the gradient norm in WGAN-div, as in the paper.
DIVERGENCE_POWER = 6.0


def gradient_penalty(
    critic: Critic,
    real: Float[Tensor, "batch *shape"],
    fake: Float[Tensor, "batch *shape"],
    labels: Tensor | None = None,
    *,
    one_sided: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""Return :math:`E (\|\nabla f(\tilde x)\| - 1)^2` at :math:`\tilde x = u x + (1 - u) y`.

    One u in [0, 1] is drawn per pair of a real and a generated row. ``one_sided`` counts only norms
    above 1 (LP).

    Raises:
        InputError: the numbers of real and of generated rows differ.
    """
    if len(real) != len(fake):
        raise InputError(
            "gradient_penalty: needs as many generated rows as real ones; got "
            f"{len(fake)} for {len(real)}"
        )
    ones = [1] * (real.ndim - 1)
    u = torch.rand(len(real), *ones, generator=generator, device=real.device, dtype=real.dtype)
    between = (u * real + (1 - u) * fake).detach()
    _, gradient = differentiate(critic, between, labels)
    excess = norms(gradient) - 1
    if one_sided:
        excess = excess.clamp_min(0)
    return excess.square().mean()


def zero_centred(
    critic: Critic, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
) -> Float[Tensor, ""]:
    r"""Return :math:`\frac{1}{2} E \|\nabla f(x)\|^2`: R1 at real x, R2 at generated x."""
    _, gradient = differentiate(critic, x.detach(), labels)
    return gradient.flatten(1).square().sum(1).mean() / 2


def divergence_penalty(
    critic: Critic,
    real: Float[Tensor, "n *shape"],
    fake: Float[Tensor, "m *shape"],
    labels: tuple[Tensor, Tensor] | None = None,
    *,
    p: float = DIVERGENCE_POWER,
) -> Float[Tensor, ""]:
    r"""Return :math:`\frac{1}{2} E (\|\nabla f(x)\|^p + \|\nabla f(y)\|^p)` of WGAN-div.

    ``labels`` are those of the real and of the generated rows.
    """
    real_labels, fake_labels = labels if labels is not None else (None, None)
    _, real_gradient = differentiate(critic, real.detach(), real_labels)
    _, fake_gradient = differentiate(critic, fake.detach(), fake_labels)
    real_power = norms(real_gradient).pow(p).mean()
    fake_power = norms(fake_gradient).pow(p).mean()
    return (real_power + fake_power) / 2


@torch.no_grad()
def clip_weights(critic: nn.Module, bound: float) -> None:
    """Clamp every parameter to [-bound, bound], the constraint of the first WGAN."""
    for parameter in critic.parameters():
        parameter.clamp_(-bound, bound)


def consistency_penalty(
    score: Critic,
    real: Float[Tensor, "batch *shape"],
    change: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
) -> Float[Tensor, ""]:
    r"""Return :math:`E (\hat f(T(x)) - \hat f(x))^2` for :math:`T` = ``change``, in one pass."""
    both_labels = torch.cat((labels, labels)) if labels is not None else None
    changed_score, score_of_real = score(torch.cat((change(real), real)), both_labels).chunk(2)
    return (changed_score - score_of_real).square().mean()
