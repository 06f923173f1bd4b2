"""The templates of reports, in which every value is escaped."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

__all__ = ["breakable", "cleaned", "render"]

# Characters that HTML does not allow: control characters without tab and newline, surrogates.
FORBIDDEN = re.compile(r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")
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
    """Return a text that a browser may break after slashes and other joints of paths.

    >>> breakable("runs/<a>")
    Markup('runs/<wbr>&lt;a&gt;')
    """
    parts = BREAKS.split(str(text))
    return Markup("<wbr>").join(escape(part) for part in parts)


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
