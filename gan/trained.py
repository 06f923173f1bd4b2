"""A trained GAN: generated images or rows of a table."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gan.labels import Labels, class_numbers
from gan.players import Players
from gan.truncation import truncated_normal
from gan.units import DataUnits
from univae.arguments import whole_number
from univae.checkpoint import fill_weights, load_state, read_json, read_module
from univae.data_frames import to_frame
from univae.errors import InputError
from univae.rules import reading
from univae.run_folder import RunFolder
from univae.seeds import seeded
from univae.trained import WEIGHTS, Trained

__all__ = ["TrainedGan", "slerp"]

Rows: TypeAlias = Any  # a NumPy array, or a data frame of a table with named columns

ROWS = 256  # rows generated at once: bounds the memory
ENDS = 2  # rows of the shortest interpolation
RAW_WEIGHTS = "weights"  # key in optimizer.pt; there where the weights file holds an average


class TrainedGan(Trained):
    """A generator and its critic, ``players``.

    The generator has the moving average of its weights if training kept one
    (``has_average``); :meth:`raw` has the last ones. :meth:`sample` and :meth:`interpolate` return
    NumPy arrays in the units of the data: grey levels as uint8, or the numbers of the columns; or a
    data frame, where the columns have names. The methods on tensors (:meth:`draw`,
    :meth:`generate`) return the units of the networks: images in [-1, 1], columns standardised.
    """

    kind = "train-gan"
    description = "a GAN"
    lacks: ClassVar[Mapping[str, str]] = {
        "encode": "a GAN has no encoder",
        "reconstruct": "a GAN has no encoder",
        "edit": "a GAN has no layers of latents",
        "score": "a GAN has no likelihood",
    }

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
        weights = folder.checkpoint(checkpoint) / WEIGHTS
        players = read_module(lambda: Players(config), weights, path)
        run = cls(folder, device, checkpoint, players)
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

    @cached_property
    def units(self) -> DataUnits | None:
        """The units of the training set; None in a run of version 0.1.0, which has no record."""
        return DataUnits.of(self.folder, tuple(self.players.generator.shape))

    def from_networks(self, x: Tensor) -> np.ndarray:
        """Return rows in the units of the data.

        Those of a run of version 0.1.0 stay in the units of the networks, with a note in
        :attr:`notes`.
        """
        if self.units is not None:
            return self.units.from_networks(x)
        note = (
            f"{self.path} has no data.json, as runs of version 0.1.0: rows are in the units of the "
            "networks (images in [-1, 1], columns standardised)"
        )
        if note not in self.notes:
            self.notes.append(note)
        return x.cpu().numpy()

    def sample(
        self,
        count: int,
        labels: Labels | None = None,
        seed: int | None = None,
        truncation: float | None = None,
    ) -> Rows:
        r"""Generate rows (count, \*shape) in the units of the data.

        Args:
            count: the number of rows.
            labels: the class of each row, or one class for all, of a conditional GAN, by its number
                or, where the classes of the data have names, its name; by default every class in
                turn.
            seed: with a seed the global generators are left as they are.
            truncation: the largest absolute value of a latent's numbers, of which those beyond are
                drawn again; None: all are kept.

        Raises:
            InputError: ``count`` is below 1, a label is no class, or ``truncation`` is below 0.01;
                or columns have names and pandas is not installed.
        """
        count = whole_number("sample", "count", count)
        classes = self.labels(labels, count)
        with seeded(seed, self.device):
            return self._named(self.from_networks(self.draw(count, classes, truncation)))

    def interpolate(
        self,
        a: int | ArrayLike,
        b: int | ArrayLike,
        steps: int = 7,
        label: int | str | None = None,
    ) -> Rows:
        r"""Return rows (steps, \*shape) between those of two latents, along the sphere.

        Args:
            a: the seed of the first latent, or the latent (d,).
            b: the seed of the last latent, or the latent.
            steps: the number of rows, both ends included.
            label: the class of all rows, of a conditional GAN, by its number or name; by default
                the first.

        Raises:
            InputError: ``steps`` is below 2, a latent is not of the model's width, or ``label`` is
                no class.
        """
        z = self.between(a, b, steps)
        if label is None and self.classes:
            label = 0
        return self._named(self.from_networks(self.generate(z, self.labels(label, steps))))

    def latent(self, seed: int) -> Tensor:
        """Return the latent (d,) of a seed, that of ``sample(1, seed=seed)``."""
        with seeded(seed, torch.device("cpu")):
            return torch.randn(self.latent_width)

    def between(self, a: int | ArrayLike, b: int | ArrayLike, steps: int) -> Tensor:
        """Return the latents (steps, d) of :meth:`interpolate`.

        Raises:
            InputError: ``steps`` is below 2, or a latent is not of the model's width.
        """
        steps = whole_number("interpolate", "steps", steps, ENDS)
        start = self._latent(a)
        end = self._latent(b)
        t = torch.linspace(0, 1, steps, dtype=start.dtype)
        return slerp(start, end, t[:, None])

    def labels(self, labels: Labels | None, count: int) -> Tensor | None:
        """Return the class numbers (count,) of labels, see :meth:`sample`; None for None.

        Raises:
            InputError: a label is no class, or the GAN has none.
        """
        if labels is None:
            return None
        if not self.classes:
            raise InputError(
                f"sample: labels are for a conditional GAN; {self.path} has no classes"
            )
        return class_numbers(labels, count, self.classes, self.class_names)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes 0, 1, ...; empty where they have none."""
        return list(self.folder.data_record().get("data", {}).get("class_names") or [])

    def draw(
        self, count: int, labels: Tensor | None = None, truncation: float | None = None
    ) -> Tensor:
        r"""Generate rows (count, \*shape), on the CPU, from standard normal latents.

        ``labels``: see :meth:`generate`; ``truncation``: see :meth:`sample`.
        """
        if truncation is None:
            z = torch.randn(count, self.latent_width)
        else:
            z = truncated_normal(count, self.latent_width, truncation)
        return self.generate(z, labels)

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

    def _named(self, rows: np.ndarray) -> Rows:
        """Return rows (N, columns) of a table with named columns as a data frame."""
        names = self.units.names if self.units is not None else ()
        return to_frame(dict(zip(names, rows.T, strict=True))) if names else rows

    @property
    def _training_state(self) -> Path:
        return self.weights.with_name("optimizer.pt")

    def _latent(self, end: int | ArrayLike) -> Tensor:
        """Return a latent (d,), drawn where ``end`` is a seed."""
        if isinstance(end, int | np.integer):
            return self.latent(int(end))
        rule = f"a and b must be seeds, or latents of shape ({self.latent_width},)"
        try:
            z = torch.as_tensor(np.asarray(end, np.float64)).to(torch.get_default_dtype())
        except (TypeError, ValueError) as error:
            raise InputError(f"interpolate: {rule}; got {type(end).__name__} {end!r}") from error
        if z.shape != (self.latent_width,):
            raise InputError(f"interpolate: {rule}; got {tuple(z.shape)}")
        return z


def slerp(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Return points between latents of any lengths, by the angle between them.

    Args:
        start: latents (..., d), not all zeros.
        end: latents (..., d).
        t: shares of the way, in [0, 1], which broadcast with the latents.
    """
    lengths = start.norm(dim=-1, keepdim=True) * end.norm(dim=-1, keepdim=True)
    cosine = (start * end).sum(-1, keepdim=True) / lengths
    angle = cosine.clamp(-1, 1).arccos()
    if not bool((angle.sin() > 0).all()):  # the same direction: the line
        return torch.lerp(start, end, t)
    start_weight: Tensor = ((1 - t) * angle).sin() / angle.sin()
    end_weight: Tensor = (t * angle).sin() / angle.sin()
    return start_weight * start + end_weight * end
