"""Scores of data by importance sampling: a row per datum, and totals with their diagnostics."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from density import Defensive, LatentModel, Proposal, Refined, Sobol, StudentT, Widened, log_weights
from density.estimation.diagnostics import khat_threshold, ladder, unreliable
from density.estimation.importance import summarise
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = [
    "COLUMNS",
    "IN_NATS",
    "ProposalName",
    "finite",
    "page",
    "perplexity",
    "proposal",
    "rows_of",
    "rungs",
    "totals",
    "worst",
]

NAMED = 10  # rows that a note names one by one
LARGEST_EXPONENT = math.log(sys.float_info.max)  # 709.78
IN_NATS = ("log_likelihood", "standard_error", "elbo")
COLUMNS = (*IN_NATS, "effective_samples", "khat")
ProposalName: TypeAlias = Literal[
    "posterior", "widened", "student", "sobol", "defensive", "refined"
]
_PROPOSALS: dict[str, Proposal | None] = {
    "posterior": None,
    "widened": Widened(1.2),
    "student": StudentT(5.0),
    "sobol": Sobol(Widened(1.2)),
    "defensive": Defensive(0.9),
    "refined": Refined(10, proposal=Widened(1.2)),
}

# Column -> why the mean over its rows may be no finite number.
_REASONS = {
    "log_likelihood": (
        "all their weights are zero, or one is no number: the model does not expect such data"
    ),
    "standard_error": "one sample has no error, nor have weights that are all zero",
    "elbo": "a weight of theirs is zero or no number",
    "effective_samples": "a weight of theirs is no number",
}


def proposal(name: str) -> Proposal | None:
    """Return the proposal of a command's option; None stands for the posterior itself."""
    if name not in _PROPOSALS:
        raise InputError(f"proposal must be {', '.join(_PROPOSALS)}; got proposal={name}")
    return _PROPOSALS[name]


def rungs(samples: int) -> list[int]:
    """Return the numbers of samples of a ladder of estimates: powers of two, and ``samples``."""
    powers = [2**exponent for exponent in range(samples.bit_length())]
    return [power for power in powers if power < samples] + [samples]


# Rows.


def rows_of(
    model: LatentModel, x: Tensor, samples: int, name: str, chunk: int | None = None
) -> list[JsonObject]:
    """Return a row of :data:`COLUMNS` per datum, in nats and counts.

    ``ladder`` holds estimates from fewer samples, see :func:`rungs`.

    Args:
        model: the model.
        x: the data, (B, ...).
        samples: importance samples per datum.
        name: of the proposal, see :func:`proposal`.
        chunk: samples that are computed at once; None: the estimator's choice.
    """
    distribution = proposal(name)
    log_w = log_weights(model, x, samples, proposal=distribution, chunk=chunk)
    summary = summarise(log_w, distribution.replicates if distribution else 1)
    columns = {column: getattr(summary, column).tolist() for column in COLUMNS}
    ladders = ladder(log_w, rungs(samples)).T.tolist()
    rows = []
    for i in range(len(x)):
        row: JsonObject = {column: values[i] for column, values in columns.items()}
        row["ladder"] = ladders[i]
        rows.append(row)
    return rows


def worst(rows: Sequence[JsonObject], count: int = 10) -> list[int]:
    """Return the indices of the rows of the lowest log-likelihood, the lowest first.

    NaN counts as the lowest.
    """

    def rank(i: int) -> tuple[bool, float]:
        value = rows[i]["log_likelihood"]
        return (not math.isnan(value), value)

    return sorted(range(len(rows)), key=rank)[:count]


# Totals.


def totals(rows: Sequence[JsonObject], samples: int) -> JsonObject:
    """Return means per datum in nats over at least one row, each scored with ``samples`` samples.

    ``standard_error_nats`` is that of the mean by importance sampling alone,
    ``standard_error_over_data_nats`` that of the mean as an estimate for data of this kind. A k-hat
    that is no finite number counts as above every threshold; ``khat_threshold`` is that of
    :func:`density.estimation.diagnostics.khat_threshold`. A mean that is no finite number is None,
    and ``notes`` give the reason; ``not_finite`` counts the rows without a finite log-likelihood
    and names the first ten.
    """
    count = len(rows)
    column = {
        name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in COLUMNS
    }
    log_likelihood = column["log_likelihood"]
    khat = column["khat"]
    over_data = log_likelihood.std().item() / math.sqrt(count) if count > 1 else None
    means = {
        "log_likelihood_nats": log_likelihood.mean().item(),
        "standard_error_nats": column["standard_error"].square().sum().sqrt().item() / count,
        "standard_error_over_data_nats": over_data,
        "elbo_nats": column["elbo"].mean().item(),
        "effective_samples_median": column["effective_samples"].median().item(),
    }
    result: JsonObject = {
        "count": count,
        **{name: finite(value) for name, value in means.items()},
        "khat_above_0.7": unreliable(khat).double().mean().item(),
        "khat_unreliable": unreliable(khat, samples).double().mean().item(),
        "khat_threshold": khat_threshold(samples),
    }
    infinite = _not_finite(log_likelihood)
    if infinite:
        result["not_finite"] = {"count": len(infinite), "rows": infinite[:NAMED]}
    notes = _undefined(column)
    if notes:
        result["notes"] = notes
    return result


def finite(value: float | None) -> float | None:
    """Return the value, or None where it is infinite or NaN."""
    return value if value is not None and math.isfinite(value) else None


def perplexity(nll_nats: float, units: float) -> float | None:
    r"""Return :math:`\exp(\text{NLL} / n)` over n words or tokens, of which each text's end is one.

    None where it is no float: the NLL is not finite, or above 709.78 nats a unit.

    >>> round(perplexity(326.7, 79.8673), 2)  # Yahoo: mean nats and words of a text, with its end
    59.77
    """
    if not math.isfinite(nll_nats) or nll_nats / units > LARGEST_EXPONENT:
        return None
    return math.exp(nll_nats / units)


def _not_finite(values: Tensor) -> list[int]:
    """Return the indices of values that are infinite or NaN."""
    return (~values.isfinite()).nonzero().flatten().tolist()


def _undefined(column: Mapping[str, Tensor]) -> list[str]:
    """Return a line for each column whose mean is no finite number, with the reason."""
    notes = []
    for name, reason in _REASONS.items():
        rows = _not_finite(column[name])
        if not rows:
            continue
        first = ", ".join(map(str, rows[:NAMED])) + (", ..." if len(rows) > NAMED else "")
        notes.append(
            f"{name} is not finite for {len(rows)} of {len(column[name])} rows "
            f"(from 0: {first}), so its mean is null: {reason}"
        )
    return notes


def page(rows: Sequence[JsonObject], result: JsonObject, title: str) -> JsonObject:
    """Return what the report shows of scores: every value, and the mean estimate by samples."""
    samples = result["samples"]
    ladders = torch.tensor([row["ladder"] for row in rows], dtype=torch.float64)
    khat = torch.tensor([row["khat"] for row in rows])
    count = int(unreliable(khat, samples).sum())
    note = (
        f"{count} of {len(rows)} data have a k-hat above {khat_threshold(samples):.2f}, "
        f"the most that {samples} samples bear, or none: "
        "their estimate is no more than a better bound."
    )
    return {
        "kind": "likelihood",
        "title": title,
        "note": note,
        "totals": dict(result),
        "log_likelihood": [row["log_likelihood"] for row in rows],
        "khat": [row["khat"] for row in rows],
        "ladder": {"samples": rungs(samples), "nats": ladders.mean(0).tolist()},
    }
