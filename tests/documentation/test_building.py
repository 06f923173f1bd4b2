"""Formulas become MathML, and docstrings Markdown."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from experiments.cli.commands import COMMANDS
from experiments.cli.help_pages import stored_page

BUILDING = Path(__file__).parents[2] / "docs" / "building"
DATE = re.compile(r"\d{4}-\d\d-\d\d|–")  # of the last commit, which a copy may not know
MATHML = "{http://www.w3.org/1998/Math/MathML}"


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the modules of the site on the path."""
    monkeypatch.syspath_prepend(str(BUILDING))
    yield
    for name in ("formulas", "docstrings", "tables"):
        sys.modules.pop(name, None)


@pytest.fixture
def formulas(building: None) -> ModuleType:
    pytest.importorskip("latex2mathml")
    return importlib.import_module("formulas")


@pytest.fixture
def docstrings(building: None) -> ModuleType:
    pytest.importorskip("griffe")
    return importlib.import_module("docstrings")


@pytest.fixture
def tables(building: None) -> ModuleType:
    return importlib.import_module("tables")


def test_the_tables_of_pages_are_those_of_the_files_of_results(tables: ModuleType) -> None:
    held = set()
    for path in tables.PAGES.rglob("*.md"):
        page = path.read_text(encoding="utf-8")
        held |= {name for name in tables.TABLES if f"<!-- {name} -->" in page}
        assert DATE.sub("", tables.with_tables(page)) == DATE.sub("", page), path
    assert held == tables.TABLES.keys()


def test_the_list_of_commands_has_every_option(tables: ModuleType) -> None:
    page = tables.with_commands("a <!-- commands --> b")
    for command in COMMANDS:
        assert f"\n## {command}\n" in page
        for option in stored_page(command).options:
            assert f"`{' '.join(option.usage.split())}`" in page


def names(math: str) -> list[str]:
    """Return the elements of the first row of a formula."""
    (row,) = ElementTree.fromstring(math)
    return [child.tag.removeprefix(MATHML) for child in row]


def test_a_function_is_spaced_from_its_argument_but_not_from_a_parenthesis(
    formulas: ModuleType,
) -> None:
    assert names(formulas.formula(r"a \log p")) == ["mi", "mspace", "mi", "mspace", "mi"]
    assert names(formulas.formula(r"\log_2 p")) == ["msub", "mspace", "mi"]
    assert names(formulas.formula(r"\log (p)")) == ["mi", "mo", "mi", "mo"]


def test_aligned_formulas_have_columns(formulas: ModuleType) -> None:
    math = formulas.formula(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "block")
    assert math.count("<mtr>") == 2
    assert 'style="text-align: right"' in math
    assert "columnalign" not in math


def test_the_formulas_of_a_page_are_replaced_and_its_code_is_not(formulas: ModuleType) -> None:
    page = formulas.with_formulas(
        r'<p><span class="arithmatex">\(a &lt; b\)</span></p>'
        r'<div class="arithmatex">\[c\]</div><code>\(d\)</code>'
    )
    assert page.count("<math") == 2
    assert '<div class="formula">' in page
    assert r"<code>\(d\)</code>" in page
    assert 'alttext="a &lt; b"' in page


def test_a_docstring_becomes_markdown(docstrings: ModuleType) -> None:
    text = docstrings.markdown(
        "Return :math:`x\n^2`.\n\n"
        ".. math::\n    a &= b, \\\\\n    c &= d\n\n"
        "Args:\n\n    .. math:: e\n\n"
        "See :func:`~univae.load` and :mod:`groups <univae.row_groups>`.\n\n"
        ">>> f([[1]])\n[1]\n\nEnd."
    )
    assert r"Return \(x ^2\)." in text
    assert r"\[\begin{aligned} a &= b, \\ c &= d \end{aligned}\]" in text
    assert "\n    \\[e\\]\n" in text
    assert '<autoref identifier="univae.load" optional><code>load</code></autoref>' in text
    assert '<autoref identifier="univae.row_groups" optional>groups</autoref>' in text
    assert "```pycon\n>>> f([[1]])\n[1]\n```\n\nEnd." in text
