"""Scores of data by importance sampling: a row per datum, and totals that hide no diagnostic."""

import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from density import LatentModel, Proposal, log_weights
from density.estimation.diagnostics import khat_threshold, ladder, unreliable
from density.estimation.importance import summarise
from density.estimation.registry import PROPOSALS, ProposalName
from experiments.data.outputs import Output
from univae.registry import lookup

__all__ = [
    "COLUMNS",
    "ProposalName",
    "Table",
    "finite",
    "page",
    "perplexity",
    "proposal",
    "rows_of",
    "totals",
    "worst",
]

NAMED = 10  # rows that are named one by one
LARGEST_EXPONENT = math.log(sys.float_info.max)
COLUMNS = ("log_likelihood", "standard_error", "elbo", "effective_samples", "khat")


def proposal(name: str) -> Proposal:
    """Return the proposal that commands offer by that name."""
    return lookup(PROPOSALS, name, "proposal").proposal


def rungs(samples: int) -> list[int]:
    """The powers of two up to ``samples``, and it: where the mean estimate is read off."""
    return [2**i for i in range(samples.bit_length()) if 2**i < samples] + [samples]


def rows_of(
    model: LatentModel, x: Tensor, samples: int, name: str, chunk: int | None = None
) -> list[dict[str, Any]]:
    """One row of :data:`COLUMNS` per datum, in nats and counts, with its ``ladder`` of estimates from fewer samples."""
    chosen = proposal(name)
    log_w = log_weights(model, x, samples, proposal=chosen, chunk=chunk)
    found = summarise(log_w, chosen.replicates)
    values = {column: getattr(found, column).tolist() for column in COLUMNS}
    climbed = ladder(log_w, rungs(samples)).T.tolist()
    return [
        {column: values[column][i] for column in COLUMNS} | {"ladder": climbed[i]}
        for i in range(len(x))
    ]


def totals(rows: Sequence[Mapping[str, Any]], samples: int) -> dict[str, Any]:
    """Return means per datum in nats over at least one row, each scored with ``samples`` samples.

    ``standard_error_nats`` is that of the mean by importance sampling alone,
    ``standard_error_over_data_nats`` that of the mean as an estimate for data of this kind. A k-hat
    that is no finite number counts as above every threshold; ``khat_threshold`` is that of
    :func:`density.estimation.diagnostics.khat_threshold`. A mean that is no finite number is None,
    ``notes`` say why, and ``not_finite`` counts the rows without a finite log-likelihood and names
    the first ten.
    """
    count = len(rows)
    column = {
        name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in COLUMNS
    }
    over_data = column["log_likelihood"].std().item() / math.sqrt(count) if count > 1 else None
    means = {
        "log_likelihood_nats": column["log_likelihood"].mean().item(),
        "standard_error_nats": column["standard_error"].square().sum().sqrt().item() / count,
        "standard_error_over_data_nats": over_data,
        "elbo_nats": column["elbo"].mean().item(),
        "effective_samples_median": column["effective_samples"].median().item(),
    }
    strange = (~column["log_likelihood"].isfinite()).nonzero().flatten().tolist()
    found: dict[str, Any] = {
        "count": count,
        **{name: finite(value) for name, value in means.items()},
        "khat_above_0.7": unreliable(column["khat"]).double().mean().item(),
        "khat_unreliable": unreliable(column["khat"], samples).double().mean().item(),
        "khat_threshold": khat_threshold(samples),
    }
    if strange:
        found["not_finite"] = {"count": len(strange), "rows": strange[:NAMED]}
    notes = _undefined(column)
    return found | {"notes": notes} if notes else found


def finite(value: float | None) -> float | None:
    """Return the value, or None where it is infinite or NaN."""
    return value if value is not None and math.isfinite(value) else None


def _undefined(column: Mapping[str, Tensor]) -> list[str]:
    """Return a line for each column whose mean is no finite number, with the reason in numbers."""
    reasons = {
        "log_likelihood": "all their weights are zero, or one is no number: the model does not expect such data",
        "standard_error": "one sample has no error, nor have weights that are all zero",
        "elbo": "a weight of theirs is zero or no number",
        "effective_samples": "a weight of theirs is no number",
    }
    notes = []
    for name, reason in reasons.items():
        strange = (~column[name].isfinite()).nonzero().flatten().tolist()
        if strange:
            first = ", ".join(map(str, strange[:NAMED])) + (", ..." if len(strange) > NAMED else "")
            what = f"{name} is not finite for {len(strange)} of {len(column[name])} rows (from 0: {first})"
            notes.append(f"{what}, so its mean is null: {reason}")
    return notes


def perplexity(nll_nats: float, units: float) -> float | None:
    r"""Return :math:`\exp(\text{NLL} / n)` over n words or tokens, of which each text's end is one.

    None where there is none: the NLL is not finite, or the power is beyond the range of a float
    (709.78 nats a unit).

    >>> round(perplexity(326.7, 79.8673), 2)  # Yahoo: mean nats and mean words of a text, its end included
    59.77
    """
    if not math.isfinite(nll_nats) or nll_nats / units > LARGEST_EXPONENT:
        return None
    return math.exp(nll_nats / units)


class Table:
    """A .csv of scores: ``index``, :data:`COLUMNS` with their unit, and what else a row has."""

    def __init__(self, writer: Any, others: Sequence[str]) -> None:
        self._writer = writer
        self._others = others
        self._count = 0
        named = [f"{name}_nats" if name in COLUMNS[:3] else name for name in COLUMNS]
        if writer:
            writer.writerow(("index", *named, *others))

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row, if there is a file to write to."""
        if self._writer:
            self._writer.writerow((self._count, *(row[name] for name in (*COLUMNS, *self._others))))
        self._count += 1

    @classmethod
    @contextmanager
    def open(cls, out: Output | None, others: Sequence[str]) -> "Iterator[Table]":
        """Yield a table in ``out``, there once the block ends well.

        Without one, a table that writes nothing.
        """
        if out is None:
            yield cls(None, others)
            return
        with out.file() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            yield cls(csv.writer(file), others)


def page(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What the report shows of scores: every value, and the mean estimate by number of samples."""
    climbed = torch.tensor([row["ladder"] for row in rows], dtype=torch.float64).mean(0).tolist()
    samples = found["samples"]
    count = int(unreliable(torch.tensor([row["khat"] for row in rows]), samples).sum())
    bearable = f"above {khat_threshold(samples):.2f}, the most that {samples} samples bear, or none"
    note = f"{count} of {len(rows)} data have a k-hat {bearable}: their estimate is no more than a better bound."
    return {
        "kind": "likelihood",
        "title": title,
        "note": note,
        "totals": dict(found),
        "log_likelihood": [row["log_likelihood"] for row in rows],
        "khat": [row["khat"] for row in rows],
        "ladder": {"samples": rungs(samples), "nats": climbed},
    }


def worst(rows: Sequence[Mapping[str, Any]], count: int = 10) -> list[int]:
    """Return the indices of the rows of the lowest log-likelihood, the lowest first.

    NaN counts as the lowest.
    """

    def rank(i: int) -> tuple[bool, float]:
        value = rows[i]["log_likelihood"]
        return (not math.isnan(value), value)

    return sorted(range(len(rows)), key=rank)[:count]
