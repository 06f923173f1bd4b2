"""The registry of ways to adapt step sizes around an optimizer, for ``--adapt-step-size``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from torch.optim import Optimizer

from univae.optim.step_sizes import AdaptedSteps

__all__ = ["STEP_SIZES", "StepSizeName", "StepSizes"]


@runtime_checkable
class StepSizeOptions(Protocol):
    """The options of training that adapted step sizes read; ``Settings`` has them."""

    @property
    def adapt_halves(self) -> bool: ...
    @property
    def scale_lr(self) -> float: ...
    @property
    def gain_lr(self) -> float: ...


@dataclass(frozen=True)
class StepSizes:
    """A row of :data:`STEP_SIZES`."""

    summary: str
    adapts: bool = True  # whether there is a scale per tensor
    has_gains: bool = False  # whether there is a gain per coordinate too

    def around(self, optimizer: Optimizer, options: StepSizeOptions) -> AdaptedSteps | None:
        """Return the adaptation of the step sizes of ``optimizer``, if the row has one."""
        if not self.adapts:
            return None
        gain_lr = options.gain_lr if self.has_gains else 0.0
        return AdaptedSteps(optimizer, options.scale_lr, gain_lr, halves=options.adapt_halves)


STEP_SIZES: Mapping[str, StepSizes] = {
    "no": StepSizes("", adapts=False),
    "scale": StepSizes("a factor per tensor"),
    "gain": StepSizes("a factor per tensor and one per coordinate", has_gains=True),
}

if TYPE_CHECKING:
    StepSizeName: TypeAlias = str
else:
    StepSizeName = Literal[tuple(STEP_SIZES)]
