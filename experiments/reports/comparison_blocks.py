"""The tables of a comparison: metrics and options by group."""

from collections.abc import Iterator, Sequence

from experiments.reports.blocks import Block, Cell, Folded, Note, Table
from experiments.reports.comparison import Compared
from experiments.reports.groups import Groups
from experiments.reports.values import brief
from experiments.training.metric_names import METRICS

__all__ = ["metrics_table", "options_table"]

MOST_COLUMNS = 6  # groups that are columns; more are rows
MOST_OPTIONS = 12  # that are not folded


def metrics_table(groups: Groups, values: Sequence[Compared]) -> Iterator[Block]:
    """Yield the table of metrics: metrics as rows, or as columns where there are many groups."""
    if not values:
        yield Note("No run has a validation yet.")
        return
    keys = list(dict.fromkeys(value.metric for value in values))
    cells = {(value.metric, value.group): _cell(value, groups) for value in values}
    counts = [Cell(str(len(runs)), is_number=True) for runs in groups.runs_of.values()]
    if len(groups.runs_of) <= MOST_COLUMNS:
        rows = [[Cell("number of runs"), *counts]]
        for key in keys:
            row = [cells.get((key, group), Cell("")) for group in groups.runs_of]
            rows.append([Cell(METRICS[key].titled), *row])
        yield Table(["", *groups.runs_of], rows, has_row_heads=True)
        return
    rows = []
    for group, count in zip(groups.runs_of, counts, strict=True):
        rows.append([Cell(group), count, *(cells.get((key, group), Cell("")) for key in keys)])
    heads = [METRICS[key].head for key in keys]
    yield Table(["group", "runs", *heads], rows, is_sortable=True, has_row_heads=True)


def options_table(groups: Groups) -> Iterator[Block]:
    """Yield the options that differ between groups; many of them are folded."""
    if len(groups.runs_of) <= MOST_COLUMNS:
        columns = ["option", *groups.runs_of]
        rows = []
        for option, values in groups.options.items():
            cells = [_option(values[group]) for group in groups.runs_of]
            rows.append([Cell(option), *cells])
    else:
        columns = ["group", *groups.options]
        rows = []
        for group in groups.runs_of:
            cells = [_option(values[group]) for values in groups.options.values()]
            rows.append([Cell(group), *cells])
    table = Table(columns, rows, has_row_heads=True)
    if len(groups.options) <= MOST_OPTIONS:
        yield table
    else:
        yield Folded(f"{len(groups.options)} options differ", [table])


def _cell(value: Compared, groups: Groups) -> Cell:
    """Return mean and spread, and the number of runs where some lack the metric."""
    text = value.text.replace("± ", "±\u00a0")  # a line may end before the spread
    if value.count < len(groups.runs_of[value.group]):
        text += f" ({value.count} runs)"
    return Cell(text, is_number=True, is_best=value.best, key=value.mean)


def _option(value: object) -> Cell:
    return Cell("" if value is None else brief(value))
