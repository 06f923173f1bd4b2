"""``univae search``: the texts of a file nearest to a text, by exact search among cosines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.open_run import open_run
from experiments.sentences.notes import sentence_notes
from experiments.sentences.vectors import Precision, require_cosines, texts_at, vectors_of
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check
from univae.sentence.nearest import top_k
from univae.sentence.trained import TrainedSimilar
from univae.text.tally import Tally

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Finds the texts of a corpus most similar to a text.

    The vectors of the corpus are computed once and stored in a file.
    """

    run: tyro.conf.Positional[Path]  # the run folder of train-similar
    text: tyro.conf.Positional[str]  # the text to compare with
    corpus: Path  # the texts to search: a UTF-8 file of one text per line
    count: int = 10  # most results
    vectors: Path | None = None  # .npy file of the corpus' vectors; default: beside the corpus
    overwrite: bool = False  # replace a --vectors file that another program wrote
    precision: Precision = "float32"  # number format of --vectors; float16: half the size
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**6),
    }

    def __post_init__(self) -> None:
        check(self)
        if not self.text.strip():
            raise InputError("the text is empty; give a sentence")


def main(config: Config) -> JsonObject:
    """Return ``results`` as [text, cosine], the best first, among ``texts`` texts.

    ``cached`` is whether the vectors were read from their file; ``cut`` counts the texts of the
    corpus with more than ``max_length`` tokens, of which only the beginning is compared.
    """
    run = open_run(TrainedSimilar, config.run, config.device, command="search")
    vectors = vectors_of(run, config.corpus, config.vectors, config.precision, config.overwrite)
    tally = Tally()
    query = torch.from_numpy(run.encode([config.text], tally))
    top_scores, top_rows = top_k(query, vectors.matrix, config.count)
    scores = top_scores[0].tolist()
    require_cosines(scores, vectors.path, config.precision)
    texts = texts_at(config.corpus, top_rows[0].tolist())

    notes = [*vectors.notes, *sentence_notes(run, "the text", tally)]
    print_notes(notes)
    result = {
        "run": str(config.run),
        "text": config.text,
        "texts": len(vectors.matrix),
        "cached": vectors.cached,
        "cut": vectors.tally.cut,
        "results": [list(pair) for pair in zip(texts, scores, strict=True)],
    }
    return with_notes(result, [*run.notes, *notes])


if __name__ == "__main__":
    run(Config, main)
