"""Optimizer utilities, one a file."""

from univae.optim.ema import EMA
from univae.optim.groups import parameter_groups
from univae.optim.schedule import cosine, ramp

__all__ = ["EMA", "cosine", "parameter_groups", "ramp"]
