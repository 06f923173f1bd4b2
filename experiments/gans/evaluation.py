"""Metrics of generated rows against real rows, in a named feature space.

Features are standardised by the mean and the standard deviation of the real rows. All sets have the
same number of rows, because the bias of the Fréchet distance depends on it. The scale of the
metrics, their values for real rows and for known faults, is in :mod:`experiments.gans.ladder`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

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
from univae.checkpoint import JsonObject
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
# Generated rows in which the modes of stacked images are counted, about as many as in the papers.
ROWS_FOR_MODES = 25_600
FEWEST_ROWS = 10  # of every set
# Features with a deviation below this fraction of the largest count as constant on real rows.
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
    """Real rows and their features, with which generated rows are compared."""

    data: Data
    space: Space
    count: int  # rows in every set
    order: np.ndarray  # shuffled indices of the training rows
    real: Tensor  # training rows (count, ...)
    other_real: Tensor  # training rows (count, ...) that are not in ``real``
    standardisation: Standardisation
    real_features: Tensor
    held_out_features: Tensor
    labels: Tensor | None  # (N,) class labels of ``data``

    def features(self, x: Tensor) -> Tensor:
        """Return the standardised features of rows."""
        return self.standardisation(self.space.features(x))

    def measure(self, fake: Tensor) -> JsonObject:
        """Return the metrics of generated rows ``(count, ...)``."""
        fake_features = self.features(fake)
        noise = torch.Generator().manual_seed(0)
        memory = memorisation(self.real_features, fake_features, self.held_out_features)
        metrics: JsonObject = {
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
            metrics |= {"classes_found": classes.present, "class_kl_nats": classes.kl_nats}
        return metrics

    def first(self, count: int) -> "Reference":
        """Return the reference for ``count`` generated rows, the first of every set."""
        if count >= self.count:
            return self
        return replace(
            self,
            count=count,
            real=self.real[:count],
            other_real=self.other_real[:count],
            real_features=self.real_features[:count],
        )

    @property
    def rows_for_modes(self) -> int:
        """The number of generated rows that :meth:`modes` needs; 0 for data without known modes."""
        has_modes = self.data.channels_of and self.space.classify
        return ROWS_FOR_MODES if has_modes else 0

    def modes(self, blocks: Iterable[Tensor]) -> JsonObject:
        """Return the number of modes, combinations of the channels' classes, in generated rows.

        ``blocks`` of rows are classified one at a time, which bounds the memory.
        """
        assert self.labels is not None
        mode_count = int(self.labels.max()) + 1
        predicted = []
        for block in blocks:
            classes = self.space.classes(block)
            assert classes is not None
            predicted.append(classes)
        modes = mode_coverage(torch.cat(predicted), mode_count)
        return {"modes_found": modes.present, "modes_kl_nats": modes.kl_nats}

    def rows(self, indices: np.ndarray) -> Tensor:
        """Return rows of the data in the units of the networks."""
        return gan_rows(self.data, indices).float()


def compute_reference(
    data: Data, rows: np.ndarray, held_out: Tensor, space: Space, count: int = 5000
) -> Reference:
    """Return the real rows and their features that generated rows are compared with.

    Args:
        data: all rows.
        rows: indices of the training rows.
        held_out: rows that were not trained on, in the units of the networks.
        space: the feature space in which distances are measured.
        count: rows in every set; reduced to half of the training rows where it is larger.

    Raises:
        InputError: there are fewer than 20 training rows, or all have the same features.
    """
    count = min(count, len(rows) // 2)
    if count < FEWEST_ROWS:
        raise InputError(
            f"the metrics of a GAN need at least {2 * FEWEST_ROWS} training rows; {data.name} has "
            f"{len(rows)}"
        )
    order = np.random.default_rng(0).permutation(rows)
    real = gan_rows(data, order[:count]).float()
    features = space.features(real)
    standardisation = _standardise(features, f"{count} rows of {data.name}", space.name)
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


def table(rows: Mapping[str, JsonObject], space: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of a table of metrics, by the name of each set of rows.

    The header of a distance has the name of the feature space.
    """
    present = [name for name in METRICS if any(name in row for row in rows.values())]
    columns = ["data", *(_column(name, space) for name in present)]
    return columns, [_cells(name, row, present) for name, row in rows.items()]


def _standardise(features: Tensor, rows: str, space: str) -> Standardisation:
    deviation = features.std(0)
    is_varying = deviation > SMALLEST_DEVIATION * deviation.max()
    columns = is_varying.nonzero().squeeze(1)
    if not len(columns):
        raise InputError(
            f"the metrics of a GAN need rows that differ; {rows} are equal in the feature space "
            f"{space}; give other data, or another --features"
        )
    return Standardisation(features.mean(0), deviation, columns)


def _column(name: str, space: str) -> str:
    if name.endswith("_distance"):
        return f"{name.removesuffix('_distance')}[{space}]"
    return name.replace("_", " ")


def _cells(name: str, row: JsonObject, metrics: Sequence[str]) -> list[str]:
    cells = [name]
    for metric in metrics:
        cells.append(_short(row[metric]) if metric in row else "")
    return cells


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
