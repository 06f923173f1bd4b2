"""The scale of a GAN's metrics: values of real rows (the floor) and of rows with known faults."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.gans.evaluation import Reference
from univae.checkpoint import JsonObject

__all__ = ["FAULTS", "FLOOR", "ladder"]

FLOOR = "floor: other real data"
NOISE = 0.2  # standard deviation: a tenth of the range of images in [-1, 1]
MEMORISED = 50  # distinct training rows in the set of copies
# Blocks of rows in which the modes of the floor are counted: bounds the memory.
MODE_BLOCKS = 100

# Returns real rows with a fault, by random draws; None where the data cannot have the fault.
Fault: TypeAlias = Callable[[Reference, torch.Generator], Tensor | None]


def ladder(reference: Reference) -> dict[str, JsonObject]:
    """Return the metrics of other real rows and of real rows with each known fault, by name."""
    noise = torch.Generator().manual_seed(0)
    faulty_rows = {name: fault(reference, noise) for name, fault in FAULTS.items()}
    rungs: dict[str, JsonObject] = {}
    for name, rows in faulty_rows.items():
        if rows is not None:
            rungs[name] = reference.measure(rows)
    if reference.rows_for_modes:
        blocks = np.array_split(reference.order[: reference.rows_for_modes], MODE_BLOCKS)
        rungs[FLOOR] |= reference.modes(reference.rows(block) for block in blocks)
    return rungs


def _unchanged(reference: Reference, noise: torch.Generator) -> Tensor:
    return reference.other_real


def _noisy(reference: Reference, noise: torch.Generator) -> Tensor:
    real = reference.other_real
    return real + NOISE * torch.randn(real.shape, generator=noise)


def _blurred(reference: Reference, noise: torch.Generator) -> Tensor | None:
    if not reference.data.is_images:
        return None
    real = reference.other_real
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
    FLOOR: _unchanged,
    "noise of a tenth of the range": _noisy,
    "blurred": _blurred,
    "one class dropped": _without_one_class,
    f"{MEMORISED} memorised, repeated": _memorised,
    "noise alone": _noise_alone,
}
