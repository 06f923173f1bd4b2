"""A Pyro program with a discrete latent, a mixture of factor analysers, and its exact evidence.

    c ~ Categorical(pi),  z ~ N(0, I),  x ~ N(A_c z + b_c, diag(s_c^2))

Pyro trains it and enumerates the cluster c. The evidence is exact: a mixture of Gaussians with
covariance A_c A_c' + diag(s_c^2).

``python -m experiments.examples.pyro_mixture``
"""

from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import Categorical, LowRankMultivariateNormal, MixtureSameFamily

import density
from density.images.layers import GaussianMLP
from experiments.cli.commands import run
from experiments.data.readers import read
from experiments.evaluation.khat_shares import KhatShares
from univae.checkpoint import JsonObject
from univae.text.corpus import split

__all__ = ["Clusters", "Config", "main"]

HELD_OUT = 0.1  # fraction of the rows
HIDDEN = 64  # width of the encoder's hidden layer
LEARNING_RATE = 0.01


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a mixture of factor analysers on a table."""

    data: str = "wine"  # a table; its columns are standardised
    clusters: int = 3  # components of the mixture
    latent: int = 2  # width of the latent z
    steps: int = 1500  # optimizer steps, each on all rows
    samples: int = 1000  # importance samples per held-out row; more: smaller standard error
    seed: int = 0  # of the split, the initial weights and the random draws


class Clusters(PyroModule):
    """Model and guide; the guide has no cluster."""

    def __init__(self, columns: int, clusters: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.logits = nn.Parameter(torch.zeros(clusters))
        self.centres = nn.Parameter(torch.randn(clusters, columns))
        self.planes = nn.Parameter(0.1 * torch.randn(clusters, columns, latent))
        self.log_scale = nn.Parameter(torch.zeros(clusters, columns))
        self.encoder = GaussianMLP((columns, HIDDEN), latent, "tanh")

    @config_enumerate
    def model(self, x: Tensor) -> None:
        """Draw cluster, latent and row."""
        pyro.module("clusters", self)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1))
            mean = (self.planes[c] @ z.unsqueeze(-1)).squeeze(-1) + self.centres[c]
            pyro.sample("x", dist.Normal(mean, self.log_scale[c].exp()).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Draw the latent from the encoder's Gaussian."""
        gaussian = self.encoder(x).base_dist
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(gaussian.loc, gaussian.scale).to_event(1))

    @torch.no_grad()
    def evidence(self, x: Tensor) -> Tensor:
        """Return the exact log p(x) of every row."""
        variances = (2 * self.log_scale).exp()
        components = LowRankMultivariateNormal(self.centres, self.planes, variances)
        mixture = MixtureSameFamily(Categorical(logits=self.logits), components)
        log_evidence: Tensor = mixture.log_prob(x)
        return log_evidence


def main(config: Config) -> JsonObject:
    """Train on 90% of the rows; return scores of the others in nats per standardised row."""
    torch.manual_seed(config.seed)
    values = read(config.data).batch(slice(None))
    training_rows, held_out_rows = split(len(values), HELD_OUT, config.seed)
    mean = values[training_rows].mean(0)
    deviation = values[training_rows].std(0)
    x = (values[training_rows] - mean) / deviation
    held_out = (values[held_out_rows] - mean) / deviation

    program = Clusters(x.shape[1], config.clusters, config.latent)
    train(program, x, config.steps)
    model = density.from_pyro(program.model, program.guide)
    estimate = density.estimate(model, held_out, config.samples)
    exact = program.evidence(held_out)
    return {
        "count": len(held_out),
        "log_likelihood_nats": estimate.log_likelihood.mean().item(),
        "exact_nats": exact.mean().item(),
        "elbo_nats": estimate.elbo.mean().item(),
        "largest_error_nats": (estimate.log_likelihood - exact).abs().max().item(),
        "largest_standard_error_nats": estimate.standard_error.max().item(),
        "khat_above_0.7": KhatShares.of(estimate.khat, config.samples).above_07,
        "clusters": np.round(program.logits.softmax(0).tolist(), 3).tolist(),
    }


def train(program: Clusters, x: Tensor, steps: int) -> None:
    """Minimise Pyro's loss, with the cluster enumerated."""
    loss = TraceEnum_ELBO(max_plate_nesting=1)
    optimizer = torch.optim.Adam(program.parameters(), LEARNING_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        loss.differentiable_loss(program.model, program.guide, x).backward()
        optimizer.step()


if __name__ == "__main__":
    run(Config, main)
