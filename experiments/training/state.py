"""The content of a checkpoint besides tensors: the position in training, and its metrics."""

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
    reserve: float = 0.0  # most seconds that a validation and its checkpoint took
    prelude: float = 0.0  # seconds before the first step
    validating: float = 0.0  # seconds in all validations, where time limits training
    complete: bool = False
    processes: int = 1  # where the run began, which its steps are made for
    rows: int = 0  # of metrics.jsonl
    best: float | None = None  # the smallest selection of all validations
    validated: int = -1  # step of the last validation; -1: there was none
    validation: JsonObject = field(default_factory=dict)  # metrics of the last validation
    validation_rows: int = 0  # of every validation; 0: all that the task has
    window: dict[str, float] = field(default_factory=dict)  # sums since the last row of metrics

    RULES: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(("step", "epoch", "offset", "rows", "validation_rows"), at_least(0)),
        **dict.fromkeys(("seconds", "reserve", "prelude", "validating"), at_least(0, SECONDS)),
        "processes": at_least(1, 10**6),
        "validated": at_least(-1),
    }

    def __post_init__(self) -> None:
        check(self)

    def advance(self, epoch: int, offset: int, sums: Mapping[str, float]) -> None:
        """Count one more step, which ended at a position in the data, and add its sums."""
        self.step += 1
        self.epoch = epoch
        self.offset = offset
        for name, value in sums.items():
            self.window[name] = self.window.get(name, 0.0) + value

    def add_validation(self, metrics: JsonObject) -> bool:
        """Store the metrics of a validation, and return whether it is the best so far.

        A validation whose selection is None, because it is not finite, is never the best.
        """
        self.validation = metrics
        selection = metrics["selection"]
        improved = selection is not None and (self.best is None or selection < self.best)
        if improved:
            self.best = selection
        return improved
