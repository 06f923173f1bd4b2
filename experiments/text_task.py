"""The text VAE as the training loop sees it: its batches, its objective, and what a validation measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from density.importance import estimate
from density.latent_use import active_units, mutual_information, shuffled_gap, verdict
from experiments.task import Progress
from univae.corpus import Corpus, token_batches
from univae.objective import Annealing, FreeBitsPer, annealed_weight, free_bits
from univae.text import PAD
from univae.vae import UniVAE

__all__ = ["Objective", "TextTask", "measure"]

CHUNK = 8  # importance samples decoded at once in a validation


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How the bound is trained, and what a validation looks at."""

    annealing: Annealing = "none"  # the KL's weight rises from 0 to 1: once (linear) or several times (cyclical)
    anneal_warmup: float = 0.3  # share of training (cyclical: of a cycle) over which it rises
    anneal_cycles: int = 4
    free_bits: float = 0.0  # nats of KL that cost nothing, per layer or per dimension
    free_bits_per: FreeBitsPer = "layer"
    batch_tokens: int = 4096  # padded tokens in a batch
    validation_texts: int = 256  # held-out texts a validation looks at
    validation_samples: int = 16  # importance samples per text in a validation


class TextTask:
    """Minimises the negative bound per target token over the texts with the indices ``train``."""

    def __init__(
        self, model: UniVAE, objective: Objective, seed: int, train: tuple[Corpus, np.ndarray], held_out: Tensor
    ) -> None:
        self.module, self.objective, self.seed = model, objective, seed
        (self.corpus, self.train), self.held_out = train, held_out

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        cut = token_batches(self.corpus.lengths[self.train], self.objective.batch_tokens, self.seed, epoch)
        return [self.train[batch] for batch in cut]

    def load(self, item: np.ndarray) -> Tensor:
        return self.corpus.gather(item)

    def weight(self, batch: Tensor) -> int:
        return int((batch != PAD).sum())

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        o, bound = self.objective, self.module.elbo(batch)
        weight = annealed_weight(progress.fraction, o.annealing, o.anneal_warmup, o.anneal_cycles)
        loss = weight * free_bits(bound, o.free_bits, o.free_bits_per) - bound.log_likelihood.sum()
        return loss, {
            "reconstruction_nats_per_token": -bound.log_likelihood.sum(),
            "kl_nats_per_token": bound.kl.sum(),
        }

    def validate(self, progress: Progress) -> dict[str, Any]:
        found = measure(self.module, self.held_out, self.objective.validation_samples)
        return {"selection": found["nll_nats"], **found}


@torch.no_grad()
def measure(model: UniVAE, texts: Tensor, samples: int, compared: int = 64) -> dict[str, Any]:
    """Likelihood, bound and use of the latent on texts (N, T), means per text in nats.

    ``nll_nats`` is an importance-sampled estimate; ``elbo_nats`` = - ``reconstruction_nats`` - sum of ``kl_nats`` a
    bound from one draw. ``nll_standard_error`` is over texts, ``nll_monte_carlo_error`` over draws; the latter means
    little for the share ``khat_above_0.7`` of texts, whose estimate is still a loose lower bound (all, where draws are
    too few to tell). Units are active by the variance of the modes, each layer's computed from the modes before it.
    Information and gap look at the first ``compared`` texts, the information at all pairs of them. Expects
    ``model.eval()``.
    """
    texts = texts.to(next(model.parameters()).device)
    scored = [estimate(model, part, samples, chunk=CHUNK) for part in _trimmed(texts)]
    columns = ("log_likelihood", "standard_error", "effective_samples", "khat")
    log_p, error, effective, khat = (torch.cat([getattr(s, name) for s in scored]) for name in columns)
    bounds = [model.elbo(part) for part in _trimmed(texts)]
    kl = torch.cat([bound.kl for bound in bounds]).mean(0)
    reconstruction = -torch.cat([bound.log_likelihood for bound in bounds]).mean().item()
    few = texts[:compared]
    information, gap = mutual_information(model, few, rows=1024), shuffled_gap(model, few, rows=64)
    units = active_units(model.posterior(texts).modes())
    tokens = int((texts != PAD).sum())

    return {
        "nll_nats": -log_p.mean().item(),
        "nll_standard_error": (log_p.std() / math.sqrt(len(log_p))).item(),
        "nll_monte_carlo_error": (error.square().sum().sqrt() / len(error)).item(),
        "effective_samples_median": effective.median().item(),
        "khat_above_0.7": (khat > 0.7).double().mean().item(),
        "bits_per_token": -log_p.sum().item() / tokens / math.log(2),
        "elbo_nats": -reconstruction - kl.sum().item(),
        "reconstruction_nats": reconstruction,
        "kl_nats": kl.tolist(),
        "active_units": units.count,
        "units": units.variances.numel(),
        "mutual_information_nats": information.nats,
        "mutual_information_ceiling_nats": information.ceiling,
        "shuffled_gap_nats": gap.nats,
        "shuffled_gap_standard_error": gap.standard_error,
        "samples": samples,
        "texts": len(texts),
        "verdict": verdict(information, gap),
    }


def _trimmed(texts: Tensor, rows: int = 32) -> list[Tensor]:
    """Batches without the columns that are padding for all of them."""
    return [part[:, : int((part != PAD).sum(1).max())] for part in texts.split(rows)]
