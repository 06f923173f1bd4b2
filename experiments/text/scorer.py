"""Scores of texts: the log-likelihood of each, and its tokens, characters and words."""

from collections.abc import Iterator, Sequence
from itertools import islice

from torch import Tensor

from density import LatentModel
from density.tables.raw import RawTable
from experiments.data.text_notes import longer_notes, unknown_notes
from experiments.data.texts import texts_of
from experiments.evaluation.open_run import open_run
from experiments.evaluation.scorer import ScoringTask
from experiments.evaluation.scores import worst
from experiments.training.progress_bar import RowBar
from univae.checkpoint import JsonObject, write_json
from univae.run_folder import RunFolder
from univae.text.corpus import Removed
from univae.text.special import END
from univae.trained import ScoringBatch
from univae.vae.scoring import (
    BLOCK,
    SIZES,
    text_batches,
    text_rates,
    text_sizes,
    texts_at_once,
)
from univae.vae.trained import TrainedText

__all__ = ["TextScorer"]

UNKNOWN = (
    "; perplexity_per_word is of words and <unk>, and bits_per_char is null, because a code "
    "for <unk> does not name the characters"
)


class TextScorer:
    """Scores texts by the run of a text model.

    A text has its tokens plus one end token, and its words plus one end for
    ``perplexity_per_word``; characters are without line ends.
    """

    columns: tuple[str, ...] = (*SIZES, "text")
    table: RawTable | None = None  # texts are a column of scores

    def __init__(self, task: ScoringTask) -> None:
        self.task = task
        self.run = open_run(TrainedText, task.run, task.device)
        self.removed = Removed()  # counts the lines that were left out while texts are read

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.run.folder

    @property
    def model(self) -> LatentModel:
        """The text model."""
        return self.run.model

    def rows_at_once(self, latents: int) -> int:
        """Return how many texts of ``max_length`` tokens fit with ``latents`` latents each."""
        return texts_at_once(latents, self.run.model.config.max_length)

    def count_cut(self, x: Tensor) -> int:
        """Return how many texts have ``max_length`` tokens and no end token.

        Their log-probability is that of all texts that begin with these tokens.
        """
        return int((x != END).all(1).sum())

    def rows(self) -> Iterator[JsonObject]:
        """Yield the scores of the texts in their order.

        Texts of one padded length within a block are scored together.
        """
        texts = texts_of(self.task.data, self.task.limit, self.removed)
        with RowBar(self.task.limit, "scoring") as bar:
            while block := list(islice(texts, BLOCK)):
                own = block[self.task.share]
                rows: dict[int, JsonObject] = {}
                for batch in text_batches(self.run, own, self.task.estimator.latents):
                    rows |= zip(batch.rows, self._score(batch, own), strict=True)
                    bar.add(len(batch.rows))
                yield from self.task.all_rows([rows[i] for i in range(len(own))])

    def rates(self, rows: Sequence[JsonObject], log_likelihood: float) -> JsonObject:
        """Return bits per token and character, perplexity per word, and their denominators."""
        sizes = _sizes(rows)
        rates = text_rates(sizes, len(rows), log_likelihood)
        return {**rates, **sizes, "data": self.task.data}

    def notes(self, rows: Sequence[JsonObject], result: JsonObject) -> list[str]:
        """Return notes on lines left out, long texts, unknown words, and overflow."""
        notes = [*self.removed.notes(self.task.data), *self._token_notes(rows)]
        mean = result["log_likelihood_nats"]
        if result["perplexity_per_word"] is None and mean is not None:
            count = len(rows)
            nats = -mean * count / (result["words"] + count)
            notes.append(
                f"perplexity_per_word is null: exp({nats:.0f} nats a word) "
                "is beyond the range of a float"
            )
        return notes

    def write_worst(self, rows: Sequence[JsonObject]) -> None:
        """Write a table of the least likely texts."""
        diagnostic = self.task.estimator.diagnostic
        lowest = []
        for i in worst(rows):
            value = rows[i][diagnostic.column]
            shown = "undefined" if value is None else f"{value:.2f}"
            lowest.append([rows[i]["text"], f"{rows[i]['log_likelihood']:.2f}", shown])
        table = {
            "kind": "texts",
            "title": "The least likely texts, the lowest first",
            "columns": ["text", "log-likelihood, nats", diagnostic.label],
            "rows": lowest,
        }
        write_json(self.folder.subfolder("samples") / "worst.json", table)

    def _score(self, batch: ScoringBatch, block: Sequence[str]) -> list[JsonObject]:
        """Return the rows of a batch of the texts of a block."""
        scores = self.task.scores(self.run.model, batch.x, batch.chunk)
        texts = [block[row] for row in batch.rows]
        sizes = text_sizes(self.run.tokenizer, texts)
        for i, (score, text) in enumerate(zip(scores, texts, strict=True)):
            score |= {name: values[i] for name, values in sizes.items()}
            score["text"] = text
        return scores

    def _token_notes(self, rows: Sequence[JsonObject]) -> list[str]:
        """Return notes on long texts, unknown words, and white space that tokens leave out."""
        source = self.task.data
        sizes = _sizes(rows)
        max_length = self.run.model.config.max_length
        longer = sum(row["tokens"] > max_length for row in rows)
        notes = longer_notes(source, longer, len(rows), max_length)
        notes += unknown_notes(source, sizes["unknown_words"], sizes["words"], meaning=UNKNOWN)
        respaced = 0
        if not self.run.tokenizer.lossless:
            respaced = sum(" ".join(row["text"].split()) != row["text"] for row in rows)
        if respaced:
            notes.append(
                f"{source}: in {respaced} of {len(rows)} texts white space is more than single "
                "spaces between words; the vocabulary reads single spaces, "
                "and bits_per_char leaves out the rest"
            )
        return notes


def _sizes(rows: Sequence[JsonObject]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in SIZES}
