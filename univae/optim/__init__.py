"""Optimizers, gradient accumulation, step sizes, schedules and moving averages."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

# imported eagerly: a submodule has the same name
from univae.optim.parameter_groups import parameter_groups

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

if TYPE_CHECKING:
    from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
    from univae.optim.backward_folding import accumulate_in_backward
    from univae.optim.egdd import EGDD
    from univae.optim.ema import EMA
    from univae.optim.schedules import cosine, ramp, tripling
    from univae.optim.step_sizes import AdaptedSteps
    from univae.optim.tiger import Tiger
    from univae.optim.windowed import Windowed
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "accumulated": ["AccumulatedAdamW", "AccumulatedSGD"],
            "backward_folding": ["accumulate_in_backward"],
            "egdd": ["EGDD"],
            "ema": ["EMA"],
            "schedules": ["cosine", "ramp", "tripling"],
            "step_sizes": ["AdaptedSteps"],
            "tiger": ["Tiger"],
            "windowed": ["Windowed"],
        },
    )
