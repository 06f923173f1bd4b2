r"""Training objectives from K weights a datum: bounds on :math:`\log p(x)` and their gradients.

Each function returns, per datum and in nats, a lower bound in expectation to be maximised: minimise
the negative mean. Its *value* is the bound at the draws; its *gradient* is the estimator named,
which is not always the derivative of the value. With :math:`w_k = p(x, z_k) / q(z_k)` and
:math:`\tilde w_k = w_k / \sum_j w_j`:

=============  ===================================  ================================================
function       value                                gradient
=============  ===================================  ================================================
elbo           :math:`\frac1K \sum \log w_k`        of the value
stl            the same                             of the value, the parameters of :math:`\log q`
                                                    constant
iwae           :math:`\log \frac1K \sum w_k`        of the value
dreg           the same                             decoder
                                                    :math:`\sum \tilde w_k \partial \log p(x, z_k)`,
                                                    encoder :math:`\sum \tilde w_k^2
                                                    \partial_z \log w_k\, \partial z_k`
multiply_iwae  the mean of iwae over M groups       of the value
ciwae          :math:`\beta` elbo +                 of the value
               :math:`(1 - \beta)` iwae
=============  ===================================  ================================================

All are unbiased for the gradient of the expected value. The signal of iwae's encoder gradient fades
as :math:`1 / \sqrt K`, that of dreg grows as :math:`\sqrt K`, and stl and dreg have no variance at
the exact posterior.

References:
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
    Sticking the Landing (Roeder et al., 2017), https://arxiv.org/abs/1703.09194
    Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
    https://arxiv.org/abs/1802.04537
    Doubly Reparameterized Gradient Estimators (Tucker et al., 2018),
    https://arxiv.org/abs/1810.04152
    MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets (Mattei & Frellsen,
    2019), https://arxiv.org/abs/1812.02633, which is another bound than multiply_iwae
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from density.estimation.importance import draw_log_weights, log_mean_weight, log_weights_of
from density.model import LatentModel, as_data
from univae.errors import InputError
from univae.latent.sampling import detached

__all__ = ["ciwae", "dreg", "elbo", "iwae", "miwae", "multiply_iwae", "stl"]


def elbo(model: LatentModel, x: Tensor, samples: int = 1) -> Float64[Tensor, "B"]:
    r"""Return :math:`\frac1K \sum_k \log w_k`: the evidence lower bound."""
    return _log_weights(model, x, samples).mean(0)


def iwae(model: LatentModel, x: Tensor, samples: int) -> Float64[Tensor, "B"]:
    r"""Return :math:`\log \frac1K \sum_k w_k`: the ELBO at K = 1, tighter at larger K."""
    return log_mean_weight(_log_weights(model, x, samples))


def multiply_iwae(model: LatentModel, x: Tensor, groups: int, samples: int) -> Float64[Tensor, "B"]:
    r"""Average the bound of ``samples`` weights over M ``groups``: more signal for the encoder.

    The multiply importance weighted auto-encoder of Rainforth et al. (2018), which they abbreviate
    MIWAE. It has its full name here because MIWAE now mostly means the bound of Mattei & Frellsen
    (2019) for data with missing values, which this is not. ``miwae`` is the same function.

    Raises:
        InputError: a count is below 1.
    """
    _require_counts("multiply_iwae", groups=groups, samples=samples)
    log_w = _log_weights(model, x, groups * samples).unflatten(0, (groups, samples))
    return log_mean_weight(log_w.movedim(1, 0)).mean(0)


miwae = multiply_iwae  # its name in version 0.1.0


def ciwae(model: LatentModel, x: Tensor, samples: int, beta: float) -> Float64[Tensor, "B"]:
    r"""Return :math:`\beta` of the ELBO plus :math:`1 - \beta` of the K-sample bound, same draws.

    Raises:
        InputError: ``beta`` is not in [0, 1].
    """
    if not 0 <= beta <= 1:
        raise InputError(
            f"ciwae: beta must lie in [0, 1]; got beta={beta}; 0 is iwae and 1 the elbo"
        )
    log_w = _log_weights(model, x, samples)
    return beta * log_w.mean(0) + (1 - beta) * log_mean_weight(log_w)


def stl(model: LatentModel, x: Tensor, samples: int = 1) -> Float64[Tensor, "B"]:
    r"""Return the ELBO, differentiable through the draws alone: without the score of q.

    The score :math:`\partial_\phi \log q_\phi(z)` at fixed z has mean zero; without it the gradient
    has no variance at the exact posterior.
    """
    _, log_w = _path_weights(model, x, samples)
    return log_w.mean(0)


def dreg(model: LatentModel, x: Tensor, samples: int) -> Float64[Tensor, "B"]:
    r"""Return the K-sample bound with the doubly reparametrised gradient; at K = 1, of :func:`stl`.

    The surrogate :math:`\sum_k \tilde w_k \log w_k`, the weights constant, gives the decoder its
    gradient. The gradient through :math:`z_k` to the encoder is multiplied by :math:`\tilde w_k`
    once more.
    """
    z, log_w = _path_weights(model, x, samples)
    weights = log_w.detach().softmax(0)
    if z.requires_grad:
        event_dims = [1] * (z.dim() - weights.dim())
        factor = weights.view(*weights.shape, *event_dims).to(z.dtype)
        z.register_hook(lambda gradient: gradient * factor)
    surrogate = (weights * log_w).sum(0)
    return surrogate + (log_mean_weight(log_w) - surrogate).detach()


def _log_weights(model: LatentModel, x: Tensor, samples: int) -> Float64[Tensor, "K B"]:
    _require_counts("objectives", samples=samples)
    x = as_data(x, "objectives")
    q = model.posterior(x)  # before the prior: that of a Pyro model needs the data of a posterior
    return draw_log_weights(model, model.prior(), q, x, samples)


def _path_weights(
    model: LatentModel, x: Tensor, samples: int
) -> tuple[Tensor, Float64[Tensor, "K B"]]:
    r"""Return draws z with their log-weights, the parameters of :math:`\log q` constant."""
    _require_counts("objectives", samples=samples)
    x = as_data(x, "objectives")
    q = model.posterior(x)
    constant_q = detached(q)
    z = q.rsample(torch.Size((samples,)))
    return z, log_weights_of(model, model.prior(), q, x, z, constant_q.log_prob(z))


def _require_counts(who: str, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{who}: {name} must be at least 1; got {name}={count}")
