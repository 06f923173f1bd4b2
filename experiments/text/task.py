"""The text VAE as the training loop sees it: batches, objective and validation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from experiments.evaluation.latent_model import measure
from experiments.training.task import Progress
from univae.checkpoint import JsonObject
from univae.rules import Rule, at_least, check, within
from univae.text.corpus import Corpus, token_batches
from univae.text.special import PAD
from univae.vae.kl_weight import Annealing, FreeBitsPer, annealed_weight, free_bits
from univae.vae.model import UniVAE

__all__ = ["Objective", "TextTask", "measure_texts"]

CHUNK = 8  # importance samples decoded at once in a validation


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The bound, the size of a batch, and what a validation looks at."""

    # the KL's weight rises from 0 to 1: once (linear) or several times (cyclical)
    annealing: Annealing = "none"
    anneal_warmup: float = 0.3  # share of training (cyclical: of a cycle) over which it rises
    anneal_cycles: int = 4
    free_bits: float = 0.0  # nats of KL that cost nothing, per layer or per dimension
    free_bits_per: FreeBitsPer = "layer"
    batch_tokens: int = 4096  # padded tokens in a batch
    validation_texts: int = 256  # held-out texts a validation looks at
    validation_samples: int = 16  # importance samples per text in a validation

    RULES: ClassVar[Mapping[str, Rule]] = {
        "anneal_warmup": within("(0, 1]", "a share of training"),
        "anneal_cycles": at_least(1, 10**6),
        "free_bits": at_least(0, 1e6, "0 or more"),
        "batch_tokens": at_least(1, 10**8),
        "validation_texts": at_least(2, 10**6),
        "validation_samples": at_least(1, 10**6),
    }

    def __post_init__(self) -> None:
        check(self)


class TextTask:
    """Minimises the negative bound per target token over the texts with the indices ``train``."""

    def __init__(
        self,
        model: UniVAE,
        objective: Objective,
        seed: int,
        train: tuple[Corpus, np.ndarray],
        held_out: Tensor,
    ) -> None:
        self.module = model
        self.objective = objective
        self.seed = seed
        self.corpus, self.train = train
        self.held_out = held_out

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        cut = token_batches(
            self.corpus.lengths[self.train], self.objective.batch_tokens, self.seed, epoch
        )
        return [self.train[batch] for batch in cut]

    def load(self, item: np.ndarray) -> Tensor:
        return self.corpus.gather(item)

    def weight(self, batch: Tensor) -> int:
        return int((batch != PAD).sum())

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        o = self.objective
        bound = self.module.elbo(batch)
        weight = annealed_weight(progress.fraction, o.annealing, o.anneal_warmup, o.anneal_cycles)
        loss = weight * free_bits(bound, o.free_bits, o.free_bits_per) - bound.log_likelihood.sum()
        return loss, {
            "reconstruction_nats_per_token": -bound.log_likelihood.sum(),
            "kl_nats_per_token": bound.kl.sum(),
        }

    def validate(self, progress: Progress) -> JsonObject:
        numbers = measure_texts(self.module, self.held_out, self.objective.validation_samples)
        return {"selection": numbers["nll_nats"], **numbers}


@torch.no_grad()
def measure_texts(model: UniVAE, texts: Tensor, samples: int) -> JsonObject:
    """Return likelihood, bound and use of the latent on texts (N, T): see
    :func:`experiments.evaluation.latent_model.measure`.

    Texts whose likelihood is not finite are left out; ``not_finite`` holds their places among
    ``texts``.
    """
    texts = texts.to(next(model.parameters()).device)
    measured = measure(
        model, _trimmed(texts), samples, model.elbo, compared=texts[:64], chunk=CHUNK
    ).to_json()
    left_out: JsonObject = {
        name: measured[name] for name in ("not_finite", "notes") if name in measured
    }
    kept = torch.ones(len(texts), dtype=torch.bool)
    kept[left_out.get("not_finite", [])] = False
    if left_out and kept.any():
        texts = texts[kept.to(texts.device)]
        measured = measure(
            model, _trimmed(texts), samples, model.elbo, compared=texts[:64], chunk=CHUNK
        ).to_json()
    tokens = int((texts != PAD).sum())
    bits_per_token = measured["nll_nats"] * len(texts) / tokens / math.log(2)
    return {**measured, "bits_per_token": bits_per_token, **left_out}


def _trimmed(texts: Tensor, rows: int = 32) -> list[Tensor]:
    """Return batches without the columns that are padding in all of their rows."""
    return [part[:, : int((part != PAD).sum(1).max())] for part in texts.split(rows)]
