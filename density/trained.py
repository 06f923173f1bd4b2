"""A trained VAE of images or rows of a table: samples, codes and reconstructions."""

import numpy as np
import torch
from torch import Tensor

from density.images.base import DataModel
from density.images.registry import build
from density.tables.columns import Columns
from univae.checkpoint import load_weights, read_json
from univae.rules import reading
from univae.run_folder import RunFolder
from univae.trained import Trained

__all__ = ["TrainedDensity"]

ROWS = 100  # rows encoded or decoded at once: bounds the memory


class TrainedDensity(Trained):
    """An image or table VAE.

    Its methods take and return rows x (N, \\*shape) in the units of the model: grey levels 0, 1,
    ..., or real numbers (columns less their mean in the training set).
    """

    kind = "train-density"
    description = "an image or table model"

    def __init__(
        self, folder: RunFolder, device: torch.device, checkpoint: str, model: DataModel
    ) -> None:
        super().__init__(folder, device, checkpoint)
        self.model = model
        self.columns = _columns(folder)  # the schema of a table with named columns

    @classmethod
    def read(cls, folder: RunFolder, device: torch.device, checkpoint: str) -> "TrainedDensity":
        """Read ``model.json`` and the weights of a checkpoint."""
        path = folder.path / "model.json"
        config = read_json(path)
        with reading(path):
            model = build(config)
        run = cls(folder, device, checkpoint, model)
        load_weights(model, run.weights)
        model.to(device).eval()
        return run

    @torch.inference_mode()
    def sample(self, count: int) -> Tensor:
        """Draw rows (count, \\*shape) on the CPU: a latent from the prior, then its pixels."""
        rows = []
        for start in range(0, count, ROWS):
            size = min(ROWS, count - start)
            z = self.model.prior().sample(torch.Size((size,)))
            rows.append(self.model.likelihood(z).sample().cpu())
        return torch.cat(rows)

    @torch.inference_mode()
    def modes(self, x: Tensor) -> Tensor:
        """Return the codes (N, d): the posterior's mode, each layer given the modes before it."""
        codes = []
        for chunk in torch.split(x, ROWS):
            posterior = self.model.posterior(chunk.to(self.device))
            codes.append(posterior.modes() if hasattr(posterior, "modes") else posterior.mode)
        return torch.cat(codes)

    def encode(self, x: Tensor) -> np.ndarray:
        """Return the codes of rows, (N, d) float32, see :meth:`modes`."""
        return self.modes(x).float().cpu().numpy()

    @torch.inference_mode()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return a reconstruction of every row, on the CPU.

        It is the mean of the pixels given the row's code, or a draw where pixels depend on each
        other and their mean is not known.
        """
        rows = []
        for codes in torch.split(self.modes(x), ROWS):
            likelihood = self.model.likelihood(codes)
            try:
                rows.append(likelihood.mean.cpu())
            except NotImplementedError:
                rows.append(likelihood.sample().cpu())
        return torch.cat(rows)


def _columns(folder: RunFolder) -> Columns | None:
    """Return the schema in the data record of a run, or None."""
    stored = folder.data_record().get("data", {}).get("columns")
    return None if stored is None else Columns.from_json(stored)
