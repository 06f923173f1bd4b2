"""What a checkpoint holds besides tensors: how far training has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from univae.checkpoint import JsonObject
from univae.rules import Rule, at_least, check

__all__ = ["State"]

SECONDS = 1e12  # the longest training, 30,000 years


@dataclass
class State:
    """The content of ``state.json``."""

    step: int = 0
    epoch: int = 0
    offset: int = 0  # micro-batches of the epoch already used, over all processes
    seconds: float = 0.0
    reserve: float = 0.0  # the longest a validation and its checkpoint took, in seconds
    prelude: float = 0.0  # seconds before the first step
    complete: bool = False
    processes: int = 1
    rows: int = 0  # of metrics.jsonl
    best: float | None = None  # the smallest selection of a validation
    validated: int = -1  # the step validated last
    validation: JsonObject = field(default_factory=dict)  # its numbers
    window: dict[str, float] = field(default_factory=dict)  # sums since the last row of metrics

    RULES: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(("step", "epoch", "offset", "rows"), at_least(0)),
        **dict.fromkeys(("seconds", "reserve", "prelude"), at_least(0, SECONDS)),
        "processes": at_least(1, 10**6),
        "validated": at_least(-1),
    }

    def __post_init__(self) -> None:
        check(self)

    def advance(self, epoch: int, offset: int, sums: Mapping[str, float]) -> None:
        """Count one more step, which ended at a place in the data, and add up what it logged."""
        self.step += 1
        self.epoch = epoch
        self.offset = offset
        for name, value in sums.items():
            self.window[name] = self.window.get(name, 0.0) + value

    def judge(self, numbers: JsonObject) -> bool:
        """Keep the numbers of a validation, and return whether it is the best so far.

        A selection of ``None``, of numbers that are not finite, is never the best.
        """
        self.validation = numbers
        selection = numbers["selection"]
        improved = selection is not None and (self.best is None or selection < self.best)
        if improved:
            self.best = selection
        return improved
