"""Docstrings as Markdown: the library writes formulas and references as Sphinx does."""

import html
import re
import textwrap

import griffe

__all__ = ["Docstrings", "markdown"]

DOCTEST = re.compile(r"^( *)>>> .*\n?(?:\1.+\n?)*", re.MULTILINE)
FORMULA = re.compile(r":math:`([^`]+)`")
DISPLAYED = re.compile(r"^( *)\.\. math::[ \t]*(.*(?:\n(?:\1 +.*|[ \t]*(?=\n\1 )))*)", re.MULTILINE)
CODE = re.compile(r"^( *)\.\. code-block:: (\w+)\n((?:\n|\1 +.*\n?)*)", re.MULTILINE)
REFERENCE = re.compile(
    r":(?:attr|class|data|func|meth|mod):`~?(?:([^`<]+?)\s+<([\w.]+)>|([\w.]+))`"
)


class Docstrings(griffe.Extension):
    """Rewrites the docstring of every object."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of an object, once."""
        if obj.docstring is not None and not obj.extra["univae"].get("is_markdown"):
            obj.docstring.value = markdown(obj.docstring.value, obj)
            obj.extra["univae"]["is_markdown"] = True


def markdown(text: str, scope: griffe.Object | None = None) -> str:
    """Return a docstring as Markdown.

    Args:
        text: a docstring.
        scope: the object that it describes, in which its references are resolved.
    """
    text = DISPLAYED.sub(_displayed_formula, text)
    text = CODE.sub(_code, text)
    text = DOCTEST.sub(_doctest, text)
    text = FORMULA.sub(lambda match: rf"\({' '.join(match[1].split())}\)", text)
    return REFERENCE.sub(lambda match: _reference(match[2] or match[3], match[1], scope), text)


def _displayed_formula(match: re.Match[str]) -> str:
    indent = match[1]
    tex = " ".join(match[2].split())
    if re.search(r"(?<!\\)&|\\\\", tex) and r"\begin" not in tex:
        tex = rf"\begin{{aligned}} {tex} \end{{aligned}}"
    return f"\n{indent}\\[{tex}\\]\n"


def _code(match: re.Match[str]) -> str:
    return _fenced(textwrap.dedent(match[3]), match[2], match[1])


def _doctest(match: re.Match[str]) -> str:
    return _fenced(textwrap.dedent(match[0]), "pycon", match[1])


def _fenced(code: str, language: str, indent: str) -> str:
    block = f"```{language}\n{code.strip()}\n```\n"
    return "\n" + textwrap.indent(block, indent)


def _reference(name: str, title: str | None, scope: griffe.Object | None) -> str:
    """Return a link to an object of the reference, or its name where no page has it.

    Args:
        name: of the object, as the docstring writes it.
        title: the words to show; None: the last part of the name.
        scope: the object in which the name is resolved.
    """
    path = name
    if scope is not None:
        try:
            path = scope.resolve(name)
        except griffe.NameResolutionError:
            path = name
    shown = html.escape(title) if title else f"<code>{name.rsplit('.', 1)[-1]}</code>"
    return f'<autoref identifier="{path}" optional>{shown}</autoref>'
