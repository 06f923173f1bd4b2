"""The built-in corpus ``python-docs``: English sentences from the documentation every Python installation carries.

Docstrings of the standard library and the topics of ``help()``, parsed with :mod:`ast`; nothing is
imported or run. The sentences differ a little from one Python version to the next.
"""

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from univae.errors import InputError

__all__ = ["documents", "prose", "sentences"]

SKIPPED = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
}
# words
SHORTEST = 3
LONGEST = 30
COMMON = """
    a about all also an and any are as at be been before but by can cannot could do does each for from has have how if
    in into is it its may more most must no not of on one only or other should so some such than that the their then
    there these they this to used using was we were what when where whether which who will with without you your
"""
ENGLISH = frozenset(COMMON.split())
QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "…": "..."})
CODE = re.compile(
    r">>>|::=|^\s*\.\.\. |^\s*[-=+|~*^#]{3,}|\S {3,}\S|^\s*(?:\.\. |@\w)|[{}\\$]", re.MULTILINE
)
# indentation, or that of a list item's text
MARKER = re.compile(r"\s*(?:(?:[-*+o•]|--|\d+[.)]|\(?[\da-z]\))\s+)?")
# :func:`name`, ``name``, `name`
ROLE = re.compile(r"(?::[a-z:]+:)?``?([^`\n]*?)(?:\s<[^`>]*>)?``?(?:__?\b)?")
EMPHASIS = re.compile(r"(?<![\w*])(\*\*?)([\w. -]+)\1(?![\w*])")
BOUNDARY = re.compile(r"(?<=[.?!])[\"')]* +(?=[\"'(]?[A-Z])")
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|Mr|Dr|St|No|pp|Fig|al|approx|resp|Inc|Jr|[A-Z])\.$"
)
SENTENCE = re.compile(r"[\"']?[A-Z][\w ,;:.'\"()/!?-]*[\w)\"'][.?!]")
WORD = re.compile(
    r"[\"'(]*(?:[A-Z]?[a-z]+|[A-Z]{1,5}s?|\d+)(?:[-'/][A-Za-z]+)*[\"')]*[,;:.?!]*[\"')]*"
)


def sentences() -> list[str]:
    """Return distinct English sentences of 3 to 30 words, in the order of the library's files.

    :class:`InputError` when this Python carries no sources to read.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, None] = {}
    for path in sorted(library.rglob("*.py")):
        if not SKIPPED.intersection(path.relative_to(library).parts):
            found.update(
                (sentence, None) for document in documents(path) for sentence in prose(document)
            )
    if not found:
        raise InputError(f"python_docs: no Python sources in {library}; give a text file instead")
    return list(found)


def documents(path: Path) -> Iterator[str]:
    """Yield a source file's docstrings, and the texts of ``pydoc_data.topics``, in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old sources hold escapes that later Pythons warn of
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return
    yield from _docstrings(tree)
    if path.parts[-2:] == ("pydoc_data", "topics.py"):
        values = (
            value for node in ast.walk(tree) if isinstance(node, ast.Dict) for value in node.values
        )
        yield from (
            value.value
            for value in values
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        )


def prose(document: str) -> Iterator[str]:
    """Yield the English sentences of a docstring, white space collapsed and markup taken off."""
    ascii_quotes = document.translate(QUOTES).expandtabs()
    for paragraph in re.split(r"\n\s*\n", ascii_quotes):
        if not CODE.search(paragraph):
            for block in _blocks(paragraph):
                plain = EMPHASIS.sub(r"\2", ROLE.sub(r"\1", block))
                yield from filter(is_sentence, _sentences(" ".join(plain.split())))


def is_sentence(text: str) -> bool:
    """Tell English from fragments: plain punctuation, nearly only words, and the small words of the language."""
    words = text.split()
    plain = sum(WORD.fullmatch(word) is not None for word in words)
    return (
        SHORTEST <= len(words) <= LONGEST
        and SENTENCE.fullmatch(text) is not None
        and plain >= 0.75 * len(words)
        and not ENGLISH.isdisjoint(word.strip("\"'(),").lower() for word in words)
        and text.count("(") == text.count(")")
        and text.count('"') % 2 == 0
    )


def _docstrings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield ast.get_docstring(node) or ""
    for field in (
        "body",
        "orelse",
        "finalbody",
    ):  # statements alone: expressions are most of a tree and hold none
        for child in getattr(node, field, ()):
            yield from _docstrings(child)


def _blocks(paragraph: str) -> Iterator[str]:
    """Yield runs of lines of one indentation: a sentence never joins a heading, a label or a list item."""
    lines: list[str] = []
    indentation = 0
    for line in paragraph.splitlines():
        marker = MARKER.match(line)
        start = marker.end() if marker else 0
        if lines and (start != indentation or line[:start].strip()):
            yield "\n".join(lines)
            lines = []
        lines.append(line[start:])
        indentation = start
    yield "\n".join(lines)


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for boundary in BOUNDARY.finditer(text):
        piece = text[start : boundary.end()].strip()
        if not ABBREVIATION.search(piece):
            yield piece
            start = boundary.end()
    yield text[start:].strip()
