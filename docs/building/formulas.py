"""Formulas of a page as MathML, which browsers draw without a script."""

import html
import re
from xml.etree import ElementTree

from latex2mathml.converter import convert

__all__ = ["formula", "with_formulas"]

MATHML = "http://www.w3.org/1998/Math/MathML"
ROWS = ("math", "mrow", "mtd", "mstyle", "msqrt")  # elements whose children stand side by side
SCRIPTS = ("msub", "msup", "msubsup", "munder", "mover", "munderover")
THIN = {"width": "0.167em"}

# What pymdownx.arithmatex writes: a formula in a line, and one of its own.
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAYED = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def with_formulas(page: str) -> str:
    """Return the HTML of a page in which formulas are MathML."""
    page = DISPLAYED.sub(lambda match: _displayed(match[1]), page)
    return INLINE.sub(lambda match: formula(html.unescape(match[1])), page)


def formula(tex: str, display: str = "inline") -> str:
    """Return a formula of LaTeX as MathML.

    Args:
        tex: the formula.
        display: ``inline`` or ``block``.
    """
    known = tex.replace("{aligned}", "{align*}")  # of latex2mathml
    source = convert(" ".join(known.split()), display=display)
    ElementTree.register_namespace("", MATHML)
    math = ElementTree.fromstring(source)
    for element in math.iter():
        if _name(element) in ROWS:
            _space_functions(element)
        side = element.attrib.pop("columnalign", None)
        if side:  # an attribute that MathML Core leaves to CSS
            element.set("style", f"text-align: {side}")
    math.set("alttext", " ".join(tex.split()))
    return ElementTree.tostring(math, encoding="unicode")


def _displayed(tex: str) -> str:
    """Return a formula of its own, which scrolls where the window is narrow."""
    return f'<div class="formula">{formula(html.unescape(tex), "block")}</div>'


def _space_functions(row: ElementTree.Element) -> None:
    """Put thin spaces around the names of functions, but not before their parentheses."""
    children = list(row)
    for index in reversed(range(len(children))):
        if not _is_function(children[index]):
            continue
        following = children[index + 1] if index + 1 < len(children) else None
        if following is not None and _name(following) != "mo":
            row.insert(index + 1, ElementTree.Element(f"{{{MATHML}}}mspace", THIN))
        if index and _name(children[index - 1]) != "mo":
            row.insert(index, ElementTree.Element(f"{{{MATHML}}}mspace", THIN))


def _is_function(element: ElementTree.Element) -> bool:
    """Return whether an element is the name of a function, with or without indices."""
    if _name(element) in SCRIPTS and len(element):
        return _is_function(element[0])
    text = element.text or ""
    return _name(element) in ("mi", "mo") and len(text) > 1 and text.isalpha() and text.isascii()


def _name(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(f"{{{MATHML}}}")
