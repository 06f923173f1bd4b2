"""The training task of a text VAE: objective, batches, loss and validation."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Size, Tensor
from typing_extensions import Doc

from experiments.evaluation.latent_model import codes, measure
from experiments.text.token_task import TokenTask
from experiments.training.task import SHOWN_VECTORS, Progress, Shown
from univae.checkpoint import JsonObject
from univae.decoding.sampling import Sampling, generate
from univae.registry import choices_help
from univae.rules import Rule, at_least, check, within
from univae.text.corpus import Corpus
from univae.text.special import PAD
from univae.vae.kl_weight import (
    ANNEALINGS,
    FREE_BITS,
    KL_WEIGHT,
    Annealing,
    FreeBitsPer,
    annealed_weight,
    free_bits,
)
from univae.vae.model import UniVAE

__all__ = ["TextObjective", "TextTask", "measure_texts"]

CHUNK = 8  # importance samples decoded at once in a validation
COMPARED = 64  # texts of the mutual information, which compares all pairs of them
ROWS = 32  # texts evaluated at once
SHOWN_TEXTS = 8  # drawn, and decoded, for a tracker
GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True, kw_only=True)
class TextObjective:
    """The bound, the size of a batch, and the size of validations."""

    # weight of the KL in training, that of validations stays 1; below 1: better reconstructions,
    # above 1: fewer nats in the latents
    kl_weight: float = 1.0
    annealing: Annotated[
        Annealing, Doc(choices_help("factor of --kl-weight, against a vanishing KL", ANNEALINGS))
    ] = "none"
    # with --annealing: share of training (cyclical: of a cycle) over which the weight rises
    anneal_warmup: float = 0.3
    anneal_cycles: int = 4  # with --annealing cyclical: number of cycles in training
    free_bits: float = 0.0  # nats of KL without cost, on average over a batch; 0: none
    free_bits_per: Annotated[
        FreeBitsPer, Doc(choices_help("with --free-bits: KL without cost", FREE_BITS))
    ] = "layer"
    batch_tokens: int = 4096  # tokens in a batch, padding included; more take more memory
    validation_texts: int = 64  # held-out texts of a validation
    # importance samples per text in a validation; more tighten its likelihood and take time; from
    # 21 on the weights can be judged
    validation_samples: int = 64

    RULES: ClassVar[Mapping[str, Rule]] = {
        "kl_weight": KL_WEIGHT,
        "anneal_warmup": within("(0, 1]", "a share of training"),
        "anneal_cycles": at_least(1, 10**6),
        "free_bits": at_least(0, 1e6, "0 or more"),
        "batch_tokens": at_least(1, 10**8),
        "validation_texts": at_least(2, 10**6),
        "validation_samples": at_least(1, 10**6),
    }

    def __post_init__(self) -> None:
        check(self)


class TextTask(TokenTask[UniVAE]):
    """Minimise the negative bound per target token.

    Args:
        model: the model to train.
        objective: the bound, the size of batches and of validations.
        seed: of the order of the texts.
        train: a corpus, and the indices of its texts to train on.
        held_out: the texts of validations, padded ids (N, T).
        decode: returns the text of ids, for :meth:`shown`.
    """

    def __init__(
        self,
        model: UniVAE,
        objective: TextObjective,
        seed: int,
        train: tuple[Corpus, np.ndarray],
        held_out: Tensor,
        decode: Callable[[Tensor], str] = str,
    ) -> None:
        super().__init__(model, objective.batch_tokens, seed, train, held_out)
        self.objective = objective
        self.decode = decode

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum to minimise over a batch, in nats, and its parts by name."""
        o = self.objective
        bound = self.module.elbo(batch)
        weight = annealed_weight(
            progress.fraction, o.annealing, o.anneal_warmup, o.anneal_cycles, o.kl_weight
        )
        loss = weight * free_bits(bound, o.free_bits, o.free_bits_per) - bound.log_likelihood.sum()
        return loss, {
            "reconstruction_nats_per_token": -bound.log_likelihood.sum(),
            "kl_nats_per_token": bound.kl.sum(),
        }

    def measure(self, held_out: Tensor) -> JsonObject:
        """Return the metrics of held-out texts; see :func:`measure_texts`."""
        return measure_texts(self.module, held_out, self.objective.validation_samples)

    def shown(self) -> Shown:
        """Return the latents of held-out texts, drawn texts, and a few reconstructions."""
        model = self.module
        texts = self.held_out[:SHOWN_VECTORS].to(next(model.parameters()).device)
        latents = codes(model, texts)
        few = texts[:SHOWN_TEXTS]
        pairs = zip(few, self._written(latents[: len(few)], GREEDY), strict=True)
        drawn = model.prior().sample(Size((SHOWN_TEXTS,)))
        return Shown(
            latents.flatten(1),
            [" ".join(self.decode(text).split()) for text in texts],
            {
                "samples": self._written(drawn, Sampling()),
                "reconstructions": [f"{self.decode(text)} -> {again}" for text, again in pairs],
            },
        )

    def _written(self, z: Tensor, sampling: Sampling) -> list[str]:
        length = self.module.config.max_length
        ids = generate(self.module.decoder(z, length), len(z), length, sampling)
        return [self.decode(row) for row in ids]


@torch.no_grad()
def measure_texts(model: UniVAE, texts: Tensor, samples: int) -> JsonObject:
    """Return likelihood, bound and use of the latents on texts (N, T), and bits per token.

    Texts whose likelihood is not finite are left out of the means; ``not_finite`` holds their
    indices. See :func:`experiments.evaluation.latent_model.measure`.
    """
    texts = texts.to(next(model.parameters()).device)
    metrics = _metrics(model, texts, samples)
    left_out: JsonObject = {}
    for name in ("not_finite", "notes"):
        if name in metrics:
            left_out[name] = metrics[name]

    is_finite = torch.ones(len(texts), dtype=torch.bool)
    is_finite[left_out.get("not_finite", [])] = False
    if left_out and is_finite.any():
        # again: the mutual information of texts that are not finite is not finite
        texts = texts[is_finite.to(texts.device)]
        metrics = _metrics(model, texts, samples)
    tokens = int((texts != PAD).sum())
    bits_per_token = metrics["nll_nats"] * len(texts) / tokens / math.log(2)
    return {**metrics, "bits_per_token": bits_per_token, **left_out}


def _metrics(model: UniVAE, texts: Tensor, samples: int) -> JsonObject:
    batches = _trimmed(texts)
    compared = texts[:COMPARED]
    measured = measure(model, batches, samples, model.elbo, compared=compared, chunk=CHUNK)
    return measured.to_json()


def _trimmed(texts: Tensor) -> list[Tensor]:
    """Return batches without the columns that are padding in all of their rows."""
    batches = []
    for rows in texts.split(ROWS):
        longest = int((rows != PAD).sum(1).max())
        batches.append(rows[:, :longest])
    return batches
