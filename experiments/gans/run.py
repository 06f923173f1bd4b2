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

__all__ = ["GanRun"]


class GanRun:
    """What the commands that use a trained GAN share.

    ``average``: the generator's moving average, if it has one.
    """

    def __init__(
        self, path: Path, device: str = "auto", checkpoint: str = "best", average: bool = True
    ) -> None:
        self.run = Run.open(path)
        if self.run.config.get("command") != "train-gan":
            raise InputError(f"{path} is not the run of a GAN; give the --out of train-gan")
        self.device, folder = pick_device(device), self.run.checkpoint(checkpoint)
        described = read_json(path / "model.json")
        with reading(path / "model.json"):
            self.players = Players(described)
        load_weights(self.players, folder / "model.safetensors")
        state = read_json(folder / "state.json")
        with reading(folder / "state.json"):
            self.step = int(state["step"])
        training = load_state(folder / "optimizer.pt")
        self.has_average = "weights" in training
        if self.has_average and not average:
            fill_weights(self.players, training["weights"], folder / "optimizer.pt")
        self.players.to(self.device).eval()

    def units(self) -> Data:
        """Return kind, shape and units of the data.

        A run of version 0.1.0 has to read them anew.
        """
        record = self.run.data_record()
        if record:
            return without_rows(record["data"])
        return in_units_of(read(self.run.config["data"]), self.run)

    @property
    def classes(self) -> int:
        """The number of labels that the networks take; 0 for none."""
        return self.players.generator.classes

    @torch.no_grad()
    def sample(self, z: Tensor, labels: Tensor | None = None, rows: int = 256) -> Tensor:
        """Generated data of latents (N, d), on the CPU."""
        generator = self.players.generator
        if self.classes and labels is None:
            labels = torch.arange(len(z)) % self.classes
        parts = z.split(rows)
        given = labels.split(rows) if labels is not None else [None] * len(parts)
        made = [
            generator(part.to(self.device), *((y.to(self.device),) if y is not None else ()))
            for part, y in zip(parts, given, strict=True)
        ]
        return torch.cat(made).float().cpu()
