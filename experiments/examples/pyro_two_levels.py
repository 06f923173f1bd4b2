"""A Pyro program with two levels of latents on digits, trained by Pyro's ELBO.

    z_2 ~ N(0, I),  z_1 ~ N(f(z_2)),  x ~ Bernoulli(g(z_1))
    guide: z_1 ~ N(h(x)),  z_2 ~ N(k(z_1))

``python -m experiments.examples.pyro_two_levels``
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn

import density
from density.estimation.proposals import Defensive, Posterior, Proposal
from density.images.layers import GaussianMLP, mlp
from experiments.cli.commands import run
from experiments.data.binarisation import binarise
from experiments.data.readers import read
from experiments.evaluation.khat_shares import KhatShares
from univae.checkpoint import JsonObject
from univae.text.corpus import split

__all__ = ["Config", "TwoLevels", "main"]

HELD_OUT = 0.1  # fraction of the images
SCORED = 100  # held-out images that are scored
LEARNING_RATE = 2e-3
# Proposals that need no reparametrisation by noise, which a guide does not have.
PROPOSALS: Mapping[str, Proposal] = {"posterior": Posterior(), "defensive": Defensive(0.9)}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a VAE with two layers of latents, written in Pyro."""

    data: str = "digits"  # images; their pixels are drawn black or white once
    latents: tuple[int, int] = (16, 4)  # widths of the lower and of the upper latent
    hidden: int = 128  # width of every hidden layer
    steps: int = 3000  # optimizer steps
    batch_size: int = 100  # images in a step
    samples: int = 200  # importance samples per held-out image; more: smaller standard error
    seed: int = 0  # of the pixels, the split, the initial weights and the random draws


class TwoLevels(PyroModule):
    """Model and guide over flat binary images."""

    def __init__(self, pixels: int, latents: tuple[int, int], hidden: int) -> None:
        super().__init__()
        self.latents = latents
        low, high = latents
        self.expect = GaussianMLP((high, hidden), low, "tanh")
        self.decoder = nn.Sequential(mlp((low, hidden), "tanh"), nn.Linear(hidden, pixels))
        self.infer_low = GaussianMLP((pixels, hidden), low, "tanh")
        self.infer_high = GaussianMLP((low, hidden), high, "tanh")

    def model(self, x: Tensor) -> None:
        """Draw the upper latent, the lower one and the image."""
        pyro.module("two_levels", self)
        with pyro.plate("data", len(x)):
            top = pyro.sample("z2", dist.Normal(x.new_zeros(self.latents[1]), 1.0).to_event(1))
            gaussian = self.expect(top).base_dist
            z = pyro.sample("z1", dist.Normal(gaussian.loc, gaussian.scale).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Draw the lower latent from the image, and the upper one from the lower."""
        low = self.infer_low(x).base_dist
        with pyro.plate("data", len(x)):
            z = pyro.sample("z1", dist.Normal(low.loc, low.scale).to_event(1))
            high = self.infer_high(z).base_dist
            pyro.sample("z2", dist.Normal(high.loc, high.scale).to_event(1))


def main(config: Config) -> JsonObject:
    """Train; return scores of held-out images by two proposals, in nats per image."""
    torch.manual_seed(config.seed)
    data = binarise(read(config.data), "static", config.seed)
    training_rows, held_out_rows = split(len(data), HELD_OUT, config.seed)
    x = data.batch(training_rows).flatten(1)
    held_out = data.batch(held_out_rows[:SCORED]).flatten(1)
    program = TwoLevels(x.shape[1], config.latents, config.hidden)
    train(program, x, config.steps, config.batch_size)

    model = density.from_pyro(program.model, program.guide)
    table = {}
    for name, proposal in PROPOSALS.items():
        estimate = density.estimate(model, held_out, config.samples, proposal=proposal)
        table[name] = {
            "log_likelihood_nats": estimate.log_likelihood.mean().item(),
            "elbo_nats": estimate.elbo.mean().item(),
            "effective_samples_median": estimate.effective_samples.median().item(),
            "khat_above_0.7": KhatShares.of(estimate.khat, config.samples).above_07,
        }
    return {"count": len(held_out), "samples": config.samples, "proposals": table}


def train(program: TwoLevels, x: Tensor, steps: int, batch_size: int) -> None:
    """Minimise Pyro's loss on random batches."""
    loss = Trace_ELBO()
    optimizer = torch.optim.Adam(program.parameters(), LEARNING_RATE)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (batch_size,))]
        optimizer.zero_grad()
        loss.differentiable_loss(program.model, program.guide, batch).backward()
        optimizer.step()


if __name__ == "__main__":
    run(Config, main)
