"""A trained GAN: generated images or rows of a table."""

from pathlib import Path

import torch
from torch import Tensor

from gan.players import Players
from univae.checkpoint import fill_weights, load_state, load_weights, read_json
from univae.rules import reading
from univae.run_folder import RunFolder
from univae.trained import Trained

__all__ = ["TrainedGan"]

ROWS = 256  # rows generated at once: bounds the memory
RAW_WEIGHTS = "weights"  # key in optimizer.pt; there where the weights file holds an average


class TrainedGan(Trained):
    """A generator and its critic, ``players``.

    The generator has the moving average of its weights if training kept one
    (``has_average``); :meth:`raw` has the last ones. Rows are in the units of the networks:
    images in [-1, 1], columns standardised.
    """

    kind = "train-gan"
    description = "a GAN"

    def __init__(
        self, folder: RunFolder, device: torch.device, checkpoint: str, players: Players
    ) -> None:
        super().__init__(folder, device, checkpoint)
        self.players = players
        self.step = 0  # generator steps trained
        self.has_average = False

    @classmethod
    def read(cls, folder: RunFolder, device: torch.device, checkpoint: str) -> "TrainedGan":
        """Read ``model.json``, the step, and the weights of a checkpoint."""
        path = folder.path / "model.json"
        config = read_json(path)
        with reading(path):
            players = Players(config)
        run = cls(folder, device, checkpoint, players)
        load_weights(players, run.weights)
        state_file = run.weights.with_name("state.json")
        state = read_json(state_file)
        with reading(state_file):
            run.step = int(state["step"])
        run.has_average = RAW_WEIGHTS in load_state(run._training_state)
        players.to(device).eval()
        return run

    def raw(self) -> "TrainedGan":
        """Return the run with the weights of its last step instead of their moving average.

        It is this object itself where training kept no average.
        """
        if not self.has_average:
            return self
        run = type(self).read(self.folder, self.device, self.checkpoint)
        weights = load_state(run._training_state)[RAW_WEIGHTS]
        fill_weights(run.players, weights, run._training_state)
        return run

    @property
    def classes(self) -> int:
        """The number of labels that the networks take; 0 for none."""
        return self.players.generator.classes

    @property
    def latent_width(self) -> int:
        """The number of features of a latent."""
        return self.players.generator.latent

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        """Generate rows (count, \\*shape), on the CPU, from standard normal latents.

        ``labels``: see :meth:`generate`.
        """
        return self.generate(torch.randn(count, self.latent_width), labels)

    @torch.no_grad()
    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate the rows of latents z (N, d), on the CPU.

        ``labels``: the class of each row, of a conditional GAN; by default every class in turn.
        """
        if self.classes and labels is None:
            labels = torch.arange(len(z)) % self.classes
        generator = self.players.generator
        rows = []
        for start in range(0, len(z), ROWS):
            chunk = z[start : start + ROWS].to(self.device)
            if labels is None:
                rows.append(generator(chunk))
            else:
                rows.append(generator(chunk, labels[start : start + ROWS].to(self.device)))
        return torch.cat(rows).float().cpu()

    @property
    def _training_state(self) -> Path:
        return self.weights.with_name("optimizer.pt")
