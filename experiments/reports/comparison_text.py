"""The metrics of a comparison as a table for the terminal."""

from collections.abc import Sequence

from experiments.reports.comparison import Compared

__all__ = ["metrics_text"]

WIDTH = 100  # characters of a line
GAP = "  "
BEST = "*"


def metrics_text(values: Sequence[Compared]) -> str:
    """Return a line for each metric and a column for each group; the best mean has a star.

    Where that is too wide, a line for each group has the first metrics, as many as there is room
    for. The text is empty where there are no values.
    """
    if not values:
        return ""
    groups = list(dict.fromkeys(value.group for value in values))
    metrics = list(dict.fromkeys(value.metric for value in values))
    cells = {(value.metric, value.group): value for value in values}
    rows = [["", *groups]]
    for metric in metrics:
        title = next(value.row.titled for value in values if value.metric == metric)
        rows.append([title, *(_cell(cells.get((metric, group))) for group in groups)])
    notes = []
    if _width(rows) > WIDTH:
        heads = [next(v.row.head for v in values if v.metric == metric) for metric in metrics]
        rows = [["", *heads]]
        for group in groups:
            rows.append([group, *(_cell(cells.get((metric, group))) for metric in metrics)])
        shown = len(metrics)
        while shown > 1 and _width([row[: shown + 1] for row in rows]) > WIDTH:
            shown -= 1
        rows = [row[: shown + 1] for row in rows]
        metrics, hidden = metrics[:shown], metrics[shown:]
        if hidden:
            notes.append(f"metrics on the page only: {len(hidden)}")
    if any(value.best for value in values if value.metric in metrics):
        notes.insert(0, f"{BEST} the best mean of a metric")
    return "\n".join([*_aligned(rows), *(GAP + note for note in notes)])


def _cell(value: Compared | None) -> str:
    """Return mean and spread; a mean that is not the best has a space in place of the star."""
    if value is None:
        return ""
    return f"{value.text}{BEST if value.best else ' '}"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _width(rows: Sequence[Sequence[str]]) -> int:
    widths = _widths(rows)
    return sum(widths) + len(GAP) * len(widths)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose first column begins, and whose others end, at the same place."""
    first, *others = _widths(rows)
    lines = []
    for row in rows:
        cells = [f"{row[0]:<{first}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], others, strict=True)]
        lines.append((GAP + GAP.join(cells)).rstrip())
    return lines
