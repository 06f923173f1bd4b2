"""HTML in pieces: a whole page, its sections, tables and pictures.

Everything that is shown is escaped here.
"""

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["brief", "document", "embed", "escape", "flat", "paragraph", "section", "table"]

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
th { background: var(--soft); } figure { margin: 1rem 0; } li { unicode-bidi: isolate; }
img { max-width: 100%; border-radius: 6px; background: white; }
.warning { border-left: 4px solid #c33; padding-left: 1rem; }
"""


def document(title: str, sections: Iterable[str]) -> str:
    """Return a whole page."""
    body = "\n".join(part for part in sections if part)
    name = escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><h1>{name}</h1>\n{body}</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """Return a heading and its body; nothing without a body."""
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>\n" if body else ""


def paragraph(text: str, kind: str = "note") -> str:
    return f'<p class="{kind}">{escape(text)}</p>\n' if text else ""


def table(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    head = (
        "<tr>" + "".join(f"<th>{escape(each)}</th>" for each in columns) + "</tr>\n"
        if columns
        else ""
    )
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f"<table>\n{head}{body}</table>\n"


def embed(data: bytes, alt: str) -> str:
    return f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{b64encode(data).decode()}"></figure>\n'


def escape(value: Any) -> str:
    """Return text that stands for itself in HTML.

    Control characters, which sampled bytes may hold, are replaced.
    """
    return html.escape(re.sub(r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]", "\ufffd", str(value)))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    items: dict[str, Any] = {}
    for name, value in values.items():
        items |= (
            flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: value}
        )
    return items


def brief(value: Any) -> str:
    """Return a number with four digits, text as it is and anything else as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
