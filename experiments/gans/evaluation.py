"""Metrics of generated rows against real ones, in a named feature space.

Features are standardised by the mean and the deviation of the real rows. These are shuffled, and
every set compared with them has their number: the Fréchet distance is biased by it.
:mod:`experiments.gans.ladder` gives the numbers a scale.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.gans.features import Space, class_labels
from experiments.gans.scaling import gan_rows
from gan.metrics import (
    class_coverage,
    frechet_distance,
    kernel_distance,
    memorisation,
    mode_coverage,
    prdc,
    sliced_wasserstein,
)
from univae.errors import InputError

__all__ = ["METRICS", "Reference", "compute_reference", "table"]

METRICS = (
    "frechet_distance",
    "kernel_distance",
    "precision",
    "recall",
    "density",
    "coverage",
    "sliced_wasserstein",
    "classes_found",
    "modes_found",
    "modes_kl_nats",
    "memorisation_ratio",
    "copies",
)
# Rows among which the modes of stacked images are counted, about as many as is usual.
ROWS_FOR_MODES = 25_600
FEWEST_ROWS = 10
# Features whose deviation is below this fraction of the largest are constant on real rows.
SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Standardisation:
    """Mean and deviation of the features of real rows, and the features that are not constant."""

    mean: Tensor
    deviation: Tensor
    columns: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return the standardised features that are not constant."""
        return ((features - self.mean) / self.deviation)[:, self.columns]


@dataclass(frozen=True)
class Reference:
    """Real rows to compare generated ones with; :func:`compute_reference` computes it."""

    data: Data
    space: Space
    count: int  # rows of every set
    order: np.ndarray  # shuffled indices of the training rows
    real: Tensor  # training rows (count, ...)
    other_real: Tensor  # as many training rows besides
    standardisation: Standardisation
    real_features: Tensor
    held_out_features: Tensor
    labels: Tensor | None

    def features(self, x: Tensor) -> Tensor:
        """Return the standardised features of rows."""
        return self.standardisation(self.space.features(x))

    def measure(self, fake: Tensor) -> dict[str, Any]:
        """Return the metrics of generated rows, which should be ``count``."""
        fake_features = self.features(fake)
        noise = torch.Generator().manual_seed(0)
        memory = memorisation(self.real_features, fake_features, self.held_out_features)
        row: dict[str, Any] = {
            "frechet_distance": frechet_distance(self.real_features, fake_features),
            "kernel_distance": kernel_distance(self.real_features, fake_features),
            **prdc(self.real_features, fake_features)._asdict(),
            "sliced_wasserstein": sliced_wasserstein(
                self.real_features, fake_features, generator=noise
            ),
            "memorisation_ratio": memory.ratio,
            "copies": memory.copies,
        }
        predicted = self.space.classes(fake)
        if predicted is not None and self.labels is not None:
            classes = class_coverage(predicted, self.labels)
            row |= {"classes_found": classes.found, "class_kl_nats": classes.kl_nats}
        return row

    @property
    def rows_for_modes(self) -> int:
        """The number of rows for :meth:`modes`; 0 where the modes of the data are not known."""
        has_modes = self.data.channels_of and self.space.classify
        return ROWS_FOR_MODES if has_modes else 0

    def modes(self, blocks: Iterable[Tensor]) -> dict[str, Any]:
        """Return how many combinations of channels occur in rows, in blocks to save memory."""
        predicted = [self.space.classes(block) for block in blocks]
        labels = self.labels
        assert labels is not None
        classes = torch.cat([block for block in predicted if block is not None])
        modes = mode_coverage(classes, int(labels.max()) + 1)
        return {"modes_found": modes.found, "modes_kl_nats": modes.kl_nats}

    def rows(self, indices: np.ndarray) -> Tensor:
        """Return rows of the data as a GAN sees them."""
        return gan_rows(self.data, indices).float()


def compute_reference(
    data: Data, rows: np.ndarray, held_out: Tensor, space: Space, count: int = 5000
) -> Reference:
    """Compute what generated rows are compared with.

    Args:
        data: all rows.
        rows: indices of the training rows.
        held_out: rows that were not trained on, as a GAN sees them.
        space: where distances are measured.
        count: rows of every set, at most half of the training rows.

    Raises:
        InputError: there are fewer than 20 training rows, or all are alike in the feature space.
    """
    count = min(count, len(rows) // 2)
    if count < FEWEST_ROWS:
        raise InputError(
            f"evaluating a GAN needs {2 * FEWEST_ROWS} real data at least; got {len(rows)}"
        )
    order = np.random.default_rng(0).permutation(rows)
    real = gan_rows(data, order[:count]).float()
    features = space.features(real)
    standardisation = _standardise(features, f"{count} of {data.name}", space.name)
    return Reference(
        data=data,
        space=space,
        count=count,
        order=order,
        real=real,
        other_real=gan_rows(data, order[count : 2 * count]).float(),
        standardisation=standardisation,
        real_features=standardisation(features),
        held_out_features=standardisation(space.features(held_out)),
        labels=class_labels(data),
    )


def table(rows: Mapping[str, Mapping[str, Any]], space: str) -> tuple[list[str], list[list[str]]]:
    """Return columns, the distances named with their space, and rows of short numbers."""
    present = [name for name in METRICS if any(name in row for row in rows.values())]
    columns = ["data", *(_column(name, space) for name in present)]
    return columns, [_cells(name, row, present) for name, row in rows.items()]


def _standardise(features: Tensor, rows: str, space: str) -> Standardisation:
    deviation = features.std(0)
    is_varying = deviation > SMALLEST_DEVIATION * deviation.max()
    columns = is_varying.nonzero().squeeze(1)
    if not len(columns):
        raise InputError(
            f"evaluating a GAN needs data that differ; {rows} are alike in the feature space "
            f"{space}; give other data, or another --features"
        )
    return Standardisation(features.mean(0), deviation, columns)


def _column(name: str, space: str) -> str:
    if name.endswith("_distance"):
        return f"{name.removesuffix('_distance')}[{space}]"
    return name.replace("_", " ")


def _cells(name: str, row: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    return [name, *(_short(row[metric]) if metric in row else "" for metric in metrics)]


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
