"""The built-in corpus ``python-docs``: English sentences from Python's own documentation.

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

# Folders of other packages, tests, and sources with little prose.
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
TOPICS = ("pydoc_data", "topics.py")  # whose dictionary holds the texts of help()
SHORTEST = 3  # words of a sentence
LONGEST = 30
PLAIN_SHARE = 0.75  # least share of words that are letters or digits with plain punctuation
# Frequent words of English, of which a sentence must contain one.
COMMON = """
    a about all also an and any are as at be been before but by can cannot could do does each for
    from has have how if in into is it its may more most must no not of on one only or other should
    so some such than that the their then there these they this to used using was we were what when
    where whether which who will with without you your
"""
ENGLISH = frozenset(COMMON.split())
QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "…": "..."})
CODE = re.compile(
    r">>>|::=|^\s*\.\.\. |^\s*[-=+|~*^#]{3,}|\S {3,}\S|^\s*(?:\.\. |@\w)|[{}\\$]", re.MULTILINE
)
# indentation, and the marker of a list item
MARKER = re.compile(r"\s*(?:(?:[-*+o•]|--|\d+[.)]|\(?[\da-z]\))\s+)?")
# markup of names: :func:`name`, ``name``, `name`
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

    Raises:
        InputError: this Python carries no sources to read.
    """
    library = Path(sysconfig.get_path("stdlib"))
    distinct: dict[str, None] = {}  # in the order of insertion
    for path in sorted(library.rglob("*.py")):
        if SKIPPED.intersection(path.relative_to(library).parts):
            continue
        for document in documents(path):
            distinct.update(dict.fromkeys(prose(document)))

    if not distinct:
        raise InputError(f"python-docs: no Python sources in {library}; give a text file instead")
    return list(distinct)


def documents(path: Path) -> Iterator[str]:
    """Yield a source file's docstrings, and the texts of ``pydoc_data.topics``, in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old sources hold escapes that later Pythons warn of
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return

    yield from _docstrings(tree)
    if path.parts[-2:] == TOPICS:
        yield from _dictionary_texts(tree)


def prose(document: str) -> Iterator[str]:
    """Yield the English sentences of a docstring, white space collapsed and markup removed."""
    plain_quotes = document.translate(QUOTES).expandtabs()
    for paragraph in re.split(r"\n\s*\n", plain_quotes):
        if CODE.search(paragraph):
            continue
        for block in _blocks(paragraph):
            plain = EMPHASIS.sub(r"\2", ROLE.sub(r"\1", block))
            yield from filter(is_sentence, _sentences(" ".join(plain.split())))


def is_sentence(text: str) -> bool:
    """Return whether a text is an English sentence and no fragment.

    It has plain punctuation, nearly only words, and one of the most frequent words of English.
    """
    words = text.split()
    plain = sum(WORD.fullmatch(word) is not None for word in words)
    return (
        SHORTEST <= len(words) <= LONGEST
        and SENTENCE.fullmatch(text) is not None
        and plain >= PLAIN_SHARE * len(words)
        and not ENGLISH.isdisjoint(word.strip("\"'(),").lower() for word in words)
        and text.count("(") == text.count(")")
        and text.count('"') % 2 == 0
    )


def _docstrings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield ast.get_docstring(node) or ""
    # Only statements are visited: expressions are most of a tree and hold no docstrings.
    for field in ("body", "orelse", "finalbody"):
        for child in getattr(node, field, ()):
            yield from _docstrings(child)


def _dictionary_texts(tree: ast.AST) -> Iterator[str]:
    """Yield the values of all dictionaries that are texts."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Dict):
            continue
        for value in node.values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def _blocks(paragraph: str) -> Iterator[str]:
    """Yield runs of lines of one indentation.

    A sentence therefore never continues a heading, a label or a list item.
    """
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
        candidate = text[start : boundary.end()].strip()
        if not ABBREVIATION.search(candidate):
            yield candidate
            start = boundary.end()
    yield text[start:].strip()
