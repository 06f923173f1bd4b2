"""The templates of reports, in which every value is escaped."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

__all__ = ["breakable", "cleaned", "render"]

# Characters that HTML does not allow: control characters without tab and newline, surrogates.
FORBIDDEN = re.compile(r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
SPACES = re.compile(r"(\s+)")
LONGEST_WORD = 16  # characters of a word that is never broken inside
REPLACEMENT = "\ufffd"
BREAKS = re.compile(
    r"(?<=[^\s/][/\\_=,])(?=\S)"
)  # after these characters a long word may be broken


def render(template: str, **values: object) -> str:
    """Return a template with values; characters that HTML does not allow are replaced."""
    return cleaned(_environment().get_template(template).render(**values))


def cleaned(text: str) -> str:
    """Return a text whose control characters and surrogates are replaced.

    >>> cleaned("a\\0b")
    'a\ufffdb'
    """
    return FORBIDDEN.sub(REPLACEMENT, text)


def breakable(text: object) -> Markup:
    """Return a text whose long words a browser may break after slashes and other joints of paths.

    >>> breakable("max_length of data/of_the_project/<a>")
    Markup('max_length of data/<wbr>of_<wbr>the_<wbr>project/<wbr>&lt;a&gt;')
    """
    pieces = []
    for piece in SPACES.split(str(text)):
        parts = BREAKS.split(piece) if len(piece) > LONGEST_WORD else [piece]
        pieces.append(Markup("<wbr>").join(escape(part) for part in parts))
    return Markup("").join(pieces)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("experiments.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment
