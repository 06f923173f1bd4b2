"""Scores of rows by importance sampling: one record per row, and totals with their diagnostics."""

import math
from collections.abc import Mapping

from torch import Tensor

from density.estimation.datum_scores import COLUMNS
from density.estimation.diagnostics import khat_is_defined, ladder, unreliable
from density.estimation.importance import summarise
from density.estimation.mean_errors import error_of_estimates, error_over_data
from experiments.evaluation.khat_shares import KHAT_UNDEFINED, KhatShares
from experiments.evaluation.score_columns import ScoreColumns
from univae.checkpoint import JsonObject
from univae.vae.scoring import perplexity

__all__ = [
    "COLUMNS",
    "NATS",
    "finite",
    "likelihood_totals",
    "perplexity",
    "records",
    "report_item",
    "rows_of",
    "rungs",
    "totals",
]

LISTED = 10  # rows that a message lists before it ends in ...
NATS = COLUMNS[:3]  # those in nats; the others have no unit
# Why a column may hold values that are not finite.
REASONS = {
    "log_likelihood": "all their weights are zero, or one is NaN: the model gives such data no "
    "probability",
    "standard_error": "a single sample has no error, nor have weights that are all zero",
    "elbo": "one of their weights is zero or NaN",
    "effective_samples": "one of their weights is NaN",
}


def rungs(samples: int) -> list[int]:
    """Return the powers of two up to ``samples``, and ``samples``.

    The mean estimate is evaluated at these numbers of samples.
    """
    return [2**i for i in range(samples.bit_length()) if 2**i < samples] + [samples]


def rows_of(log_w: Tensor, replicates: int) -> list[JsonObject]:
    """Return a record of :data:`COLUMNS` for each row of a batch, in nats and counts.

    Its ``ladder`` holds the estimates from the first :func:`rungs` of the samples. Its ``khat`` is
    None below 21 samples.

    Args:
        log_w: log-weights (K, B) of K samples of each row.
        replicates: the number of groups of samples that are independent of each other.
    """
    samples = len(log_w)
    scores = summarise(log_w, replicates)
    values = {column: getattr(scores, column).tolist() for column in COLUMNS}
    by_samples = ladder(log_w, rungs(samples)).T.tolist()

    rows = []
    for i in range(log_w.shape[1]):
        record = {column: values[column][i] for column in COLUMNS}
        if not khat_is_defined(samples):
            record["khat"] = None
        rows.append(record | {"ladder": by_samples[i]})
    return rows


def totals(rows: ScoreColumns, samples: int) -> JsonObject:
    """Return means in nats over at least one row, each scored with ``samples`` samples.

    ``standard_error_nats`` is that of the mean by importance sampling alone,
    ``standard_error_over_data_nats`` that of the mean as an estimate for data of this distribution.
    A k-hat that is not finite counts as above every threshold; below 21 samples the numbers of
    k-hat are None, with the reason in ``khat_note``. A mean that is not finite is None, with
    the reason in ``notes``; ``not_finite`` counts the rows without a finite log-likelihood and
    lists the first ten.
    """
    column = {name: rows.column(name) for name in COLUMNS}
    means = {
        **{name: finite(value) for name, value in _means(column, rows.datum).items()},
        **KhatShares.of(column["khat"], samples).to_json(),
    }
    return _with_not_finite(rows, column, means)


def likelihood_totals(rows: ScoreColumns) -> JsonObject:
    """Return the totals that any method of estimation has: the mean log-likelihood and its errors.

    See :func:`totals`.
    """
    column = {name: rows.column(name) for name in NATS[:2]}
    means = _likelihood_means(column, rows.datum)
    return _with_not_finite(rows, column, {name: finite(value) for name, value in means.items()})


def finite(value: float | None) -> float | None:
    """Return the value; None where it is infinite or NaN."""
    return value if value is not None and math.isfinite(value) else None


def report_item(rows: ScoreColumns, result: JsonObject, title: str) -> JsonObject:
    """Return the item of ``samples/`` for the report.

    It holds the totals, log-likelihood and k-hat of the data that are
    :meth:`~experiments.evaluation.score_columns.ScoreColumns.shown`, and the mean estimate by
    number of samples.
    """
    samples = result["samples"]
    return {
        "kind": "likelihood",
        "title": title,
        "note": _khat_note(rows.column("khat"), samples),
        "totals": dict(result),
        "log_likelihood": rows.shown("log_likelihood"),
        "standard_error": rows.shown("standard_error"),
        "khat": rows.shown("khat"),
        "effective_samples": rows.shown("effective_samples"),
        "stride": rows.stride,
        "ladder": {"samples": rungs(samples), "nats": rows.mean_ladder},
    }


def records(columns: Mapping[str, Tensor]) -> list[JsonObject]:
    """Return a record for each row from columns (B,) by name."""
    names = list(columns)
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]


def _khat_note(khat: Tensor, samples: int) -> str:
    """Return a sentence that says for how many rows (B,) the estimate is a bound only."""
    threshold = KhatShares.of(khat, samples).threshold
    if threshold is None:
        return f"{KHAT_UNDEFINED}: draw more to see where the estimate is no more than a bound."
    count = int(unreliable(khat, samples).sum())
    return (
        f"{count} of {len(khat)} data have a k-hat above {threshold:.2f}, the limit for {samples} "
        "samples, or none: their estimate is no more than a better bound."
    )


def _means(column: Mapping[str, Tensor], datum: Tensor) -> dict[str, float | None]:
    return {
        **_likelihood_means(column, datum),
        "elbo_nats": column["elbo"].mean().item(),
        "effective_samples_median": column["effective_samples"].median().item(),
    }


def _likelihood_means(column: Mapping[str, Tensor], datum: Tensor) -> dict[str, float | None]:
    log_likelihood = column["log_likelihood"]
    count = len(log_likelihood)
    errors = column["standard_error"]
    over_data = error_over_data(log_likelihood, errors, datum) if count > 1 else None
    return {
        "log_likelihood_nats": log_likelihood.mean().item(),
        "standard_error_nats": error_of_estimates(errors, datum),
        "standard_error_over_data_nats": over_data,
    }


def _with_not_finite(
    rows: ScoreColumns, column: Mapping[str, Tensor], totals: JsonObject
) -> JsonObject:
    """Return totals with the number of rows, those that are not finite, and notes on these."""
    result: JsonObject = {"count": len(rows), **totals}
    not_finite = _not_finite(column["log_likelihood"])
    if not_finite:
        result["not_finite"] = {"count": len(not_finite), "rows": not_finite[:LISTED]}
    notes = _not_finite_notes(column)
    return {**result, "notes": notes} if notes else result


def _not_finite(values: Tensor) -> list[int]:
    return (~values.isfinite()).nonzero().flatten().tolist()


def _not_finite_notes(column: Mapping[str, Tensor]) -> list[str]:
    """Return a note for each column whose mean is not finite, with the reason and the rows."""
    notes = []
    for name, reason in REASONS.items():
        rows = _not_finite(column[name]) if name in column else []
        if not rows:
            continue
        listed = ", ".join(map(str, rows[:LISTED])) + (", ..." if len(rows) > LISTED else "")
        subject = f"{name} is not finite for {len(rows)} of {len(column[name])} rows"
        notes.append(f"{subject} (from 0: {listed}), so its mean is null: {reason}")
    return notes
