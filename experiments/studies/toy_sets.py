"""Distributions in the plane with known modes: a ring and a grid of Gaussians, a Swiss roll."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

__all__ = ["DEVIATION", "TOYS", "Toy", "ToySet", "centres", "points", "scale"]

DEVIATION = 0.05  # of every Gaussian, before scaling
RING_MODES = 8
RING_RADIUS = 2
ROLL_SCALE = 7.0  # divides the coordinates of the roll: their deviation is then about 1
ROLL_NOISE = 0.02  # standard deviation


@dataclass(frozen=True)
class ToySet:
    """A row of :data:`TOYS`: a distribution in the plane with a deviation of about 1."""

    scale: float  # divides the coordinates
    centres: Callable[[], Tensor] | None  # returns the means of the Gaussians, (M, 2), unscaled

    def draw(self, count: int, noise: torch.Generator) -> Tensor:
        """Draw (count, 2) points."""
        if self.centres is None:
            return _draw_roll(count, noise) / self.scale
        means = self.centres()
        mode = torch.randint(len(means), (count,), generator=noise)
        return (means[mode] + DEVIATION * torch.randn(count, 2, generator=noise)) / self.scale


def _ring_centres() -> Tensor:
    angles = torch.arange(RING_MODES) * (2 * math.pi / RING_MODES)
    return RING_RADIUS * torch.stack((angles.cos(), angles.sin()), 1)


def _grid_centres() -> Tensor:
    return torch.cartesian_prod(torch.arange(-2.0, 3.0), torch.arange(-2.0, 3.0))


def _draw_roll(count: int, noise: torch.Generator) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(count, generator=noise))
    roll = torch.stack((angle * angle.cos(), angle * angle.sin()), 1) / ROLL_SCALE
    return roll + ROLL_NOISE * torch.randn(count, 2, generator=noise)


TOYS = {
    "ring": ToySet(math.sqrt(2), _ring_centres),
    "grid": ToySet(math.sqrt(2), _grid_centres),
    "roll": ToySet(1.0, None),
}

if TYPE_CHECKING:
    Toy: TypeAlias = str
else:
    Toy = Literal[tuple(TOYS)]


def centres(toy: Toy) -> Tensor | None:
    """Return the means of the Gaussians, (M, 2), 20 deviations apart on the grid; None for roll."""
    compute = TOYS[toy].centres
    return compute() if compute is not None else None


def scale(toy: Toy) -> float:
    """Return the divisor of the coordinates that sets their deviation to about 1."""
    return TOYS[toy].scale


def points(toy: Toy, count: int, seed: int) -> Tensor:
    """Draw (count, 2) points."""
    return TOYS[toy].draw(count, torch.Generator().manual_seed(seed))
