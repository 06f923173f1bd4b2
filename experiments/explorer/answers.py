"""Parts of the explorer's answers, HTML in which every value is escaped."""

from collections.abc import Mapping, Sequence

from density.score_results import Scores
from experiments.data.contents import Column, plain
from experiments.explorer.panels import ChoiceField
from experiments.reports.html import brief, items, table

__all__ = ["PROPOSAL_FIELD", "columns_table", "named", "notes_list", "scores_table"]

# How importance samples are drawn.
PROPOSAL_FIELD = ChoiceField(
    "Proposal",
    ("posterior", "auto"),
    "posterior",
    "posterior: seconds; auto: a proposal fitted to each, and more samples, minutes",
)
DIGITS = 2  # behind the point, of log-likelihoods in nats


def named(pairs: Mapping[str, object]) -> str:
    """Return a table of two columns, names and values."""
    return table([], [[name, brief(value)] for name, value in pairs.items()])


def notes_list(notes: Sequence[str]) -> str:
    """Return notes as a list; nothing if there are none."""
    return items(notes)


def columns_table(columns: Mapping[str, Column]) -> str:
    """Return columns of one length as a table."""
    cells = [plain(column) for column in columns.values()]
    rows = [[_cell(value) for value in row] for row in zip(*cells, strict=True)]
    return table(list(columns), rows)


def scores_table(scores: Scores, data: Mapping[str, Sequence[object]], rows: Sequence[int]) -> str:
    """Return log-likelihoods, errors, bounds and k-hat of some data, a row each.

    Args:
        scores: the scores of all data.
        data: columns that name the data and stand first.
        rows: the data to show, in this order.
    """
    head = [*data, "log-likelihood, nats", "standard error", "bound (ELBO), nats", "k-hat"]
    body = []
    for row in rows:
        cells = [_cell(column[row]) for column in data.values()]
        numbers = (scores.log_likelihood, scores.standard_errors, scores.elbo)
        cells += [f"{float(column[row]):.{DIGITS}f}" for column in numbers]
        body.append([*cells, _khat(scores, row)])
    return table(head, body)


def _khat(scores: Scores, row: int) -> str:
    """Return the tail index of a datum, and whether its estimate is no more than a bound."""
    if scores.khat is None or scores.reliable is None:
        return "not known"
    doubt = "" if scores.reliable[row] else ", a bound only"
    return f"{float(scores.khat[row]):.{DIGITS}f}{doubt}"


def _cell(value: object) -> str:
    return "" if value is None or value != value else brief(value)
