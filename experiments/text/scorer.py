"""Scores of texts: the log-likelihood of each, and its tokens, characters and words."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from density import LatentModel
from density.tables.raw import RawTable
from experiments.data.text_notes import longer_notes, unknown_notes
from experiments.data.texts import text_blocks
from experiments.evaluation.open_run import open_run
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scorer import ScoringTask
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
        self._respaced = 0  # texts scored whose white space tokens leave out

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
        blocks = text_blocks(self.task.data, BLOCK, self.task.limit, self.removed)
        is_lossless = self.run.tokenizer.lossless
        with RowBar(self.task.limit, "scoring") as bar:
            read = 0  # texts so far: more than one, unless there is a single text
            for block in blocks:
                read += len(block)
                own = block[self.task.share]
                rows: dict[int, JsonObject] = {}
                for batch in text_batches(self.run, own, self.task.estimator.latents, read):
                    rows |= zip(batch.rows, self._score(batch, own), strict=True)
                    bar.add(len(batch.rows))
                for row in self.task.all_rows([rows[i] for i in range(len(own))]):
                    if not is_lossless:
                        self._respaced += " ".join(row["text"].split()) != row["text"]
                    yield row

    def rates(self, rows: ScoreColumns, log_likelihood: float) -> JsonObject:
        """Return bits per token and character, perplexity per word, and their denominators."""
        sizes = _sizes(rows)
        rates = text_rates(sizes, len(rows), log_likelihood)
        return {**rates, **sizes, "data": self.task.data}

    def notes(self, rows: ScoreColumns, result: JsonObject) -> list[str]:
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

    def write_worst(self, rows: ScoreColumns) -> None:
        """Write a table of the least likely texts."""
        diagnostic = self.task.estimator.diagnostic
        lowest = []
        for _, row in rows.least_likely:
            value = row[diagnostic.column]
            shown = "undefined" if value is None else f"{value:.2f}"
            lowest.append([row["text"], f"{row['log_likelihood']:.2f}", shown])
        table = {
            "kind": "texts",
            "title": "The least likely texts, the lowest first",
            "columns": ["text", "log-likelihood, nats", diagnostic.label],
            "rows": lowest,
        }
        write_json(self.folder.subfolder("samples") / "worst.json", table)

    def _score(self, batch: ScoringBatch, block: Sequence[str]) -> list[JsonObject]:
        """Return the rows of a batch of the texts of a block."""
        scores = self.task.scores(self.run.model, batch)
        texts = [block[row] for row in batch.rows]
        sizes = text_sizes(self.run.tokenizer, texts)
        for i, (score, text) in enumerate(zip(scores, texts, strict=True)):
            score |= {name: values[i] for name, values in sizes.items()}
            score["text"] = text
        return scores

    def _token_notes(self, rows: ScoreColumns) -> list[str]:
        """Return notes on long texts, unknown words, and white space that tokens leave out."""
        source = self.task.data
        sizes = _sizes(rows)
        trained = self.run.trained_length
        longer = int((rows.column("tokens") > trained).sum())
        notes = longer_notes(source, longer, len(rows), trained)
        notes += unknown_notes(source, sizes["unknown_words"], sizes["words"], meaning=UNKNOWN)
        if self._respaced:
            notes.append(
                f"{source}: in {self._respaced} of {len(rows)} texts white space is more than "
                "single spaces between words; the vocabulary reads single spaces, "
                "and bits_per_char leaves out the rest"
            )
        return notes


def _sizes(rows: ScoreColumns) -> dict[str, int]:
    return {name: rows.total(name) for name in SIZES}
