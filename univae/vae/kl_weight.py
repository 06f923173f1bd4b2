r"""What a text VAE is trained on: the bound, with the remedies that keep the KL from vanishing.

Annealing and free bits change the objective of training only; a reported bound has weight 1 and no
floor.

References:
    Generating Sentences from a Continuous Space (Bowman et al., 2016),
    https://arxiv.org/abs/1511.06349 (linear) Cyclical Annealing Schedule (Fu et al., 2019),
    https://arxiv.org/abs/1903.10145 Improved Variational Inference with Inverse Autoregressive Flow
    (Kingma et al., 2016), https://arxiv.org/abs/1606.04934 (free bits)
"""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError
from univae.vae.model import Elbo

__all__ = ["Annealing", "FreeBitsPer", "annealed_weight", "free_bits"]

Annealing = Literal["none", "linear", "cyclical"]
FreeBitsPer = Literal["layer", "dimension"]


def annealed_weight(
    fraction: float, annealing: Annealing, warmup: float = 0.3, cycles: int = 4
) -> float:
    r"""Return the weight of the KL after ``fraction`` in [0, 1] of training.

    ``linear`` rises from 0 to 1 over the first ``warmup`` of training and stays. ``cyclical`` does
    so in each of ``cycles`` equal parts of training, ``warmup`` then being a share of a part.

    Raises:
        InputError: for an unknown annealing, ``warmup`` outside (0, 1] or ``cycles`` < 1.

    >>> [annealed_weight(fraction, "linear", warmup=0.5) for fraction in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.5, 1.0, 1.0]
    """
    if annealing not in get_args(Annealing) or not 0 < warmup <= 1 or cycles < 1:
        raise InputError(
            f"annealed_weight: annealing is one of {', '.join(get_args(Annealing))}, 0 < warmup <= 1, cycles >= 1; "
            f"got annealing={annealing!r}, warmup={warmup}, cycles={cycles}"
        )
    if annealing == "none":
        return 1.0
    if annealing == "cyclical":
        fraction = 1.0 if fraction >= 1 else fraction * cycles % 1
    return min(1.0, fraction / warmup)


def free_bits(elbo: Elbo, nats: float, per: FreeBitsPer = "layer") -> Float[Tensor, ""]:
    r"""Return the batch's KL, summed, with a floor: :math:`B \sum_j \max(\lambda, \frac1B \sum_i \mathrm{KL}_{ij})`.

    j runs over latent layers, or over every coordinate of them; below the floor the KL is free, so
    nothing pulls it to zero. ``nats`` = 0 is the plain sum.

    Raises:
        InputError: per dimension without coordinates of their own: a von Mises-Fisher latent has
            one KL a layer.
    """
    if per not in get_args(FreeBitsPer):
        raise InputError(
            f"free_bits: per is one of {', '.join(get_args(FreeBitsPer))}; got per={per!r}"
        )
    kl = elbo.kl
    if per == "dimension" and nats:
        if elbo.kl_dimensions is None:
            raise InputError(
                "free_bits: a vmf latent has no KL per dimension; got per='dimension'; choose per='layer'"
            )
        kl = elbo.kl_dimensions
    return kl.mean(0).clamp_min(nats).sum() * kl.shape[0]
