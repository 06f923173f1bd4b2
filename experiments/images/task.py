"""The training of an image or table VAE: options, batches, loss and validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Doc

from density.images.base import DataModel
from density.likelihoods.bits import bits_per_dim
from experiments.data.arrays import Data
from experiments.evaluation.bounds import layered_bound
from experiments.evaluation.latent_model import codes, measure
from experiments.evaluation.memory import samples_at_once
from experiments.images.binarisation import BINARISATIONS, BinarisationName
from experiments.images.bounds import BOUNDS, BoundName, check_options
from experiments.training.held_out_task import HeldOutTask
from experiments.training.task import SHOWN_VECTORS, Progress, Shown
from experiments.training.units import Units
from univae.checkpoint import JsonObject
from univae.registry import choices_help
from univae.rules import Rule, at_least, check, within
from univae.vae.kl_weight import ANNEALINGS, KL_WEIGHT, Annealing

__all__ = ["DensityTask", "ImageObjective", "measure_images"]


@dataclass(frozen=True, kw_only=True)
class ImageObjective:
    """The bound to maximise, the size of a batch, and the size of validations."""

    objective: Annotated[BoundName, Doc(choices_help("bound to maximise", BOUNDS))] = "elbo"
    k: int = 1  # samples of the latent per row: more tighten the bound and take time
    groups: int = 1  # with --objective multiply-iwae: groups of --k samples each
    beta: float = 0.5  # with --objective ciwae: share of the ELBO in the bound
    # with --objective elbo: weight of the KL in training, that of validations stays 1; below 1:
    # better reconstructions, above 1: fewer nats in the latents
    kl_weight: float = 1.0
    annealing: Annotated[
        Annealing,
        Doc(choices_help("with --objective elbo: factor of --kl-weight", ANNEALINGS)),
    ] = "none"
    # with --annealing: share of training (cyclical: of a cycle) over which the weight rises
    anneal_warmup: float = 0.3
    anneal_cycles: int = 4  # with --annealing cyclical: number of cycles in training
    # with --objective elbo: nats of KL per latent layer without cost, on average over a batch; 0:
    # none
    free_bits: float = 0.0
    binarisation: Annotated[
        BinarisationName,
        Doc(choices_help("when grey levels become black or white", BINARISATIONS)),
    ] = "none"
    batch_size: int = 100  # images or rows in a batch; more take more memory
    validation_data: int = 500  # held-out images or rows of a validation
    # importance samples per row in a validation; more tighten its likelihood and take time
    validation_samples: int = 64

    RULES: ClassVar[Mapping[str, Rule]] = {
        "k": at_least(1, 10**6),
        "groups": at_least(1, 10**6),
        "beta": within("[0, 1]"),
        "kl_weight": KL_WEIGHT,
        "anneal_warmup": within("(0, 1]", "a share of training"),
        "anneal_cycles": at_least(1, 10**6),
        "free_bits": at_least(0, 1e6, "0 or more"),
        "batch_size": at_least(1, 10**7),
        "validation_data": at_least(2, 10**7),
        "validation_samples": at_least(1, 10**6),
    }

    def __post_init__(self) -> None:
        check(self)
        check_options(self.objective, self)


class DensityTask(HeldOutTask):
    """Maximise a bound on the log-likelihood of the training set.

    Args:
        model: the model to train.
        objective: the bound, batch size and validations.
        seed: of the order of the rows.
        train: a data set, and the indices of its rows to train on.
        held_out: the rows of validations, as the model takes them.
        held_out_rows: which rows of their file these are, to name them in reports.
    """

    def __init__(
        self,
        model: DataModel,
        objective: ImageObjective,
        seed: int,
        train: tuple[Data, np.ndarray],
        held_out: Tensor,
        held_out_rows: np.ndarray | None = None,
    ) -> None:
        super().__init__(held_out)
        self.module = model
        self.objective = objective
        self.seed = seed
        self.data, self.train = train
        self.held_out_rows = held_out_rows

    @property
    def units(self) -> Units:
        """The words for its data."""
        return Units("image", "images") if self.data.is_images else Units("row", "rows")

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the indices of the rows of every batch, in an order drawn for the epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.train)
        size = self.objective.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def load(self, item: np.ndarray) -> Tensor:
        """Return the rows of a batch, drawn black or white where --binarisation is dynamic."""
        x = self.data.batch(item)
        return BINARISATIONS[self.objective.binarisation].visit(x, self.data.levels)

    def weight(self, batch: Tensor) -> int:
        """Return the number of rows of a batch."""
        return len(batch)

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum to minimise over a batch, in nats, and its parts by name."""
        bound = BOUNDS[self.objective.objective]
        return bound.loss(self.module, batch, self.objective, progress.fraction)

    def measure(self, held_out: Tensor) -> JsonObject:
        """Return the metrics of held-out rows; see :func:`measure_images`."""
        samples = self.objective.validation_samples
        return measure_images(self.module, held_out, samples, names=self.held_out_rows)

    def shown(self) -> Shown:
        """Return the latents of held-out rows, named by their rows."""
        x = self.held_out[:SHOWN_VECTORS].to(next(self.module.parameters()).device)
        rows = range(len(x)) if self.held_out_rows is None else self.held_out_rows[: len(x)]
        return Shown(codes(self.module, x).flatten(1), [f"row {row}" for row in rows])


@torch.no_grad()
def measure_images(
    model: DataModel, x: Tensor, samples: int, rows: int = 100, names: np.ndarray | None = None
) -> JsonObject:
    """Return likelihood, bound and use of the latents, and bits per dimension.

    Args:
        model: an image or table model.
        x: rows (N, *shape).
        samples: importance samples per row.
        rows: rows evaluated at once.
        names: which rows of their file these are.
    """
    x = x.to(next(model.parameters()).device)
    metrics = measure(
        model,
        list(x.split(rows)),
        samples,
        lambda chunk: layered_bound(model, chunk),
        chunk=samples_at_once(model, rows),
        names=names,
    ).to_json()
    pixels = model.output.pixels
    log_likelihood = -torch.tensor(metrics["nll_nats"], dtype=torch.float64)
    bits = bits_per_dim(log_likelihood, pixels.dims, pixels.nats)
    return metrics | {"bits_per_dim": bits.value.item(), "convention": bits.convention}
