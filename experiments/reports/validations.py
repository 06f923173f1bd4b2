"""The metrics in reports and comparisons, ``NUMBERS``, and the best validation of a run."""

import math

from experiments.training.metric_names import METRICS
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["NUMBERS", "best_validation"]

# Key in a validation's row -> label with its unit.
NUMBERS = {key: metric.titled for key, metric in METRICS.items()}


def best_validation(run: RunFolder, within: float = math.inf) -> JsonObject:
    """Return the validation with the smallest NLL (of a GAN: Fréchet distance), without nulls.

    The KL is the sum over layers. Validations after ``within`` seconds of training are ignored.
    """
    rows = []
    for row in _validations(run):
        if row.get("seconds", 0.0) <= within:
            rows.append({name: value for name, value in row.items() if value is not None})

    best = min(rows, key=_selection, default={})
    layers = best.pop("kl_nats", [None])
    if None not in layers:
        best = best | {"kl_nats": sum(layers)}
    return best


def _validations(run: RunFolder) -> list[JsonObject]:
    """Return the validations of a run, or those of its calibration where that is kept."""
    rows = run.calibration.rows("validation") if run.uncalibrated() else []
    return rows or run.rows("validation")


def _selection(row: JsonObject) -> float:
    for name in ("nll_nats", "selection"):
        if name in row:
            return row[name]
    return math.inf
