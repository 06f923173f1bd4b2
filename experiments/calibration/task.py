r"""The task of a calibration: maximise the bound of a model as it is used.

.. math:: \mathbb{E}_{q(z \mid x)} \bigl[\log p(x \mid z) + \log p(z) - \log q(z \mid x)\bigr]

The model is in evaluation mode: without dropout, blanked words and batch statistics.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, cast, runtime_checkable

from torch import Tensor, nn

import density
from density.estimation.collapse import NEGLIGIBLE
from experiments.calibration.fits import Fit
from experiments.evaluation.bounds import layered_bound
from experiments.training.task import Item, Progress, SizedTask, Task
from experiments.training.units import Units, units_of
from univae.checkpoint import JsonObject

__all__ = ["CalibrationTask", "VaeTask"]

UNUSED = "calibration: the latent is not in use, so these weights are not kept"


@runtime_checkable
class VaeTask(Task[Item, Tensor], SizedTask, Protocol[Item]):
    """The training task of a VAE, whose batches are tensors of data."""

    @property
    def held_out(self) -> Tensor:
        """The data of validations."""
        ...


class CalibrationTask(Generic[Item]):
    """Fit a trained model, or a part of it, on the batches of its training.

    ``module`` holds the fitted parameters alone, which checkpoints save.

    Args:
        task: the training task, whose ``module`` has the weights to start from. All parameters
            but the fitted ones are frozen.
        fit: what is fitted.
        validation_rows: number of rows of a validation; 0: as of the training task.
    """

    def __init__(self, task: VaeTask[Item], fit: Fit, validation_rows: int = 0) -> None:
        self.task = task
        self.validation_rows = validation_rows or task.validation_rows
        self.fit = fit
        self.model = task.module.eval()
        self.vae = cast("density.LatentModel", self.model)
        device = next(self.model.parameters()).device
        fitted = fit.parameters(self.model, task.held_out[:1].to(device))
        self.model.requires_grad_(False)
        self.module = nn.Module()
        for name, parameter in fitted.items():
            parameter.requires_grad_()
            self.module.register_parameter(name.replace(".", "/"), parameter)

    @property
    def units(self) -> Units:
        """The words for its data."""
        return units_of(self.task)

    def batches(self, epoch: int) -> Sequence[Item]:
        """Return the batches of an epoch of the training."""
        return self.task.batches(epoch)

    def load(self, item: Item) -> Tensor:
        """Return the data of a batch."""
        return self.task.load(item)

    def weight(self, batch: Tensor) -> int:
        """Return the number of targets of a batch."""
        return self.task.weight(batch)

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative bound of a batch, summed, in nats."""
        bound = layered_bound(self.vae, batch)
        return bound.kl.sum() - bound.log_likelihood.sum(), {
            "reconstruction_nats": -bound.log_likelihood.sum(),
            "kl_nats": bound.kl.sum(),
        }

    def validate(self, progress: Progress) -> JsonObject:
        """Return the metrics of the training's validation; the highest bound is the best.

        A model whose latent has fallen out of use has no ``selection``, though its bound may be
        higher.
        """
        return self.validate_rows(progress, self.validation_rows)

    @property
    def fewest_rows(self) -> int:
        """The fewest rows of a validation."""
        return min(self.task.fewest_rows, self.validation_rows)

    def validate_rows(self, progress: Progress, rows: int) -> JsonObject:
        """Return the metrics of the first ``rows`` held-out rows."""
        metrics = dict(self.task.validate_rows(progress, rows))
        if self.fit.may_collapse and progress.step > 0 and not _uses_latent(metrics):
            notes = [*metrics.get("notes", []), UNUSED]
            return {**metrics, "selection": None, "unselected": "not selected", "notes": notes}
        return {**metrics, "selection": -metrics["elbo_nats"]}


def _uses_latent(metrics: JsonObject) -> bool:
    uses = (metrics["mutual_information_nats"], metrics["shuffled_gap_nats"])
    return all(use is not None and use > NEGLIGIBLE for use in uses)
