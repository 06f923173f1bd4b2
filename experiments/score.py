"""Scores of data by importance sampling: a row per datum, and totals that hide no diagnostic."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from density import Defensive, LatentModel, Proposal, Refined, Sobol, StudentT, Widened, log_weights
from density.diagnostics import ladder
from density.importance import summarise
from experiments.outputs import Output
from univae.errors import InputError

__all__ = ["COLUMNS", "ProposalName", "Table", "page", "perplexity", "proposal", "rows_of", "totals", "worst"]

COLUMNS = ("log_likelihood", "standard_error", "elbo", "effective_samples", "khat")
ProposalName: TypeAlias = Literal["posterior", "widened", "student", "sobol", "defensive", "refined"]
_PROPOSALS: dict[str, Proposal | None] = {
    "posterior": None,
    "widened": Widened(1.2),
    "student": StudentT(5.0),
    "sobol": Sobol(Widened(1.2)),
    "defensive": Defensive(0.9),
    "refined": Refined(10, proposal=Widened(1.2)),
}


def proposal(name: str) -> Proposal | None:
    """The proposal a command calls by that name."""
    if name not in _PROPOSALS:
        raise InputError(f"proposal must be {', '.join(_PROPOSALS)}; got proposal={name}")
    return _PROPOSALS[name]


def rungs(samples: int) -> list[int]:
    """The powers of two up to ``samples``, and it: where the mean estimate is read off."""
    return [2**i for i in range(samples.bit_length()) if 2**i < samples] + [samples]


def rows_of(model: LatentModel, x: Tensor, samples: int, name: str, chunk: int | None = None) -> list[dict[str, Any]]:
    """One row of :data:`COLUMNS` per datum, in nats and counts, with its ``ladder`` of estimates from fewer samples."""
    chosen = proposal(name)
    log_w = log_weights(model, x, samples, proposal=chosen, chunk=chunk)
    found = summarise(log_w, chosen.replicates if chosen else 1)
    values = {column: getattr(found, column).tolist() for column in COLUMNS}
    climbed = ladder(log_w, rungs(samples)).T.tolist()
    return [{column: values[column][i] for column in COLUMNS} | {"ladder": climbed[i]} for i in range(len(x))]


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means per datum in nats, over rows of which there is at least one.

    ``standard_error_nats`` is that of the mean by importance sampling alone, ``standard_error_over_data_nats`` that of
    the mean as an estimate for data of this kind.
    """
    count = len(rows)
    column = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in COLUMNS}
    return {
        "count": count,
        "log_likelihood_nats": column["log_likelihood"].mean().item(),
        "standard_error_nats": column["standard_error"].square().sum().sqrt().item() / count,
        "standard_error_over_data_nats": column["log_likelihood"].std().item() / math.sqrt(count)
        if count > 1
        else None,
        "elbo_nats": column["elbo"].mean().item(),
        "effective_samples_median": column["effective_samples"].median().item(),
        "khat_above_0.7": (column["khat"] > 0.7).double().mean().item(),
    }


def perplexity(nll_nats: float, units: float) -> float:
    r"""Gives :math:`\exp(\text{NLL} / n)` over n words or tokens, of which each text's end is one.

    >>> round(perplexity(326.7, 79.8673), 2)  # Yahoo: mean nats and mean words of a text, its end included
    59.77
    """
    return math.exp(nll_nats / units)


class Table:
    """A .csv of scores: ``index``, :data:`COLUMNS` with their unit, and what else a row has."""

    def __init__(self, writer: Any, others: Sequence[str]) -> None:
        self._writer, self._others, self._count = writer, others, 0
        named = [f"{name}_nats" if name in COLUMNS[:3] else name for name in COLUMNS]
        if writer:
            writer.writerow(("index", *named, *others))

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row, if there is a file to write to."""
        if self._writer:
            self._writer.writerow((self._count, *(row[name] for name in (*COLUMNS, *self._others))))
        self._count += 1

    @classmethod
    @contextmanager
    def open(cls, out: Output | None, others: Sequence[str]) -> "Iterator[Table]":
        """Yield a table in ``out``, there once the block ends well; without one, a table that writes nothing."""
        if out is None:
            yield cls(None, others)
            return
        with out.file() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            yield cls(csv.writer(file), others)


def page(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What the report shows of scores: every value, and the mean estimate by number of samples."""
    climbed = torch.tensor([row["ladder"] for row in rows], dtype=torch.float64).mean(0).tolist()
    unreliable = sum(row["khat"] > 0.7 for row in rows)
    note = f"{unreliable} of {len(rows)} data have a k-hat above 0.7: their estimate is no more than a better bound."
    return {
        "kind": "likelihood",
        "title": title,
        "note": note,
        "totals": dict(found),
        "log_likelihood": [row["log_likelihood"] for row in rows],
        "khat": [row["khat"] for row in rows],
        "ladder": {"samples": rungs(found["samples"]), "nats": climbed},
    }


def worst(rows: Sequence[Mapping[str, Any]], count: int = 10) -> list[int]:
    """The places of the data of the lowest log-likelihood, the lowest first."""
    return sorted(range(len(rows)), key=lambda i: rows[i]["log_likelihood"])[:count]
