"""The answers of the explorer without what only the page needs."""

import re

from markupsafe import escape

from experiments.reports.templating import cleaned

__all__ = ["plain", "shown"]

ATTRIBUTES = re.compile(r"<(\w+) [^>]*>")


def plain(answer: str) -> str:
    """Return an answer without attributes, breaks between tags and places where words may break."""
    return ATTRIBUTES.sub(r"<\1>", answer).replace("\n", "").replace("<wbr>", "")


def shown(text: str) -> str:
    """Return a text as an answer shows it."""
    return cleaned(str(escape(text)))
