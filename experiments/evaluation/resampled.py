"""The jackknife and the bootstrap of scores, from their own log-weights."""

import torch
from torch import Tensor

from density.estimation.mean_errors import error_of_estimates
from density.estimation.resampling import bootstrap_standard_error, jackknife
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scores import finite
from univae.checkpoint import JsonObject

__all__ = ["RESAMPLED", "resampled", "resampled_totals"]

JACKKNIFE = "jackknife_nats"  # the estimate less its bias of order 1 / K, no bound
BOOTSTRAP = "bootstrap_standard_error_nats"
RESAMPLED = (JACKKNIFE, BOOTSTRAP)
SEED = 0  # of the resamples, which leave torch's own generator as it is


def resampled(log_w: Tensor, replicates: int) -> list[JsonObject]:
    """Return the columns :data:`RESAMPLED` for log-weights (K, B); None for one independent weight.

    ``replicates`` is that of the proposal: K where it is 1, else the number of independent groups.
    """
    independent = len(log_w) if replicates == 1 else replicates
    if independent == 1:
        return [dict.fromkeys(RESAMPLED) for _ in range(log_w.shape[1])]
    generator = torch.Generator().manual_seed(SEED)
    estimate = jackknife(log_w, replicates=replicates).log_likelihood
    error = bootstrap_standard_error(log_w, replicates=replicates, generator=generator)
    columns = zip(estimate.tolist(), error.tolist(), strict=True)
    return [dict(zip(RESAMPLED, row, strict=True)) for row in columns]


def resampled_totals(rows: ScoreColumns) -> tuple[JsonObject, list[str]]:
    """Return the mean of the jackknife, the bootstrap's error of the mean, and notes on nulls."""
    if rows.has_none(JACKKNIFE):
        names = " and ".join(RESAMPLED)
        return dict.fromkeys(RESAMPLED), [f"{names} are null: a single sample has neither"]
    column = {name: rows.column(name) for name in RESAMPLED}
    error = error_of_estimates(column[BOOTSTRAP], rows.datum)
    result: JsonObject = {
        JACKKNIFE: finite(column[JACKKNIFE].mean().item()),
        BOOTSTRAP: finite(error),
    }
    notes = []
    for name in RESAMPLED:
        if result[name] is None:
            count = int((~column[name].isfinite()).sum())
            notes.append(
                f"{name} is not finite for {count} of {len(rows)} rows, so its mean is null: "
                "too many of their weights are zero, or one is NaN"
            )
    return result, notes
