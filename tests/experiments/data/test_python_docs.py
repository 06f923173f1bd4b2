"""The built-in corpus is English: sentences of docstrings, without code, tables and fragments."""

import sys
import warnings
from pathlib import Path

import pytest

from experiments.data import python_docs
from experiments.data.python_docs import documents, is_sentence, prose, sentences
from univae.errors import InputError

DOCUMENT = """Return the mean.

    This is the first
    sentence.  This one, e.g. with an abbreviation, is the second! Is ``mean(x)`` a third?

    >>> mean([1, 2]) is the prompt.
    This is the answer of a prompt.

    Name      Meaning
    -------   This is a table.

        The code block is = not English.

    x: The first argument
        of the function
    * The first item is text
      on two lines.
    * The second item is text.
    2. A numbered one is text too.

    A heading without an end
        The body of the heading, by Dr. Who, is text.

    - An item without an end
    - The item after that is text.

    Use :func:`median` and :class:`a number <numbers.Number>` for *this* and **that**.

    lower case is no start of a sentence.

    See the “quoted” text.
"""


def test_prose_is_the_sentences_without_code_tables_and_markup() -> None:
    assert list(prose(DOCUMENT)) == [
        "Return the mean.",
        "This is the first sentence.",
        "This one, e.g. with an abbreviation, is the second!",
        "Is mean(x) a third?",
        "The first item is text on two lines.",
        "The second item is text.",
        "A numbered one is text too.",
        "The body of the heading, by Dr. Who, is text.",
        "The item after that is text.",
        "Use median and a number for this and that.",
        'See the "quoted" text.',
    ]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("The cat sat on the mat.", True),
        ("Is it so?", True),
        ("The cat.", False),
        ("The cat sat on the mat", False),
        ("the cat sat on the mat.", False),
        ("Cats purr loudly.", False),  # none of the small words of English
        ("The x_1 a.b.c f(x) Aa.", False),
        ("The (cat sat on the mat.", False),
        ('The "cat sat on the mat.', False),
        ("Same as a[b].", False),
        ("The " + "very " * 28 + "last.", True),
        ("The " + "very " * 29 + "last.", False),
    ],
)
def test_a_sentence_has_words_of_english_and_ends_as_one(text: str, verdict: bool) -> None:
    assert is_sentence(text) is verdict


def test_docstrings_of_nested_statements_are_read_without_warnings(
    tmp_path: Path,
) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""One."""\nif True:\n    class A:\n        """Two \\d."""\n'
        '        async def f(self):\n            "Three."\n'
        'else:\n    def g():\n        """Four."""\n'
        'try:\n    pass\nfinally:\n    def h():\n        "Five."\n'
        '"""None of them."""\nraise SystemExit("this is parsed and never run")\n'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [text for text in documents(path) if text] == [
            "One.",
            "Two \\d.",
            "Three.",
            "Four.",
            "Five.",
        ]
    path.write_text("print 'python 2'\n")
    assert list(documents(path)) == []


def test_the_topics_of_help_are_read(tmp_path: Path) -> None:
    (tmp_path / "pydoc_data").mkdir()
    path = tmp_path / "pydoc_data" / "topics.py"
    path.write_text("topics = {'assert': 'The first\\n' 'topic.', 'if': 'The second.'}\n")
    assert [text for text in documents(path) if text] == ["The first\ntopic.", "The second."]


@pytest.mark.slow
def test_the_library_has_ten_thousand_distinct_sentences_and_none_is_imported() -> None:
    before = set(sys.modules)
    found = sentences()
    assert len(found) > 10_000
    assert len(set(found)) == len(found)
    assert all(
        is_sentence(text) and 3 <= len(text.split()) <= 30 and text.isprintable() for text in found
    )
    assert not {"antigravity", "this"} & (set(sys.modules) - before)


def test_the_order_is_that_of_the_files_and_a_second_copy_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_docs.sysconfig, "get_path", lambda name: str(tmp_path))
    for name in ("b.py", "a.py", "test/c.py", "site-packages/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            f'"""This is the text of {name[0]}. This is in all of them."""\n'
        )
    assert sentences() == [
        "This is the text of a.",
        "This is in all of them.",
        "This is the text of b.",
    ]


def test_a_python_without_sources_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_docs.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=r"no Python sources in .*; give a text file instead"):
        sentences()
