"""Optimizer utilities, one a file."""

from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.adapted import AdaptedSteps
from univae.optim.egdd import EGDD
from univae.optim.ema import EMA
from univae.optim.groups import parameter_groups
from univae.optim.schedule import cosine, ramp, tripling
from univae.optim.tiger import Tiger
from univae.optim.window import Windowed, accumulate_in_backward

__all__ = [
    "EGDD",
    "EMA",
    "AccumulatedAdamW",
    "AccumulatedSGD",
    "AdaptedSteps",
    "Tiger",
    "Windowed",
    "accumulate_in_backward",
    "cosine",
    "parameter_groups",
    "ramp",
    "tripling",
]
