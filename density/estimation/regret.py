r"""Likelihood regret: a score for detecting data unlike the training set.

.. math:: R(x) = \max_{m, s} \mathcal{L}(x; m, s) - \mathcal{L}(x; \text{encoder})

Raw likelihoods of simple images are above those of the training set; the gain from refining the
posterior of one datum on its bound does not depend on simplicity.

References:
    Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder (Xiao et
    al., 2020), https://arxiv.org/abs/2003.02977
    Do Deep Generative Models Know What They Don't Know? (Nalisnick et al., 2019),
    https://arxiv.org/abs/1810.09136
"""

import torch
from jaxtyping import Float
from torch import Tensor

from density.estimation.moved import Moved
from density.estimation.refined import Refined, bound
from density.model import LatentModel, as_data
from univae.errors import InputError

__all__ = ["likelihood_regret"]


@torch.no_grad()
def likelihood_regret(
    model: LatentModel,
    x: Tensor,
    steps: int = 100,
    lr: float = 0.05,
    particles: int = 16,
    draws: int = 256,
) -> Float[Tensor, "B"]:
    """Return the nats that ``steps`` of refinement add to the bound of each datum.

    Both bounds are means over the same ``draws``, which refinement did not use. The regret is 0
    where refinement does not raise the bound; with few draws a small gain may be negative.

    Raises:
        InputError: ``draws`` is less than 1, or inference mode is on.
    """
    if draws < 1:
        raise InputError(f"likelihood_regret: draws must be at least 1; got draws={draws}")
    x = as_data(x, "likelihood_regret")
    q = model.posterior(x)
    refined = Refined(steps, lr, particles=particles).refine(model, x, q)
    zeros = torch.zeros_like(refined.shift)
    unrefined = Moved(q, zeros, zeros)

    total = x.new_zeros(len(x), dtype=torch.float64)
    for start in range(0, draws, particles):
        count = min(particles, draws - start)
        noise = torch.randn(count, *zeros.shape)
        gain = bound(model, x, refined, noise) - bound(model, x, unrefined, noise)
        total += count * gain.double()
    return total / draws
