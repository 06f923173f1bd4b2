"""Scores of texts: the log-likelihood of each, and its tokens, characters and words."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from tqdm import tqdm

from density import LatentModel
from density.tables.raw import RawTable
from experiments.data.text_notes import longer_notes, unknown_notes
from experiments.data.texts import texts_of
from experiments.evaluation.open_run import open_run
from experiments.evaluation.scorer import ScoringTask
from experiments.evaluation.scores import finite, perplexity, worst
from univae.checkpoint import JsonObject, write_json
from univae.run_folder import RunFolder
from univae.text.corpus import Removed
from univae.text.special import END, PAD
from univae.vae.trained import TrainedText

__all__ = ["TextScorer"]

BLOCK = 2048  # texts that are sorted by length together
TEXTS = 16  # texts in a batch
TOKENS = 16_384  # positions decoded at once: bounds the memory, whatever the number of samples
SIZES = ("tokens", "characters", "words", "unknown_words")
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
        return _texts_at_once(latents, self.run.model.config.max_length)

    def count_cut(self, x: Tensor) -> int:
        """Return how many texts have ``max_length`` tokens and no end token.

        Their log-probability is that of all texts that begin with these tokens.
        """
        return int((x != END).all(1).sum())

    def rows(self) -> Iterator[JsonObject]:
        """Yield the scores of the texts in their order.

        Texts are sorted by length within a block, so that batches have little padding.
        """
        texts = texts_of(self.task.data, self.task.limit, self.removed)
        with tqdm(desc="scoring", unit=" texts", disable=None, leave=False) as bar:
            while block := list(islice(texts, BLOCK)):
                order = sorted(range(len(block)), key=lambda i: len(block[i]))
                rows: dict[int, JsonObject] = {}
                for start in range(0, len(order), TEXTS):
                    batch = order[start : start + TEXTS]
                    rows |= zip(batch, self._score([block[i] for i in batch]), strict=True)
                    bar.update(len(batch))
                yield from (rows[i] for i in range(len(block)))

    def rates(self, rows: Sequence[JsonObject], log_likelihood: float) -> JsonObject:
        """Return bits per token and character, perplexity per word, and their denominators."""
        count = len(rows)
        sizes = _sizes(rows)
        nats = -log_likelihood * count
        bits = nats / math.log(2)
        per_char = None  # unknown where a code stands for <unk>, not for the word's characters
        if not sizes["unknown_words"]:
            per_char = finite(bits / sizes["characters"])
        return {
            "bits_per_token": finite(bits / sizes["tokens"]),
            "bits_per_char": per_char,
            "perplexity_per_word": perplexity(nats, sizes["words"] + count),
            **sizes,
            "data": self.task.data,
        }

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

    def _score(self, texts: list[str]) -> list[JsonObject]:
        """Return the rows of a batch."""
        ids = self.run.token_ids(texts)
        tokens = (ids != PAD).sum(1).tolist()
        rows = []
        for score, count, text in zip(self._estimates(ids), tokens, texts, strict=True):
            sizes = {
                "tokens": count,
                "characters": len(text),
                "words": len(text.split()),
                "unknown_words": self.run.tokenizer.unknown(text),
            }
            rows.append({**score, **sizes, "text": text})
        return rows

    def _estimates(self, ids: Tensor) -> list[JsonObject]:
        """Return the estimates of texts (N, T), as many at once as fit into memory."""
        estimator = self.task.estimator
        rows = []
        for batch in torch.split(ids, _texts_at_once(estimator.latents, ids.shape[1])):
            chunk = max(1, TOKENS // batch.numel())
            rows += estimator.rows(self.run.model, batch, chunk)
        return rows

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


def _texts_at_once(latents: int, length: int) -> int:
    """Return how many texts of ``length`` tokens fit into memory, with ``latents`` latents each."""
    return min(TEXTS, max(1, TOKENS // (latents * length)))


def _sizes(rows: Sequence[JsonObject]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in SIZES}
