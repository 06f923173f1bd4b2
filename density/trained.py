"""A trained VAE of images or rows of a table: samples, codes, reconstructions, paths and edits."""

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from density.data_units import DataUnits
from density.estimation.batches import row_batches
from density.images.base import DataModel
from density.images.registry import build
from density.row_scoring import RowScoring
from density.tables.columns import Columns
from density.tables.frames import filled_frame
from density.tables.imputation import impute
from univae.arguments import as_layers, whole_number
from univae.checkpoint import read_json, read_module
from univae.data_frames import as_frame, is_named, to_frame
from univae.errors import InputError
from univae.latent.interpolation import lerp
from univae.run_folder import RunFolder
from univae.seeds import seeded
from univae.trained import WEIGHTS, Trained

if TYPE_CHECKING:
    import pandas

__all__ = ["TrainedDensity"]

Rows: TypeAlias = Any  # a NumPy array, or a data frame of a table with named columns

ROWS = 100  # rows encoded or decoded at once: bounds the memory
ENDS = 2  # rows of the shortest interpolation


class TrainedDensity(Trained):
    r"""An image or table VAE.

    Rows are NumPy arrays (N, \*shape) in the units of the data: grey levels as uint8, or the
    numbers of the columns; :meth:`to_model` and :meth:`from_model` convert them. The methods on
    tensors (:meth:`draw`, :meth:`modes`, :meth:`decode`, :meth:`between`, :meth:`redraw`) take and
    return the units of the model: level numbers, or columns less their mean in the training set.
    """

    kind = "train-density"
    description = "an image or table model"

    def __init__(
        self, folder: RunFolder, device: torch.device, checkpoint: str, model: DataModel
    ) -> None:
        super().__init__(folder, device, checkpoint)
        self.model = model

    @classmethod
    def read(cls, folder: RunFolder, device: torch.device, checkpoint: str) -> "TrainedDensity":
        """Read ``model.json`` and the weights of a checkpoint."""
        path = folder.path / "model.json"
        config = read_json(path)
        weights = folder.checkpoint(checkpoint) / WEIGHTS
        model = read_module(lambda: build(config), weights, path)
        return cls(folder, device, checkpoint, model.to(device).eval())

    # Units.

    @cached_property
    def units(self) -> DataUnits:
        """Shape, levels and centre of the data that the run was trained on."""
        return DataUnits.of(self.folder, self.model.output.pixels)

    @property
    def columns(self) -> Columns | None:
        """The schema of a table with named columns, or None."""
        return self.units.columns

    def to_model(self, data: ArrayLike) -> Tensor:
        r"""Return rows of the data as the model takes them, (N, \*shape); see :class:`DataUnits`.

        Raises:
            InputError: ``data`` are not rows of the shape and the levels of the training set.
        """
        return self.units.to_model(data)

    def from_model(self, x: Tensor) -> np.ndarray:
        r"""Return rows (N, \*shape) of the model in the units of the data."""
        return self.units.from_model(x)

    def by_column(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns (N,) of a table's rows (N, columns) by name, or as c0, c1, ...

        Categories are those of the data, as objects.
        """
        if self.columns is not None:
            return self.columns.decode(rows)
        return {f"c{i}": column for i, column in enumerate(rows.T)}

    def to_frame(self, rows: np.ndarray, index: object = None) -> "pandas.DataFrame":
        """Return a table's rows (N, columns) as a data frame of the names and values of the data.

        ``index`` is that of the data frame; by default 0, 1, ...

        Raises:
            InputError: pandas is not installed.
        """
        return to_frame(self.by_column(rows), index)

    # Rows in the units of the data.

    def sample(self, count: int, seed: int | None = None) -> Rows:
        r"""Draw rows (count, \*shape): a latent from the prior, then the row given the latent.

        Rows of a table with named columns are a data frame. With a ``seed`` the global generators
        are left as they are.

        Raises:
            InputError: ``count`` is below 1; or columns have names and pandas is not installed.
        """
        count = whole_number("sample", "count", count)
        with seeded(seed, self.device):
            rows = self.from_model(self.draw(count))
        return rows if self.columns is None else self.to_frame(rows)

    def encode(self, data: ArrayLike) -> np.ndarray:
        """Return the codes of rows, (N, d) float32: the modes of all latent layers side by side.

        See :meth:`modes`.
        """
        return self.modes(self.to_model(data)).flatten(1).float().cpu().numpy()

    def reconstruct(self, data: Rows) -> Rows:
        r"""Return the decoded codes (N, \*shape) of rows, see :meth:`decode`.

        A data frame gives a data frame of the same index, and a Series, a row of one, one of a row.
        """
        rows = self.from_model(self.decode(self.modes(self.to_model(data))))
        named = self._named(data)
        return rows if named is None else self.to_frame(rows, named.index)

    def impute(self, data: Rows, samples: int = 1000, seed: int | None = None) -> Rows:
        """Return a table with its missing cells filled; see :mod:`density.tables.imputation`.

        Args:
            data: a data frame or a row of one, which give a data frame; or encoded rows
                (N, columns) with NaN for missing cells.
            samples: importance samples per row.
            seed: with a seed the global generators are left as they are.

        Raises:
            InputError: the run is not of a table with named columns, or ``samples`` is below 1.
        """
        if self.columns is None:
            raise InputError(
                f"impute: {self.path} was not trained on a table with named columns; missing cells "
                "need one: train on a .csv, .tsv, .parquet or data frame"
            )
        x = self.to_model(data).to(self.device)
        with seeded(seed, self.device):
            rows = self.from_model(impute(self.model, x, samples))
        missing = x.isnan().cpu().numpy()
        named = self._named(data)
        if named is None:  # observed numbers as they are, not as the model's dtype rounds them
            return np.where(missing, rows, np.asarray(data).reshape(rows.shape))
        is_missing = dict(zip(self.columns.names, missing.T, strict=True))
        return filled_frame(named, self.by_column(rows), is_missing)

    def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int = 7) -> Rows:
        r"""Return the rows (steps, \*shape) between rows a and b, both reconstructed.

        They are decoded from the points of a straight line through all latent layers. A row of a
        data frame as ``a`` gives a data frame.

        Raises:
            InputError: ``steps`` is below 2, or a or b is not one row.
        """
        start = self.modes(self._one(a, "a"))
        end = self.modes(self._one(b, "b"))
        rows = self.from_model(self.decode(self.between(start[0], end[0], steps)))
        return rows if self._named(a) is None else self.to_frame(rows)

    def edit(
        self,
        data: ArrayLike,
        layers: int | Collection[int] = (0,),
        count: int = 5,
        seed: int | None = None,
    ) -> tuple[Rows, Rows]:
        r"""Return the reconstruction of a row, and ``count`` rows with some layers drawn anew.

        Args:
            data: one row.
            layers: the latent layers to draw, or one, counted from 0; see :meth:`redraw`.
            count: how many draws.
            seed: with a seed the global generators are left as they are.

        Returns:
            arrays of shape (\*shape) and (count, \*shape), or data frames of a row of one.

        Raises:
            InputError: ``count`` is below 1, or the model has one latent layer, or no such layer.
        """
        z = self.modes(self._one(data, "the data"))
        with seeded(seed, self.device):
            edited = self.redraw(z[0], layers, count)
            rows = self.from_model(self.decode(torch.cat((z, edited))))
        if self._named(data) is not None:
            return self.to_frame(rows[:1]), self.to_frame(rows[1:])
        return rows[0], rows[1:]

    def scoring(self, data: ArrayLike, latents: int) -> RowScoring:
        """Return rows in the units of the data as batches to score.

        Raises:
            InputError: see :meth:`to_model`.
        """
        x = self.to_model(data).to(self.device)
        batches = row_batches(self.model, x, latents)
        return RowScoring.of(x, batches, self.model.output.pixels)

    # Tensors in the units of the model.

    @torch.inference_mode()
    def draw(self, count: int) -> Tensor:
        r"""Draw rows (count, \*shape) on the CPU, in the units of the model."""
        rows = []
        for start in range(0, count, ROWS):
            size = min(ROWS, count - start)
            z = self.model.prior().sample(torch.Size((size,)))
            rows.append(self.model.likelihood(z).sample().cpu())
        return torch.cat(rows)

    @torch.inference_mode()
    def modes(self, x: Tensor) -> Tensor:
        r"""Return the codes (N, \*event) of rows in the units of the model.

        They are the posterior's modes, each layer's given the modes of the layers before it.
        """
        codes = []
        for chunk in torch.split(x, ROWS):
            posterior = self.model.posterior(chunk.to(self.device))
            codes.append(posterior.modes() if hasattr(posterior, "modes") else posterior.mode)
        return torch.cat(codes)

    @torch.inference_mode()
    def decode(self, z: Tensor) -> Tensor:
        r"""Return rows (N, \*shape) of latents, on the CPU, in the units of the model.

        They are the means of the pixels given the latents, or a draw where pixels depend on each
        other and their mean is not known.
        """
        rows = []
        for chunk in torch.split(z, ROWS):
            likelihood = self.model.likelihood(chunk)
            try:
                rows.append(likelihood.mean.cpu())
            except NotImplementedError:
                rows.append(likelihood.sample().cpu())
        return torch.cat(rows)

    def between(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        r"""Return latents (steps, \*event) on the straight line between two, both included.

        Raises:
            InputError: ``steps`` is below 2.
        """
        steps = whole_number("interpolate", "steps", steps, ENDS)
        t = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)
        return lerp(start, end, t)

    @torch.inference_mode()
    def redraw(self, z: Tensor, layers: int | Collection[int], count: int) -> Tensor:
        r"""Return ``count`` copies of a latent (\*event) with some layers drawn from the prior.

        A layer is drawn given those that the prior draws before it; the others stay.

        Raises:
            InputError: ``count`` is below 1; or the model has one latent layer, or not these; or
                the data depend on none of them.
        """
        count = whole_number("edit", "count", count)
        layers = as_layers("edit", layers)
        self._check_layers(layers)
        return self.model.resample(z.expand(count, *z.shape), layers)

    def _check_layers(self, layers: Collection[int]) -> None:
        """Raise InputError for layers that the model lacks, or that change nothing."""
        layer_count = self.model.layer_count
        if layer_count == 1:
            raise InputError(
                f"edit: the model of {self.path} has one latent layer, and drawing all of "
                "it anew keeps nothing; univae sample does that; edit a model of several layers"
            )
        unknown = set(layers) - set(range(layer_count))
        if unknown:
            raise InputError(f"edit: latent layers are 0..{layer_count - 1}; got {sorted(unknown)}")
        decoded = self.model.decoded_layers
        if layers and not set(layers) & set(decoded):
            raise InputError(
                f"edit: the data depend on layer {decoded[0]} alone, which would stay; "
                f"got {sorted(layers)}; add {decoded[0]}"
            )

    def _named(self, data: Rows) -> "pandas.DataFrame | None":
        """Return a data frame, or a Series as one of a row, of a table; None for other data."""
        return as_frame(data) if is_named(data) and not self.units.is_images else None

    def _one(self, data: ArrayLike, name: str) -> Tensor:
        """Return one row as a batch of the model; a Series is a row of a data frame."""
        x = self.to_model(data)
        if len(x) != 1:
            raise InputError(f"{name} must be one row; got {len(x)} rows")
        return x
