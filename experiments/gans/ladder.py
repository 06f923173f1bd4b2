"""The scale of a GAN's metrics: values of real rows (the floor), and of rows with known faults."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.gans.evaluation import Reference

__all__ = ["FAULTS", "FLOOR", "ladder"]

FLOOR = "floor: other real data"
# Deviation of the noise over the half range of images in [-1, 1]: a tenth of the range.
NOISE = 0.2
MEMORISED = 50
# Blocks in which the modes of the floor are counted, to save memory.
MODE_BLOCKS = 100
IMAGE_BATCH_DIMENSIONS = 4

# Rows with a fault, from the reference and a generator; None where the data cannot have it.
Fault: TypeAlias = Callable[[Reference, torch.Generator], Tensor | None]


def ladder(reference: Reference) -> dict[str, dict[str, Any]]:
    """Return the metrics of other real rows, and of real rows with each known fault."""
    noise = torch.Generator().manual_seed(0)
    faulty_rows = {name: fault(reference, noise) for name, fault in FAULTS.items()}
    rungs: dict[str, dict[str, Any]] = {}
    for name, rows in faulty_rows.items():
        if rows is not None:
            rungs[name] = reference.measure(rows)
    if reference.rows_for_modes:
        blocks = np.array_split(reference.order[: reference.rows_for_modes], MODE_BLOCKS)
        rungs[FLOOR] |= reference.modes(reference.rows(block) for block in blocks)
    return rungs


def _none(reference: Reference, noise: torch.Generator) -> Tensor:
    return reference.other_real


def _noisy(reference: Reference, noise: torch.Generator) -> Tensor:
    real = reference.other_real
    return real + NOISE * torch.randn(real.shape, generator=noise)


def _blurred(reference: Reference, noise: torch.Generator) -> Tensor | None:
    real = reference.other_real
    if real.ndim != IMAGE_BATCH_DIMENSIONS:
        return None
    channels = real.shape[1]
    kernel = torch.full((channels, 1, 3, 3), 1 / 9)
    padded = F.pad(real, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel, groups=channels)


def _without_one_class(reference: Reference, noise: torch.Generator) -> Tensor | None:
    real = reference.other_real
    predicted = reference.space.classes(real)
    if predicted is None:
        return None
    rows = real[predicted != predicted.max()]
    if 2 * len(rows) < len(real):
        return None
    return rows.repeat(2, 1, 1, 1)[: len(real)]


def _memorised(reference: Reference, noise: torch.Generator) -> Tensor:
    count = len(reference.other_real)
    repeats = -(-count // MEMORISED)
    ones = [1] * (reference.real.ndim - 1)
    return reference.real[:MEMORISED].repeat(repeats, *ones)[:count]


def _noise_alone(reference: Reference, noise: torch.Generator) -> Tensor:
    return torch.randn(reference.other_real.shape, generator=noise).clamp(-1, 1)


FAULTS: dict[str, Fault] = {
    FLOOR: _none,
    "noise of a tenth of the range": _noisy,
    "blurred": _blurred,
    "one class dropped": _without_one_class,
    f"{MEMORISED} memorised, repeated": _memorised,
    "noise alone": _noise_alone,
}
