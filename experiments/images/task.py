"""An image or table VAE as the training loop sees it: its batches, its objective, and what a validation measures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

import density
from density.images.base import DataModel
from density.likelihoods.bits import bits_per_dim
from experiments.data.arrays import Data, redraw
from experiments.evaluation.bounds import layered_bound
from experiments.evaluation.latent_model import measure
from experiments.evaluation.memory import draws_at_once
from experiments.training.task import Progress
from univae.errors import InputError
from univae.rules import Rule, at_least, check, within
from univae.vae.kl_weight import Annealing, annealed_weight

__all__ = ["DensityTask", "ImageObjective", "measure_images"]


Named = Literal["elbo", "iwae", "dreg", "stl", "miwae", "ciwae"]


@dataclass(frozen=True, kw_only=True)
class ImageObjective:
    """What is maximised, and what a validation looks at."""

    objective: Named = "elbo"
    k: int = 1  # samples of the latent per datum
    groups: int = 1  # of k samples each, with --objective miwae
    beta: float = 0.5  # share of the ELBO, with --objective ciwae
    # the KL's weight rises from 0 to 1, of --objective elbo: linear or cyclical
    annealing: Annealing = "none"
    anneal_warmup: float = 0.3  # share of training (cyclical: of a cycle) over which it rises
    anneal_cycles: int = 4
    # nats of KL per layer that cost nothing, on average over a batch; of --objective elbo
    free_bits: float = 0.0
    # dynamic: drawn anew at every visit; auto: dynamic, of real numbers none
    binarisation: Literal["none", "auto", "dynamic", "static", "threshold"] = "none"
    batch_size: int = 100
    validation_data: int = 500  # held-out data a validation looks at
    validation_samples: int = 64  # importance samples per datum in a validation

    RULES: ClassVar[Mapping[str, Rule]] = {
        "k": at_least(1, 10**6),
        "groups": at_least(1, 10**6),
        "beta": within("[0, 1]"),
        "anneal_warmup": within("(0, 1]", "a share of training"),
        "anneal_cycles": at_least(1, 10**6),
        "free_bits": at_least(0, 1e6, "0 or more"),
        "batch_size": at_least(1, 10**7),
        "validation_data": at_least(2, 10**7),
        "validation_samples": at_least(1, 10**6),
    }

    def __post_init__(self) -> None:
        check(self)
        if self.groups > 1 and self.objective != "miwae":
            raise InputError(f"groups must be 1 unless miwae; got groups={self.groups}")
        if self.annealing != "none" and self.objective != "elbo":
            raise InputError(
                f"annealing must be none unless the objective is elbo; got annealing={self.annealing}"
            )
        if self.free_bits and self.objective != "elbo":
            raise InputError(f"free_bits must be 0 unless elbo; got free_bits={self.free_bits}")


class DensityTask:
    """Maximises a bound on the log-likelihood of the data with the indices ``train``."""

    def __init__(
        self,
        model: DataModel,
        objective: ImageObjective,
        seed: int,
        train: tuple[Data, np.ndarray],
        held_out: Tensor,
        held_out_rows: np.ndarray | None = None,
    ) -> None:
        """Take ``held_out_rows``, which rows of their file the held-out ones are, to name them."""
        self.module = model
        self.objective = objective
        self.seed = seed
        self.data, self.train = train
        self.held_out = held_out
        self.held_out_rows = held_out_rows

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.train)
        return [
            order[i : i + self.objective.batch_size]
            for i in range(0, len(order), self.objective.batch_size)
        ]

    def load(self, item: np.ndarray) -> Tensor:
        x = self.data.batch(item)
        return redraw(x, self.data.levels) if self.objective.binarisation == "dynamic" else x

    def weight(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        if self.objective.objective == "elbo":
            return self._annealed(batch, progress)
        bound = _BOUNDS[self.objective.objective](self.module, batch, self.objective).sum()
        return -bound, {}

    def _annealed(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        o = self.objective
        log_p, kl = layered_bound(self.module, batch, o.k)
        weight = annealed_weight(progress.fraction, o.annealing, o.anneal_warmup, o.anneal_cycles)
        cost = kl.mean(0).clamp_min(o.free_bits).sum() * len(batch) if o.free_bits else kl.sum()
        return weight * cost - log_p.sum(), {
            "reconstruction_nats": -log_p.sum(),
            "kl_nats": kl.sum(),
        }

    def validate(self, progress: Progress) -> dict[str, Any]:
        samples = self.objective.validation_samples
        names = self.held_out_rows
        found = measure_images(self.module, self.held_out, samples, names=names)
        return {"selection": found["nll_nats"], **found}


_BOUNDS: dict[str, Callable[[DataModel, Tensor, ImageObjective], Tensor]] = {
    "iwae": lambda model, x, o: density.iwae(model, x, o.k),
    "dreg": lambda model, x, o: density.dreg(model, x, o.k),
    "stl": lambda model, x, o: density.stl(model, x, o.k),
    "miwae": lambda model, x, o: density.miwae(model, x, o.groups, o.k),
    "ciwae": lambda model, x, o: density.ciwae(model, x, o.k, o.beta),
}


@torch.no_grad()
def measure_images(
    model: DataModel, x: Tensor, samples: int, rows: int = 100, names: np.ndarray | None = None
) -> dict[str, Any]:
    """Likelihood, bound and use of the latent on data (N, ...): :func:`experiments.evaluation.latent_model.measure`,
    and bits/dim."""
    x = x.to(next(model.parameters()).device)
    chunk = draws_at_once(model, rows)
    parts = list(x.split(rows))
    found = measure(
        model, parts, samples, lambda part: layered_bound(model, part), chunk=chunk, names=names
    )
    pixels = model.output.pixels
    bits = bits_per_dim(
        -torch.tensor(found["nll_nats"], dtype=torch.float64), pixels.dims, pixels.nats
    )
    return found | {"bits_per_dim": bits.value.item(), "convention": bits.convention}
