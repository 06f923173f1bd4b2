"""``univae search``: the texts of a corpus nearest to a text, by exact search among cosines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import output_file
from experiments.data.texts import TextFiles, Texts, listed, read_texts
from experiments.evaluation.open_run import open_run
from experiments.sentences.answers import Answer, require_jsonl, write_jsonl
from experiments.sentences.notes import sentence_notes
from experiments.sentences.vectors import (
    Precision,
    Vectors,
    require_cosines,
    texts_at,
    vectors_of,
)
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check
from univae.sentence.nearest import top_k
from univae.sentence.trained import TrainedSimilar
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
    queries: Path | None = None  # a file of texts to compare with, instead of TEXT
    out: Path | None = None  # .jsonl file to write: query, rank, text, score and row of each result
    count: int = 10  # most results of a text
    # .npy file of the corpus' vectors; default: one in the run folder, or in the user's cache
    vectors: Path | None = None
    overwrite: bool = False  # replace an existing --out, or a --vectors file of another program
    precision: Precision = "float32"  # number format of the vectors; float16: half the size
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
    file alone. ``cached`` is whether the vectors were read from the file ``vectors``; ``cut``
    counts the texts of the corpus with more than ``max_length`` tokens, of which only the beginning
    is compared.
    """
    inputs: list[str | Path] = [config.run, *config.files.names]
    if config.queries is not None:
        inputs.append(config.queries)
    out = output_file(config.out, config.overwrite, inputs)
    require_jsonl(out)
    queries, query_notes = _queries(config)
    run = open_run(TrainedSimilar, config.run, config.device, command="search")
    vectors = vectors_of(run, config.files, config.vectors, config.precision, config.overwrite)
    tally = Tally()
    encoded = run.encode(queries, tally)
    answers = _answers(config, queries, encoded, vectors)
    if out is not None:
        write_jsonl(out, (record for answer in answers for record in answer.records()))

    source = "the text" if config.queries is None else f"--queries {config.queries}"
    notes = [*vectors.notes, *query_notes, *sentence_notes(run, source, tally)]
    print_notes(notes)
    result = {
        "run": str(config.run),
        **_asked(config, queries),
        "texts": len(vectors.matrix),
        "cached": vectors.cached,
        "vectors": str(vectors.path),
        "cut": vectors.tally.cut,
        **_shown(config, answers),
    }
    return with_notes(result, [*run.notes, *notes])


def _queries(config: Config) -> Texts:
    """Return the texts to compare with, and notes on those left out."""
    if config.queries is None:
        return Texts([config.query], [])
    texts, notes = read_texts(str(config.queries))
    return Texts(texts, [f"--queries {note}" for note in notes])


def _answers(
    config: Config, queries: Sequence[str], encoded: np.ndarray, vectors: Vectors
) -> list[Answer]:
    """Return the nearest texts of every query."""
    top_scores, top_rows = top_k(torch.from_numpy(encoded), vectors.matrix, config.count)
    require_cosines(top_scores.flatten().tolist(), vectors.path, config.precision)
    texts = texts_at(config.files, top_rows.unique().tolist())
    answers = []
    for query, scores, rows in zip(queries, top_scores.tolist(), top_rows.tolist(), strict=True):
        answers.append(Answer(query, [texts[row] for row in rows], scores, rows))
    return answers


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
    return {"results": [{"query": row.query, "results": row.pairs()} for row in answers]}


if __name__ == "__main__":
    run(Config, main)
