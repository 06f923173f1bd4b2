"""Metrics of generated data in a named feature space, with what makes them mean something: floor and ladder.

Features are standardised by the reference's mean and deviation. The reference is real data,
shuffled; every compared set has its size, since the Fréchet distance is biased by it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.data.arrays import Data
from experiments.gans.features import Space, class_labels
from experiments.gans.scaling import seen
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

__all__ = ["FLOOR", "METRICS", "Reference", "ladder", "table"]

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
FLOOR = "floor: other real data"
# data among which the modes of stacked images are counted, about as many as is usual
MODES_AMONG = 25_600


@dataclass
class Reference:
    """Real data to compare with: ``rows`` of ``data`` that were trained on, and ``held_out`` ones that were not."""

    data: Data
    rows: np.ndarray
    held_out: Tensor
    space: Space
    count: int = 5000

    def __post_init__(self) -> None:
        self.count = min(self.count, len(self.rows) // 2)
        if self.count < 10:
            raise InputError(f"evaluating a GAN needs 20 real data at least; got {len(self.rows)}")
        self.order = np.random.default_rng(0).permutation(self.rows)
        self.first, self.second = (
            self.real(self.order[i * self.count : (i + 1) * self.count]) for i in (0, 1)
        )
        features = self.space.features(self.first)
        self._mean = features.mean(0)
        self._deviation = features.std(0)
        # a feature that is silent on real data tells nothing
        kept = self._deviation > 1e-3 * self._deviation.max()
        self._kept = kept.nonzero().squeeze(1)
        if not len(self._kept):
            raise InputError(
                f"evaluating a GAN needs data that differ; {self.count} of {self.data.name} are alike in the feature "
                f"space {self.space.name}; give other data, or another --features"
            )
        self._own = self._standard(features)
        self._held_out = self.standard(self.held_out)
        self._labels = class_labels(self.data)

    @property
    def is_images(self) -> bool:
        """Whether its rows are images."""
        return self.data.is_images

    def standard(self, x: Tensor) -> Tensor:
        """Standardised features."""
        return self._standard(self.space.features(x))

    def measure(self, fake: Tensor) -> dict[str, Any]:
        """The metrics of generated data, of which there should be ``count``."""
        found = self.standard(fake)
        noise = torch.Generator().manual_seed(0)
        known = memorisation(self._own, found, self._held_out)
        row: dict[str, Any] = {
            "frechet_distance": frechet_distance(self._own, found),
            "kernel_distance": kernel_distance(self._own, found),
            **prdc(self._own, found)._asdict(),
            "sliced_wasserstein": sliced_wasserstein(self._own, found, generator=noise),
            "memorisation_ratio": known.ratio,
            "copies": known.copies,
        }
        predicted = self.space.classes(fake)
        if predicted is not None and self._labels is not None:
            classes = class_coverage(predicted, self._labels)
            row |= {"classes_found": classes.found, "class_kl_nats": classes.kl_nats}
        return row

    @property
    def among(self) -> int:
        """Generated data that :meth:`modes` should have.

        0 where the data have no modes that are known.
        """
        return MODES_AMONG if self.data.channels_of and self.space.classify else 0

    def modes(self, parts: Iterable[Tensor]) -> dict[str, Any]:
        """Which of the combinations of channels occur in data that come in parts, for all of them are many."""
        predicted = torch.cat([p for p in map(self.space.classes, parts) if p is not None])
        labels = self._labels
        assert labels is not None
        found = mode_coverage(predicted, int(labels.max()) + 1)
        return {"modes_found": found.found, "modes_kl_nats": found.kl_nats}

    def real(self, rows: np.ndarray) -> Tensor:
        """The data of these rows as a GAN sees them."""
        return seen(self.data, rows).float()

    def _standard(self, features: Tensor) -> Tensor:
        return ((features - self._mean) / self._deviation)[:, self._kept]


def ladder(reference: Reference) -> dict[str, dict[str, Any]]:
    """What the metrics say of real data (the floor), and of real data with a known fault."""
    real = reference.second
    noise = torch.Generator().manual_seed(0)
    faults: dict[str, Callable[[], Tensor | None]] = {
        FLOOR: lambda: real,
        "noise of a tenth of the range": lambda: (
            real + 0.2 * torch.randn(real.shape, generator=noise)
        ),
        "blurred": lambda: _blurred(real),
        "one class dropped": lambda: _dropped(reference, real),
        "50 memorised, repeated": lambda: reference.first[:50].repeat(
            -(-len(real) // 50), *[1] * (real.ndim - 1)
        )[: len(real)],
        "noise alone": lambda: torch.randn(real.shape, generator=noise).clamp(-1, 1),
    }
    made = {name: make() for name, make in faults.items()}
    rungs = {name: reference.measure(x) for name, x in made.items() if x is not None}
    if reference.among:
        parts = np.array_split(reference.order[: reference.among], 100)
        rungs[FLOOR] |= reference.modes(map(reference.real, parts))
    return rungs


def table(rows: dict[str, dict[str, Any]], space: str) -> tuple[list[str], list[list[str]]]:
    """Columns, the distances named with their space, and rows of short numbers."""
    present = [name for name in METRICS if any(name in row for row in rows.values())]
    named = [
        f"{name.removesuffix('_distance')}[{space}]"
        if name.endswith("_distance")
        else name.replace("_", " ")
        for name in present
    ]
    shown = [
        [name, *(_short(row[c]) if c in row else "" for c in present)] for name, row in rows.items()
    ]
    return ["data", *named], shown


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def _blurred(real: Tensor) -> Tensor | None:
    if real.ndim != 4:
        return None
    channels = real.shape[1]
    kernel = torch.full((channels, 1, 3, 3), 1 / 9)
    return F.conv2d(F.pad(real, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)


def _dropped(reference: Reference, real: Tensor) -> Tensor | None:
    predicted = reference.space.classes(real)
    if predicted is None:
        return None
    kept = real[predicted != predicted.max()]
    return kept.repeat(2, 1, 1, 1)[: len(real)] if 2 * len(kept) >= len(real) else None
