"""A trained GAN, opened from a run folder."""

from pathlib import Path

import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.data.readers import read
from experiments.data.records import without_rows
from experiments.gans.scaling import in_units_of
from experiments.training.distributed import pick_device
from experiments.training.run_folder import Run
from gan.players import Players
from univae.checkpoint import fill_weights, load_state, load_weights, read_json
from univae.errors import InputError
from univae.rules import reading

__all__ = ["COMMAND", "GanRun"]

COMMAND = "train-gan"  # the ``command`` in the config.json of a run


class GanRun:
    """The networks and the data record of a trained GAN.

    Args:
        path: the run folder.
        device: as for the option ``--device``.
        checkpoint: ``best`` or ``last``.
        average: use the moving average of the generator's weights, where the run has one.

    Raises:
        InputError: the folder is not a run of ``train-gan``, or is damaged.
    """

    def __init__(
        self, path: Path, device: str = "auto", checkpoint: str = "best", *, average: bool = True
    ) -> None:
        self.run = Run.open(path)
        if self.run.config.get("command") != COMMAND:
            raise InputError(f"{path} is not the run of a GAN; give the --out of train-gan")
        self.device = pick_device(device)
        folder = self.run.checkpoint(checkpoint)
        config = read_json(path / "model.json")
        with reading(path / "model.json"):
            self.players = Players(config)
        load_weights(self.players, folder / "model.safetensors")

        state = read_json(folder / "state.json")
        with reading(folder / "state.json"):
            self.step = int(state["step"])
        training_state = load_state(folder / "optimizer.pt")
        # model.safetensors has the average; the unaveraged weights are then stored beside it.
        self.has_average = "weights" in training_state
        if self.has_average and not average:
            fill_weights(self.players, training_state["weights"], folder / "optimizer.pt")
        self.players.to(self.device).eval()

    def units(self) -> Data:
        """Return the kind, shape and units of the data, without rows.

        A run of version 0.1.0 has no record of them: its data are read again.
        """
        record = self.run.data_record()
        if record:
            return without_rows(record["data"])
        return in_units_of(read(self.run.config["data"]), self.run)

    @property
    def classes(self) -> int:
        """The number of labels of conditional networks; 0 for others."""
        return self.players.generator.classes

    @torch.no_grad()
    def sample(self, z: Tensor, labels: Tensor | None = None, rows: int = 256) -> Tensor:
        """Return generated rows of latents (N, d) on the CPU, in float32.

        Conditional networks use ``labels`` (N,), by default all classes in turn. ``rows`` are
        generated at once, which bounds the memory.
        """
        if self.classes and labels is None:
            labels = torch.arange(len(z)) % self.classes
        blocks = []
        for start in range(0, len(z), rows):
            block = slice(start, start + rows)
            inputs = [z[block].to(self.device)]
            if labels is not None:
                inputs.append(labels[block].to(self.device))
            blocks.append(self.players.generator(*inputs))
        return torch.cat(blocks).float().cpu()
