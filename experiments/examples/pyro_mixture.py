"""A Pyro program with a discrete latent: clusters with a plane each, trained by Pyro, scored here, checked exactly.

    c ~ Categorical(pi),  z ~ N(0, I),  x ~ N(A_c z + b_c, diag(s_c^2))

The cluster c is enumerated. The evidence is a mixture of Gaussians of covariance A_c A_c' +
diag(s_c^2), so that the estimate stands beside the truth. ``python -m
experiments.examples.pyro_mixture``
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import Categorical, LowRankMultivariateNormal, MixtureSameFamily

import density
from density.estimation.diagnostics import unreliable
from density.images.layers import GaussianMLP
from experiments.cli.commands import run
from experiments.data.readers import read
from univae.text.corpus import split

__all__ = ["Clusters", "Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A mixture of factor analysers on a table."""

    data: str = "wine"  # a table, standardised here
    clusters: int = 3
    latent: int = 2
    steps: int = 1500
    samples: int = 1000  # importance samples per held-out row
    seed: int = 0


class Clusters(PyroModule):
    """Model and guide; the guide knows no cluster."""

    def __init__(self, columns: int, clusters: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.logits = nn.Parameter(torch.zeros(clusters))
        self.centres = nn.Parameter(torch.randn(clusters, columns))
        self.planes = nn.Parameter(0.1 * torch.randn(clusters, columns, latent))
        self.log_scale = nn.Parameter(torch.zeros(clusters, columns))
        self.encoder = GaussianMLP((columns, 64), latent, "tanh")

    @config_enumerate
    def model(self, x: Tensor) -> None:
        pyro.module("clusters", self)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1))
            mean = (self.planes[c] @ z.unsqueeze(-1)).squeeze(-1) + self.centres[c]
            pyro.sample("x", dist.Normal(mean, self.log_scale[c].exp()).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        law = self.encoder(x).base_dist
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(law.loc, law.scale).to_event(1))

    @torch.no_grad()
    def evidence(self, x: Tensor) -> Tensor:
        """Exact log p(x) of every row."""
        parts = LowRankMultivariateNormal(self.centres, self.planes, (2 * self.log_scale).exp())
        return MixtureSameFamily(Categorical(logits=self.logits), parts).log_prob(x)


def main(config: Config) -> dict[str, Any]:
    """Train on nine tenths of the rows and scores the rest.

    Nats per row of the standardised table.
    """
    torch.manual_seed(config.seed)
    values = read(config.data).batch(slice(None))
    rows, held_out = split(len(values), 0.1, config.seed)
    mean = values[rows].mean(0)
    deviation = values[rows].std(0)
    x = (values[rows] - mean) / deviation
    other = (values[held_out] - mean) / deviation
    program = Clusters(x.shape[1], config.clusters, config.latent)
    loss = TraceEnum_ELBO(max_plate_nesting=1)
    optimizer = torch.optim.Adam(program.parameters(), 0.01)
    for _ in range(config.steps):
        optimizer.zero_grad()
        loss.differentiable_loss(program.model, program.guide, x).backward()
        optimizer.step()
    found = density.estimate(density.from_pyro(program.model, program.guide), other, config.samples)
    exact = program.evidence(other)
    return {
        "count": len(other),
        "log_likelihood_nats": found.log_likelihood.mean().item(),
        "exact_nats": exact.mean().item(),
        "elbo_nats": found.elbo.mean().item(),
        "largest_error_nats": (found.log_likelihood - exact).abs().max().item(),
        "largest_standard_error_nats": found.standard_error.max().item(),
        "khat_above_0.7": unreliable(found.khat).double().mean().item(),
        "clusters": np.round(program.logits.softmax(0).tolist(), 3).tolist(),
    }


if __name__ == "__main__":
    run(Config, main)
