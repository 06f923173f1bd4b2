"""The registry of kinds of items in ``samples/``, ``ITEM_KINDS``, which render them as sections.

A new kind is one function and one row. A command writes an item as a JSON object with the ``kind``,
a ``title`` and the keys that the function reads.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from experiments.reports import item_plots
from experiments.reports.content import Content
from experiments.reports.html import brief, embed, items, paragraph, section, table
from univae.checkpoint import JsonObject

__all__ = ["ITEM_KINDS", "item_sections"]

# Returns the body of an item's section; the number counts the items of its kind, from 0.
Renderer: TypeAlias = Callable[[Content, int, JsonObject], str]

# Exceptions that a damaged item causes.
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OSError)


def item_sections(content: Content, kind: str) -> str:
    """Return the sections of all items of a kind; for a damaged item, a section with its error."""
    sections = []
    matching = [item for item in content.items if item["kind"] == kind]
    for number, item in enumerate(matching):
        try:
            body = ITEM_KINDS[kind](content, number, item)
        except DAMAGE as error:
            reason = f"{type(error).__name__}: {error}"
            body = paragraph(
                f"cannot be shown, its file in samples/ is damaged ({reason})", "warning"
            )
        sections.append(section(str(item["title"]), body))
    return "".join(sections)


def _likelihood(content: Content, number: int, item: JsonObject) -> str:
    """Return the totals of ``univae likelihood`` and the figures of its scores."""
    alt = "Histogram of log-likelihoods, and their diagnostics"
    figure = content.figure(f"likelihood_{number}", item_plots.scores(item), alt)
    totals = table([], [[name, brief(value)] for name, value in item["totals"].items()])
    return paragraph(item["note"]) + totals + figure


def _points(content: Content, number: int, item: JsonObject) -> str:
    """Return a scatter plot, and the labels of its numbered points."""
    alt = f"Scatter plot: {item['title']}"
    figure = content.figure(f"map_{number}", item_plots.points(item), alt)
    numbered = item_plots.spread_out(item["x"], item["y"]) if item.get("labels") else []
    labels = items([item["labels"][row] for row in numbered], "ol")
    return paragraph(item.get("note", "")) + figure + labels


def _images(content: Content, number: int, item: JsonObject) -> str:
    """Return a grid of images."""
    return embed(content.picture(item.get("file")), item["title"])


def _texts(content: Content, number: int, item: JsonObject) -> str:
    """Return a table of texts."""
    return paragraph(item.get("note", "")) + table(item["columns"], item["rows"])


# In the order of the sections on the page.
ITEM_KINDS: Mapping[str, Renderer] = {
    "likelihood": _likelihood,
    "points": _points,
    "images": _images,
    "texts": _texts,
}
