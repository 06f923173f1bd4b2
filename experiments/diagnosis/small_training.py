"""A small training, of the size of ``train-text --preset tiny``, whose steps a second are measured.

Its operations are short, so that threads wait for each other often: where a machine is busy, or
threads wait in the wrong way, it suffers first.
"""

import time

import torch

from univae.text.special import RESERVED
from univae.vae.model import UniVAE, UniVAEConfig

__all__ = ["SmallTraining"]

VOCABULARY = 2048
TEXTS = 32  # of a batch
LENGTH = 32  # tokens of a text
WARMUP = 3  # steps that are not measured: the first ones are slower


class SmallTraining:
    """Steps of AdamW on the bound of a small text VAE, on random texts."""

    def __init__(self) -> None:
        self.model = UniVAE(
            UniVAEConfig(
                VOCABULARY,
                width=128,
                heads=4,
                layers=3,
                latent_layers=2,
                latent_width=16,
                max_length=LENGTH,
            )
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.ids = torch.randint(RESERVED, VOCABULARY, (TEXTS, LENGTH))
        for _ in range(WARMUP):
            self.step()

    def step(self) -> None:
        """Take one step."""
        self.optimizer.zero_grad()
        bound = self.model.elbo(self.ids)
        loss = (bound.kl.sum() - bound.log_likelihood.sum()) / self.ids.numel()
        loss.backward()
        self.optimizer.step()

    def steps_per_second(self, seconds: float, threads: int) -> float:
        """Return the speed of a training of that many seconds, one step at least.

        Args:
            seconds: wall-clock time.
            threads: number of threads of PyTorch, which stays afterwards.
        """
        torch.set_num_threads(threads)
        self.step()  # starts the threads
        start = time.perf_counter()
        count = 0
        elapsed = 0.0
        while elapsed < seconds or count == 0:
            self.step()
            count += 1
            elapsed = time.perf_counter() - start
        return count / elapsed
