"""Texts of standard input are answered one by one, while the command stays open."""

import io
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments import search, similar
from experiments.sentences.standard_input import TextTable, answer_lines
from tests.golden import make
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.lines import Removed

CORPUS = "a man likes red cars\na man likes a ball\ntwo dogs\nthe cat sees a bird\n"


class Questions(io.BytesIO):
    """Standard input that remembers how many bytes of answers there were before each line."""

    def __init__(self, content: bytes, answers: io.BytesIO) -> None:
        super().__init__(content)
        self.answers = answers
        self.sizes: list[int] = []

    def readline(self, size: int | None = -1) -> bytes:
        self.sizes.append(len(self.answers.getvalue()))
        return super().readline(size)


def asked(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Questions:
    """Let standard input hold ``content``, and the result's ``answers`` standard output."""
    questions = Questions(content, io.BytesIO())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=questions))
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=questions.answers))
    return questions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.copy_run("similar", tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def test_every_line_is_answered_before_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = asked("a\r\n \nä".encode(), monkeypatch)
    removed = Removed()
    counts = answer_lines("q", lambda text: {"q": text, "length": len(text)}, removed)
    assert counts == (2, 0)
    lines = questions.answers.getvalue().decode().splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == [
        {"q": "a", "length": 1},
        {"q": "", "results": []},
        {"q": "ä", "length": 1},
    ]
    sizes = [len("".join(lines[:count]).encode()) for count in range(4)]
    assert questions.sizes == sizes
    assert (removed.blank_lines, removed.carriage_returns) == (1, 1)


def test_a_line_that_is_no_text_is_refused_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(text: str) -> JsonObject:
        if text == "c":
            raise InputError("no c")
        return {"q": text}

    questions = asked(b"a\nb\xff\nc\nd\n", monkeypatch)
    assert answer_lines("q", answer, Removed()) == (2, 2)
    first, second, third, last = map(json.loads, questions.answers.getvalue().splitlines())
    assert (first, third, last) == ({"q": "a"}, {"line": 3, "error": "no c"}, {"q": "d"})
    assert second["line"] == 2
    assert second["error"].startswith("standard input, line 2")
    assert "not UTF-8" in second["error"]


def test_standard_input_without_a_line_has_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = asked(b"", monkeypatch)
    assert answer_lines("q", lambda text: {}, Removed()) == (0, 0)
    assert questions.answers.getvalue() == b""


def test_search_answers_each_line_as_it_answers_the_text_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(CORPUS)
    texts = ["two dogs", "a man"]
    options = {"run": run, "corpus": corpus, "count": 2}
    alone = [search.main(search.Config(text=text, **options))["results"] for text in texts]
    questions = asked("\n".join(texts).encode(), monkeypatch)
    config = search.Config(queries=Path("-"), **options)
    result = search.main(config)
    assert config.data_on_stdout
    assert (result["queries"], result["texts"], result["cached"]) == (2, 4, True)
    assert "results" not in result
    lines = [json.loads(line) for line in questions.answers.getvalue().decode().splitlines()]
    assert [line["query"] for line in lines] == texts
    assert [line["results"] for line in lines] == alone


def test_similar_answers_each_line_as_it_answers_the_text_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a man likes red cars", "two dogs", "a man likes red cars"]
    options = {"run": run, "count": 2, "samples": 10, "seed": 3}
    alone = [similar.main(similar.Config(text=text, **options))["results"] for text in texts]
    questions = asked("\n".join(texts).encode(), monkeypatch)
    result = similar.main(similar.Config(texts=Path("-"), **options))
    assert (result["texts"], result["refused"], "results" in result) == (3, 0, False)
    lines = [json.loads(line) for line in questions.answers.getvalue().decode().splitlines()]
    assert [line["text"] for line in lines] == texts
    assert [line["results"] for line in lines] == alone


@pytest.mark.parametrize("option", ["queries", "texts"])
def test_answers_of_a_stream_have_no_output_file(run: Path, option: str) -> None:
    config: Any = partial(search.Config, corpus=run) if option == "queries" else similar.Config
    with pytest.raises(InputError, match=f"--{option} - answers on standard output; leave out --o"):
        config(run=run, out=Path("a.jsonl"), **{option: Path("-")})


def test_a_table_of_texts_holds_them_by_number() -> None:
    table = TextTable(["ä", "", "b c"])
    assert [table[i] for i in range(len(table))] == ["ä", "", "b c"]
    for row in (-1, 3):
        with pytest.raises(IndexError, match=rf"row must lie in 0\.\.2; got {row}"):
            table[row]
