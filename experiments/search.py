"""``univae search``: the texts of a corpus nearest to a text, by search among cosines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import tyro
from typing_extensions import Doc

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import output_file
from experiments.data.texts import TextFiles, Texts, listed, read_texts
from experiments.evaluation.open_run import open_run
from experiments.sentences.answers import Answer, require_jsonl, write_jsonl
from experiments.sentences.index_cache import OpenIndex, open_index, require_library
from experiments.sentences.notes import sentence_notes
from experiments.sentences.standard_input import (
    TextTable,
    answer_lines,
    is_stream,
    require_no_file,
)
from experiments.sentences.vector_graphs import INDICES, IndexName
from experiments.sentences.vector_index import Nearest
from experiments.sentences.vectors import (
    Precision,
    Vectors,
    require_cosines,
    texts_at,
    vectors_of,
)
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, at_least, check
from univae.sentence.trained import TrainedSimilar
from univae.text.lines import Removed
from univae.text.tally import Tally

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Finds the texts of a corpus most similar to a text, or to each text of a file.

    The vectors of the corpus are computed once and kept in the run folder.
    """

    run: tyro.conf.Positional[Path]  # the run folder of train-similar
    text: tyro.conf.Positional[str] = ""  # the text to compare with; none: those of --queries
    # the texts to search: UTF-8 files of one text per line (.gz too), a folder of .txt files, .csv,
    # .tsv or .jsonl files, or hub:NAME
    corpus: Annotated[Path | tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]
    # for a --corpus of .csv, .tsv or .jsonl: name, or number from 1, of the column of texts
    column: str = ""
    # a file of texts to compare with, instead of TEXT; -: lines of standard input, each answered by
    # a line of JSON on standard output before the next is read
    queries: Path | None = None
    out: Path | None = None  # .jsonl file to write: query, rank, text, score and row of each result
    count: int = 10  # most results of a text
    # .npy file of the corpus' vectors; default: one in the run folder, or in the user's cache
    vectors: Path | None = None
    overwrite: bool = False  # replace an existing --out, or a --vectors file of another program
    precision: Precision = "float32"  # number format of the vectors; float16: half the size
    index: Annotated[
        IndexName,
        Doc(choices_help("search among the vectors, whose recall is measured", INDICES)),
    ] = "exact"
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**6),
    }

    def __post_init__(self) -> None:
        check(self)
        if not listed(self.corpus):
            raise InputError("--corpus needs at least one file of texts; got none")
        if self.queries is None and not self.query.strip():
            raise InputError("the text is empty; give a sentence, or --queries FILE")
        if self.queries is not None and self.text:
            raise InputError("TEXT and --queries: give one of them")
        require_no_file("--queries", self.queries, self.out)

    @property
    def data_on_stdout(self) -> bool:
        """Whether standard output carries the answers, so that the result goes to stderr."""
        return is_stream(self.queries)

    @property
    def query(self) -> str:
        """The text to compare with: TEXT, also where it comes after the files of --corpus."""
        return self._split_corpus()[1]

    @property
    def files(self) -> TextFiles:
        """The texts to search."""
        return TextFiles(self._split_corpus()[0], self.column)

    def _split_corpus(self) -> tuple[list[str], str]:
        """Return the files of --corpus, and the text.

        In ``--corpus FILE TEXT`` the parser takes the text for a file.
        """
        files = listed(self.corpus)
        is_swallowed = self.queries is None and not self.text and len(files) > 1
        if is_swallowed and not Path(files[-1]).exists():
            return files[:-1], files[-1]
        return files, self.text


