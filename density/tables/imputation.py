r"""Imputation of missing cells by self-normalised importance sampling.

.. math:: E[h(x_{\text{missing}}) \mid x_{\text{observed}}] \approx \sum_k \tilde w_k\,
          E[h(x_{\text{missing}}) \mid z_k], \qquad
          \tilde w_k \propto \frac{p(z_k)\, p(x_{\text{observed}} \mid z_k)}
          {q(z_k \mid x_{\text{observed}})}

References:
    MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets (Mattei & Frellsen,
    2019), https://arxiv.org/abs/1812.02633
"""

import torch
from jaxtyping import Float
from torch import Tensor

from density.likelihoods.columns import Rows
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["draw_missing", "impute"]

ROWS = 64  # rows whose samples are decoded at once: bounds the memory


@torch.no_grad()
def impute(
    model: LatentModel, x: Float[Tensor, "N columns"], samples: int = 1000
) -> Float[Tensor, "N columns"]:
    """Return rows with missing cells, NaN, filled; observed cells are unchanged.

    A number is its posterior mean, a count the rounded posterior mean, a category the most probable
    one, each under the self-normalised weights of ``samples`` samples of the latent.

    Raises:
        InputError: the model is not one of columns of several kinds, or ``samples`` is below 1.
    """
    filled = []
    for chunk in x.split(ROWS):
        z, weights = _weighted(model, chunk, samples)
        rows = _rows(model, z)
        averages = [
            torch.einsum("kb,kbcn->bcn", weights, statistic.to(weights.dtype))
            for statistic in rows.statistics()
        ]
        filled.append(_completed(chunk, rows.decide(averages)))
    return torch.cat(filled)


@torch.no_grad()
def draw_missing(
    model: LatentModel, x: Float[Tensor, "N columns"], samples: int = 1000
) -> Float[Tensor, "N columns"]:
    """Return rows whose missing cells are drawn together from their posterior, as estimated.

    One of the ``samples`` latents of a row is drawn by its weight, then the cells given it: several
    calls give a multiple imputation.

    Raises:
        InputError: the model is not one of columns of several kinds, or ``samples`` is below 1.
    """
    filled = []
    for chunk in x.split(ROWS):
        z, weights = _weighted(model, chunk, samples)
        chosen = torch.multinomial(weights.mT, 1).squeeze(-1)
        rows = _rows(model, z[chosen, torch.arange(len(chunk), device=z.device)])
        filled.append(_completed(chunk, rows.sample()))
    return torch.cat(filled)


def _weighted(model: LatentModel, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return latents (K, B, *E) of the posterior and their weights (K, B), which sum to one."""
    if samples < 1:
        raise InputError(f"impute: samples must be at least 1; got samples={samples}")
    q = model.posterior(x)
    z = q.sample(torch.Size((samples,)))
    log_joint = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    return z, (log_joint - q.log_prob(z)).double().softmax(0)


def _rows(model: LatentModel, z: Tensor) -> Rows:
    rows = model.likelihood(z)
    if not isinstance(rows, Rows):
        raise InputError(
            "impute: the model must be one of columns by name, which knows missing cells; "
            "train it on a .csv, .tsv, .parquet or data frame"
        )
    return rows


def _completed(x: Tensor, values: Tensor) -> Tensor:
    return torch.where(x.isnan(), values.to(x.dtype), x)
