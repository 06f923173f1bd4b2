"""The explorer's answers on a sentence model are those of the library."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from explorer_data import DATA

from experiments.explorer.panels import Panel
from experiments.explorer.sentences import Corpus, cosines_of, sentence_panels
from experiments.reports.html import escape
from univae.decoding.sampling import Sampling

TEXT = "a man sees a ball"


@pytest.fixture
def run(opened: Callable[[str], Any]) -> Any:
    return opened("similar")


@pytest.fixture
def panels(run: Any) -> dict[str, Panel]:
    corpus = Corpus(run, str(DATA / "corpus.txt"))
    return {panel.title: panel for panel in sentence_panels(run, corpus)}


def test_the_nearest_texts_of_a_file_are_those_of_search(
    run: Any, panels: dict[str, Panel]
) -> None:
    corpus = (DATA / "corpus.txt").read_text().splitlines()
    (expected,) = run.search(corpus, TEXT, 4)
    found = Corpus(run, str(DATA / "corpus.txt")).nearest(TEXT, 4)
    assert [text for text, _ in found] == [text for text, _ in expected]
    np.testing.assert_allclose([x for _, x in found], [x for _, x in expected], atol=1e-6)
    answer = panels["Nearest"].answer(TEXT, 4)
    assert all(f"<td>{score:.3f}</td><td>{text}</td>" in answer for text, score in found)


def test_the_similar_texts_are_those_of_the_library(run: Any, panels: dict[str, Panel]) -> None:
    answer = panels["Similar"].answer(TEXT, 3, 20, 0.8, 0.9, "", "ball", 5)
    (ranked,) = run.similar(TEXT, 3, 20, Sampling(0.8, top_p=0.9), mask=["ball"], seed=5)
    for text, score in ranked:
        assert f"<td>{score:.3f}</td><td>{escape(text)}</td>" in answer
    assert "the text has no word &#x27;cow&#x27;" in panels["Similar"].answer(
        TEXT, 3, 20, 0.8, 0.9, "", "cow", 5
    )


def test_the_cosines_of_texts_are_those_of_similarity(run: Any, panels: dict[str, Panel]) -> None:
    texts = [TEXT, "the boy likes red cars", "two dogs"]
    cosines = np.array(cosines_of(run, texts))
    pairs = [(a, b) for a in texts for b in texts]
    expected = run.similarity([a for a, _ in pairs], [b for _, b in pairs]).reshape(3, 3)
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
    assert f"<td>{cosines[0, 1]:.2f}</td>" in panels["Compare"].answer("\n".join(texts))


def test_without_a_file_the_search_says_what_to_give(run: Any) -> None:
    panels = {panel.title: panel for panel in sentence_panels(run)}
    assert panels["Nearest"].act is None
    assert "--data FILE" in panels["Nearest"].about
    values = [field.value for field in panels["Compare"].fields]
    assert "<table>" in panels["Compare"].answer(*values)
