"""A Pyro program with two levels of latents on digits, trained by Pyro's ELBO and scored here.

    z_2 ~ N(0, I),  z_1 ~ N(f(z_2)),  x ~ Bernoulli(g(z_1)),    guide: z_1 ~ N(h(x)),  z_2 ~ N(k(z_1))

``python -m experiments.examples.pyro_two_levels``
"""

from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn

import density
from density.estimation.diagnostics import unreliable
from density.images.layers import GaussianMLP, mlp
from experiments.cli.commands import run
from experiments.data.binarisation import binarise
from experiments.data.readers import read
from univae.text.corpus import split

__all__ = ["Config", "TwoLevels", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A VAE with two stochastic layers, written in Pyro."""

    data: str = "digits"  # images, drawn black or white once
    latents: tuple[int, int] = (16, 4)
    hidden: int = 128
    steps: int = 3000
    batch_size: int = 100
    samples: int = 200  # importance samples per held-out image
    seed: int = 0


class TwoLevels(PyroModule):
    """Model and guide over flat binary images."""

    def __init__(self, pixels: int, latents: tuple[int, int], hidden: int) -> None:
        super().__init__()
        low, high = self.latents = latents
        self.expect = GaussianMLP((high, hidden), low, "tanh")
        self.decoder = nn.Sequential(mlp((low, hidden), "tanh"), nn.Linear(hidden, pixels))
        self.infer_low = GaussianMLP((pixels, hidden), low, "tanh")
        self.infer_high = GaussianMLP((low, hidden), high, "tanh")

    def model(self, x: Tensor) -> None:
        pyro.module("two_levels", self)
        with pyro.plate("data", len(x)):
            top = pyro.sample("z2", dist.Normal(x.new_zeros(self.latents[1]), 1.0).to_event(1))
            law = self.expect(top).base_dist
            z = pyro.sample("z1", dist.Normal(law.loc, law.scale).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        law = self.infer_low(x).base_dist
        with pyro.plate("data", len(x)):
            z = pyro.sample("z1", dist.Normal(law.loc, law.scale).to_event(1))
            law = self.infer_high(z).base_dist
            pyro.sample("z2", dist.Normal(law.loc, law.scale).to_event(1))


def main(config: Config) -> dict[str, Any]:
    """Train, then scores held-out images as they come and mixed with the prior; nats per image."""
    torch.manual_seed(config.seed)
    data = binarise(read(config.data), "static", config.seed)
    rows, held_out = split(len(data), 0.1, config.seed)
    x = data.batch(rows).flatten(1)
    other = data.batch(held_out[:100]).flatten(1)
    program = TwoLevels(x.shape[1], config.latents, config.hidden)
    loss = Trace_ELBO()
    optimizer = torch.optim.Adam(program.parameters(), 2e-3)
    for _ in range(config.steps):
        batch = x[torch.randint(len(x), (config.batch_size,))]
        optimizer.zero_grad()
        loss.differentiable_loss(program.model, program.guide, batch).backward()
        optimizer.step()
    model = density.from_pyro(program.model, program.guide)
    # the others shape noise, a guide draws itself
    proposals = {"posterior": None, "defensive": density.Defensive(0.9)}
    table = {}
    for name, proposal in proposals.items():
        found = density.estimate(model, other, config.samples, proposal=proposal)
        table[name] = {
            "log_likelihood_nats": found.log_likelihood.mean().item(),
            "elbo_nats": found.elbo.mean().item(),
            "effective_samples_median": found.effective_samples.median().item(),
            "khat_above_0.7": unreliable(found.khat).double().mean().item(),
        }
    return {"count": len(other), "samples": config.samples, "proposals": table}


if __name__ == "__main__":
    run(Config, main)
