"""``univae search``: the texts of a file nearest to one, by a RoFormer-Sim's cosine, exactly."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.text_notes import Tally
from experiments.sentences.run import SimilarRun
from experiments.sentences.vectors import Precision, require_cosines, texts_at, vectors_of
from univae.errors import InputError
from univae.rules import Rule, at_least, check
from univae.sentence.nearest import top_k

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Finds the texts of a corpus most similar to a text.

    The corpus' vectors are made once and kept in a file.
    """

    run: tyro.conf.Positional[Path]  # the run folder of train-similar
    text: tyro.conf.Positional[str]
    corpus: Path  # a UTF-8 file of one text per line
    count: int = 10
    vectors: Path | None = None  # the .npy file of their vectors; default: beside the corpus
    overwrite: bool = False  # replace a --vectors file that is not this command's
    precision: Precision = "float32"  # of the file; float16 is half the size
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**6),
    }

    def __post_init__(self) -> None:
        check(self)
        if not self.text.strip():
            raise InputError("the text is empty; give a sentence")


def main(config: Config) -> dict[str, Any]:
    """Return ``results``: [text, cosine], best first, of ``texts`` texts.

    ``cached``: the vectors were there. ``cut`` texts of the corpus have more than ``max_length``
    tokens and were compared by their beginning.
    """
    opened = SimilarRun(config.run, config.device)
    vectors = vectors_of(opened, config.corpus, config.vectors, config.precision, config.overwrite)
    tally = Tally()
    query = torch.from_numpy(opened.vectors([config.text], tally))
    scores, rows = (found[0].tolist() for found in top_k(query, vectors.matrix, config.count))
    require_cosines(scores, vectors.path, config.precision)
    results = [
        [text, score] for text, score in zip(texts_at(config.corpus, rows), scores, strict=True)
    ]
    notes = [*vectors.notes, *opened.notes("the text", tally)]
    print_notes(notes)
    result = {
        "run": str(config.run),
        "text": config.text,
        "texts": len(vectors.matrix),
        "cached": vectors.cached,
        "cut": vectors.tally.cut,
        "results": results,
    }
    return with_notes(result, [*opened.run.notes, *notes])


if __name__ == "__main__":
    run(Config, main)
