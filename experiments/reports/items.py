"""The registry of kinds of items in ``samples/``, ``ITEM_KINDS``, which show them as parts.

A new kind is one function and one row. A command writes an item as a JSON object with the ``kind``,
a ``title`` and the keys that the function reads.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from experiments.reports import item_charts
from experiments.reports.blocks import (
    Block,
    Fact,
    Facts,
    Folded,
    Listing,
    Note,
    Part,
    Picture,
    table,
)
from experiments.reports.charts import Chart
from experiments.reports.content import Content
from experiments.reports.values import brief
from experiments.training.metric_names import metric_of, number_text
from univae.checkpoint import JsonObject

__all__ = ["ITEM_KINDS", "item_parts"]

# Returns the blocks of an item; the number counts the items of its kind, from 0.
Renderer: TypeAlias = Callable[[Content, int, JsonObject], list[Block]]

MOST_ROWS = 2_000  # of a table of texts

# Exceptions that a damaged item causes.
DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
WORST_TITLE = "The least likely"  # what the titles of items of the lowest scores begin with
WORST = 100  # data in the table of scores
# Columns of the table of scores, with their heads.
SCORES = {
    "log_likelihood": "log-likelihood (nats)",
    "standard_error": "standard error (nats)",
    "khat": "k-hat",
    "effective_samples": "effective samples",
    "effective_chains": "effective chains",
    "samples": "samples",
}
# Totals of a likelihood that are shown; all others are folded.
MAIN_TOTALS = (
    "count",
    "log_likelihood_nats",
    "standard_error_nats",
    "standard_error_over_data_nats",
    "elbo_nats",
    "bits_per_dim",
    "bits_per_token",
    "bits_per_char",
    "perplexity_per_word",
    "effective_samples_median",
    "khat_unreliable",
)


def item_parts(content: Content, kind: str) -> list[Part]:
    """Return a part for each item of a kind; for a damaged item it has its error."""
    parts = []
    matching = [item for item in content.items if item["kind"] == kind]
    for number, item in enumerate(matching):
        try:
            blocks = ITEM_KINDS[kind](content, number, item)
        except DAMAGE as error:
            reason = f"{type(error).__name__}: {error}"
            words = f"cannot be shown, its file in samples/ is damaged ({reason})"
            blocks = [Note(words, is_warning=True)]
        parts.append(Part(str(item["title"]), blocks, _related(content, item)))
    return parts


def _related(content: Content, item: JsonObject) -> list[str]:
    """Return the titles of the least likely data for scores, and those of scores for these."""
    if item["kind"] == "likelihood":
        titles = [str(other["title"]) for other in content.items]
        return [title for title in titles if title.startswith(WORST_TITLE)]
    if str(item["title"]).startswith(WORST_TITLE):
        return [str(other["title"]) for other in content.items if other["kind"] == "likelihood"]
    return []


def _likelihood(content: Content, number: int, item: JsonObject) -> list[Block]:
    """Return the totals of ``univae likelihood``, charts of its scores, and the lowest ones."""
    totals = dict(item["totals"])
    main = [_fact(key, totals[key]) for key in MAIN_TOTALS if totals.get(key) is not None]
    others = [_fact(key, value) for key, value in totals.items() if key not in MAIN_TOTALS]
    charts = _numbered(item_charts.scores(item), "likelihood", number)
    blocks = [*_note(item), Facts(main), *content.charts(charts), *_worst(item)]
    return [*blocks, Folded(f"More results ({len(others)})", [Facts(others)])]


def _worst(item: JsonObject) -> Iterator[Block]:
    """Yield a table of the lowest scores; a click on the head of a column sorts it."""
    values = item["log_likelihood"]
    columns = {name: head for name, head in SCORES.items() if item.get(name) is not None}
    stride = item.get("stride", 1)
    order = sorted(range(len(values)), key=lambda i: _order(values[i]))[:WORST]
    rows = [[i * stride, *(_finite(item[name][i]) for name in columns)] for i in order]
    if rows:
        title = f"The {len(rows)} lowest scores; data are numbered from 0"
        scores = table(["datum", *columns.values()], rows, is_sortable=True)
        yield Folded(title, [scores])


def _order(value: float | None) -> float:
    return -math.inf if value is None or math.isnan(value) else value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _points(content: Content, number: int, item: JsonObject) -> list[Block]:
    """Return a scatter plot, and the labels of its numbered points."""
    charts = _numbered([item_charts.points(item)], "", number)
    blocks = [*_note(item), *content.charts(charts)]
    if item.get("labels"):
        numbered = item_charts.spread_out(item["x"], item["y"])
        blocks.append(Listing([str(item["labels"][row]) for row in numbered], is_numbered=True))
    return blocks


def _images(content: Content, number: int, item: JsonObject) -> list[Block]:
    """Return a grid of images."""
    labels = [str(label) for label in item.get("row_labels", [])]
    return [Picture(content.picture(item.get("file")), str(item["title"]), row_labels=labels)]


def _texts(content: Content, number: int, item: JsonObject) -> list[Block]:
    """Return a table of texts."""
    rows = item["rows"]
    blocks: list[Block] = [*_note(item), table(item["columns"], rows[:MOST_ROWS])]
    if len(rows) > MOST_ROWS:
        blocks.append(Note(f"The first {MOST_ROWS:,} of {len(rows):,} rows."))
    return blocks


# In the order of the parts on the page.
ITEM_KINDS: Mapping[str, Renderer] = {
    "likelihood": _likelihood,
    "points": _points,
    "images": _images,
    "texts": _texts,
}


def _note(item: JsonObject) -> list[Block]:
    """Return the note of an item, if it has one."""
    return [Note(str(item["note"]))] if item.get("note") else []


def _fact(key: str, value: object) -> Fact:
    """Return a result in words; a number with its unit."""
    metric = metric_of(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = int(value) if float(value).is_integer() else float(value)
        return Fact(metric.label, number_text(number), metric.unit, is_number=True)
    text = "\n".join(map(str, value)) if isinstance(value, list) else brief(value)
    return Fact(metric.label, text, is_path=isinstance(value, str) and "/" in value)


def _numbered(charts: Sequence[Chart], prefix: str, number: int) -> list[Chart]:
    """Return charts whose files are those of one item of several."""
    start = f"{prefix}_{number}_" if prefix else ""
    end = "" if prefix else f"_{number}"
    return [replace(chart, name=f"{start}{chart.name}{end}") for chart in charts]
