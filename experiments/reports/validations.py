"""The validations of a run, and the best of them."""

import math
from functools import cached_property

from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["ReadOnce", "best_validation"]

VALIDATION = "validation"  # kind of rows


class ReadOnce(RunFolder):
    """A run folder whose validations are read once, so that all parts of a page agree on them."""

    def rows(self, kind: str | None = None) -> list[JsonObject]:
        """Return the rows of ``metrics.jsonl``; those of validations as they were first read."""
        return self._validations if kind == VALIDATION else super().rows(kind)

    @cached_property
    def _validations(self) -> list[JsonObject]:
        return super().rows(VALIDATION)


def best_validation(run: RunFolder, within: float = math.inf) -> JsonObject:
    """Return the validation with the smallest NLL (of a GAN: Fréchet distance), without nulls.

    It is the last one where no number decides. The KL is the sum over layers. Without ``within``
    the validations are those of the run's calibration, where one is kept; with it those within so
    many seconds of training, whose clock a calibration starts anew.
    """
    rows = []
    for row in run.rows(VALIDATION) if math.isfinite(within) else _validations(run):
        values = {name: value for name, value in row.items() if value is not None}
        if values.get("seconds", 0.0) <= within:
            rows.append(values)
    if not rows:
        return {}

    best = min(rows, key=_selection)
    if math.isinf(_selection(best)):
        best = rows[-1]
    layers = best.pop("kl_nats", [None])
    if isinstance(layers, list) and None not in layers:
        best = best | {"kl_nats": sum(layers)}
    return best


def _validations(run: RunFolder) -> list[JsonObject]:
    """Return the validations of a run, or those of its calibration where that is kept."""
    rows = run.calibration.rows(VALIDATION) if run.uncalibrated() else []
    return rows or run.rows(VALIDATION)


def _selection(row: JsonObject) -> float:
    """Return what a run is selected by; infinity where there is no finite number."""
    for name in ("nll_nats", "selection"):
        if name in row:
            return float(row[name]) if math.isfinite(row[name]) else math.inf
    return math.inf
