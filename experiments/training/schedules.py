"""The registry of learning rate schedules, for ``--schedule``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from univae.optim.schedules import cosine, tripling

__all__ = ["SCHEDULES", "Schedule", "ScheduleName"]


@runtime_checkable
class ScheduleOptions(Protocol):
    """The options of training that schedules read; ``Settings`` has them."""

    @property
    def warmup(self) -> float: ...
    @property
    def lr_floor(self) -> float: ...


@dataclass(frozen=True)
class Schedule:
    """A row of :data:`SCHEDULES`.

    ``factor(fraction, options)`` multiplies --lr after a fraction of training.
    """

    summary: str
    factor: Callable[[float, ScheduleOptions], float]


def _cosine(fraction: float, options: ScheduleOptions) -> float:
    return cosine(fraction, options.warmup, options.lr_floor)


def _tripling(fraction: float, options: ScheduleOptions) -> float:
    return tripling(fraction)


SCHEDULES: Mapping[str, Schedule] = {
    "cosine": Schedule("a linear --warmup, then half a cosine down to --lr-floor", _cosine),
    "tripling": Schedule("that of Burda et al., down to a tenth", _tripling),
}

if TYPE_CHECKING:
    ScheduleName: TypeAlias = str
else:
    ScheduleName = Literal[tuple(SCHEDULES)]
