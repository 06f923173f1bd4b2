r"""What holds a critic: gradient penalties, weight clipping, and which of them makes sense with what.

.. math::
    \text{GP}: \; \lambda E (\|\nabla f(\tilde x)\| - 1)^2, \quad
    \text{LP}: \; \lambda E (\|\nabla f(\tilde x)\| - 1)_+^2, \quad
    \text{R1, R2}: \; \tfrac{\gamma}{2} E \|\nabla f\|^2, \quad
    \text{div}: \; \tfrac{k}{2} E (\|\nabla f(x)\|^p + \|\nabla f(y)\|^p)

:math:`\tilde x = u x + (1 - u) y` with one u per pair; R1 looks at real x, R2 at generated y. Norms
are per sample, over all coordinates, in at least float32.

.. math:: \text{consistency}: \; \lambda E (\hat f(T(x)) - \hat f(x))^2

of the score :math:`\hat f` that the loss sees, at real x: the critic's score should not tell a real
image from the same image moved by up to an eighth of each side (:mod:`gan.augment`). Unlike in
DiffAugment, the loss itself still sees the images as they are.

References:
    Improved Training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028
    On the regularization of Wasserstein GANs (Petzka et al., 2017),
    https://arxiv.org/abs/1709.08894 Which Training Methods for GANs do actually Converge?
    (Mescheder et al., 2018), https://arxiv.org/abs/1801.04406 Wasserstein Divergence for GANs (Wu
    et al., 2017), https://arxiv.org/abs/1712.01026 Consistency Regularization for Generative
    Adversarial Networks (Zhang et al., 2020), https://arxiv.org/abs/1910.12027 Gradient
    Normalization for Generative Adversarial Networks (Wu et al., 2021), whose best numbers have it:
    https://arxiv.org/abs/2109.02235
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.losses import LossName
from gan.normalization.gradient import Critic, differentiate, norms
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = [
    "PENALTY",
    "Normalization",
    "Penalties",
    "clip_weights",
    "consistency_penalty",
    "divergence_penalty",
    "gradient_penalty",
    "refuse_combination",
    "zero_centred",
]


Normalization = Literal["none", "gn", "gran"]

PENALTY = at_least(0, 1e9, "0 (not used) or more")  # the rule of a penalty's weight


@dataclass(frozen=True, kw_only=True)
class Penalties:
    """Weights of the penalties, 0 for those not used."""

    gp: float = 0.0  # 10 in the paper
    lp: float = 0.0  # 10 in the paper
    r1: float = 0.0  # gamma
    r2: float = 0.0
    div: float = 0.0  # k, 2 in the paper
    clip: float = 0.0  # largest absolute weight, 0.01 in the paper
    cr: float = 0.0  # of consistency (gan.penalties), 5 in the paper of gn

    RULES: ClassVar[Mapping[str, Rule]] = dict.fromkeys(
        ("gp", "lp", "r1", "r2", "div", "clip", "cr"), PENALTY
    )

    def __post_init__(self) -> None:
        check(self)

    def used(self) -> list[str]:
        """The names of those with a weight."""
        return [field.name for field in fields(self) if getattr(self, field.name) > 0]


def refuse_combination(
    loss: LossName,
    normalization: Normalization,
    penalties: Penalties,
    spectral: bool,
    generator_ratio: int = 1,
) -> None:
    """Refuse what cannot work, with the reason; ``spectral``: the critic has spectral norm."""
    used = [name for name in penalties.used() if name != "cr"]  # consistency bounds no gradient
    normalized = normalization != "none"
    toward_one = [name for name in used if name in ("gp", "lp", "div", "clip")]
    rules: Sequence[tuple[bool, str]] = (
        (
            normalized and bool(toward_one),
            f"{', '.join(toward_one)} with {normalization}: the normalised score has a gradient of its own, "
            "(n / (n + |f|))^2 <= 1 for gn, and is blind to the scale of the weights; take r1 or r2, or none",
        ),
        (
            loss == "wasserstein" and not normalized and not used and not spectral,
            "wasserstein with nothing that bounds the critic: its supremum is infinite; take gn, spectral, gp or lp",
        ),
        (
            penalties.div > 0 and loss != "wasserstein",
            f"div with {loss}: the divergence it belongs to is a difference of means; take loss=wasserstein, or r1",
        ),
        (
            penalties.clip > 0 and (len(used) > 1 or spectral),
            "clip with another constraint: clipping is all of the constraint there is; take one of them",
        ),
        (
            penalties.gp > 0 and penalties.lp > 0,
            "gp with lp: two rules for the same gradient; take one of them",
        ),
        (
            loss == "relativistic" and generator_ratio > 1,
            "relativistic with generator_ratio > 1: every generated datum is paired with a real one; take 1",
        ),
    )
    for broken, reason in rules:
        if broken:
            raise InputError(f"this combination makes no sense: {reason}")


def gradient_penalty(
    critic: Critic,
    real: Float[Tensor, "batch *shape"],
    fake: Float[Tensor, "batch *shape"],
    labels: Tensor | None = None,
    *,
    one_sided: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""Return :math:`E (\|\nabla f(\tilde x)\| - 1)^2` between pairs.

    ``one_sided`` counts only norms above 1 (LP).
    """
    if len(real) != len(fake):
        raise InputError(
            f"gradient_penalty: needs as many generated data as real; got {len(fake)} for {len(real)}"
        )
    u = torch.rand(
        len(real), *[1] * (real.ndim - 1), generator=generator, device=real.device, dtype=real.dtype
    )
    between = (u * real + (1 - u) * fake).detach()
    excess = norms(differentiate(critic, between, labels)[1]) - 1
    return (excess.clamp_min(0) if one_sided else excess).square().mean()


def zero_centred(
    critic: Critic, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
) -> Float[Tensor, ""]:
    r"""Return :math:`\frac{1}{2} E \|\nabla f(x)\|^2`, of real x for R1 and of generated x for R2."""
    return differentiate(critic, x.detach(), labels)[1].flatten(1).square().sum(1).mean() / 2


def divergence_penalty(
    critic: Critic,
    real: Float[Tensor, "n *shape"],
    fake: Float[Tensor, "m *shape"],
    labels: tuple[Tensor, Tensor] | None = None,
    *,
    p: float = 6.0,
) -> Float[Tensor, ""]:
    r"""Return :math:`\frac{1}{2} E (\|\nabla f(x)\|^p + \|\nabla f(y)\|^p)` of WGAN-div, at the data themselves."""
    own, other = labels if labels is not None else (None, None)
    sides = ((real, own), (fake, other))
    found = [norms(differentiate(critic, x.detach(), of)[1]).pow(p).mean() for x, of in sides]
    return (found[0] + found[1]) / 2


@torch.no_grad()
def clip_weights(critic: nn.Module, bound: float) -> None:
    """Cut every parameter to [-bound, bound]: the first WGAN's constraint, here as the baseline it is."""
    for parameter in critic.parameters():
        parameter.clamp_(-bound, bound)


def consistency_penalty(
    score: Critic,
    real: Float[Tensor, "batch *shape"],
    change: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
) -> Float[Tensor, ""]:
    r"""Return :math:`E (\hat f(T(x)) - \hat f(x))^2` for :math:`T` = ``change``, in one pass of the score."""
    both = torch.cat((labels, labels)) if labels is not None else None
    changed, still = score(torch.cat((change(real), real)), both).chunk(2)
    return (changed - still).square().mean()