def main(config: Config) -> JsonObject:
    """Return ``results`` as [text, cosine], the best first, among ``texts`` texts.

    With ``--queries``, ``results`` are a query and its results for each, or with ``--out`` in the
    file alone; with ``--queries -`` they are lines of standard output. ``cached`` is whether the
    vectors were read from the file ``vectors``; ``cut`` counts the texts of the corpus with more
    than ``max_length`` tokens, of which only the beginning is compared. With ``--index usearch`` or
    ``faiss`` there are ``index``, ``index_cached``, and ``index_recall``, the share of the nearest
    texts that it finds.
    """
    if is_stream(config.queries):
        return _answered_stream(config)
    inputs: list[str | Path] = [config.run, *config.files.names]
    if config.queries is not None:
        inputs.append(config.queries)
    out = output_file(config.out, config.overwrite, inputs)
    require_jsonl(out)
    queries, query_notes = _queries(config)
    run, vectors, index = _opened(config)
    tally = Tally()
    nearest = _nearest(config, run.encode(queries, tally), vectors, index)
    texts = texts_at(config.files, nearest.rows.unique().tolist())
    answers = _answers(queries, nearest, texts)
    if out is not None:
        write_jsonl(out, (record for answer in answers for record in answer.records()))

    source = "the text" if config.queries is None else f"--queries {config.queries}"
    notes = [*vectors.notes, *index.notes, *query_notes, *sentence_notes(run, source, tally)]
    print_notes(notes)
    shown = _shown(config, answers)
    result = _result(config, vectors, _asked(config, queries), {**index.facts, **shown})
    return with_notes(result, [*run.notes, *notes])


def _answered_stream(config: Config) -> JsonObject:
    """Answer the lines of standard input, and return the result without the answers."""
    run, vectors, index = _opened(config)
    print_notes([*vectors.notes, *index.notes])
    texts = TextTable(config.files.read())
    tally = Tally()

    def answer(query: str) -> JsonObject:
        nearest = _nearest(config, run.encode([query], tally), vectors, index)
        return _record(_answers([query], nearest, texts)[0])

    removed = Removed()
    counts = answer_lines("query", answer, removed)
    notes = [*removed.notes("--queries -"), *sentence_notes(run, "--queries -", tally)]
    print_notes(notes)
    asked = {"queries": counts.answered, "refused": counts.refused}
    result = _result(config, vectors, asked, index.facts)
    return with_notes(result, [*run.notes, *vectors.notes, *index.notes, *notes])


def _opened(config: Config) -> tuple[TrainedSimilar, Vectors, OpenIndex]:
    require_library(config.index)
    run = open_run(TrainedSimilar, config.run, config.device, command="search")
    vectors = vectors_of(run, config.files, config.vectors, config.precision, config.overwrite)
    return run, vectors, open_index(config.index, vectors, config.count)


def _result(config: Config, vectors: Vectors, asked: JsonObject, shown: JsonObject) -> JsonObject:
    return {
        "run": str(config.run),
        **asked,
        "texts": len(vectors.matrix),
        "cached": vectors.cached,
        "vectors": str(vectors.path),
        "cut": vectors.tally.cut,
        **shown,
    }


def _queries(config: Config) -> Texts:
    """Return the texts to compare with, and notes on those left out."""
    if config.queries is None:
        return Texts([config.query], [])
    texts, notes = read_texts(str(config.queries))
    return Texts(texts, [f"--queries {note}" for note in notes])


def _nearest(config: Config, encoded: np.ndarray, vectors: Vectors, index: OpenIndex) -> Nearest:
    nearest = index.search.nearest(encoded, config.count)
    require_cosines(nearest.scores.flatten().tolist(), vectors.path, config.precision)
    return nearest


def _answers(
    queries: Sequence[str], nearest: Nearest, texts: Mapping[int, str] | TextTable
) -> list[Answer]:
    """Return the texts nearest to every query; ``texts`` holds them by their number."""
    answers = []
    rows_of_queries = zip(queries, nearest.scores.tolist(), nearest.rows.tolist(), strict=True)
    for query, scores, rows in rows_of_queries:
        answers.append(Answer(query, [texts[row] for row in rows], scores, rows))
    return answers


def _record(answer: Answer) -> JsonObject:
    return {"query": answer.query, "results": answer.pairs()}


def _asked(config: Config, queries: Sequence[str]) -> JsonObject:
    """Return the text, or the number of queries, for the result."""
    return {"text": queries[0]} if config.queries is None else {"queries": len(queries)}


def _shown(config: Config, answers: Sequence[Answer]) -> JsonObject:
    """Return the answers, or the file that holds them, for the result."""
    file = {} if config.out is None else {"out": str(config.out)}
    if config.queries is None:
        return {**file, "results": answers[0].pairs()}
    if file:
        return file
    return {"results": [_record(answer) for answer in answers]}


if __name__ == "__main__":
    run(Config, main)
