"""Texts to score by a text model: batches of little padding, sizes, and bits per unit."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from univae.checkpoint import JsonObject
from univae.row_groups import in_whole_groups, with_whole_groups
from univae.text.special import PAD
from univae.text.tokenizers import Tokenizer
from univae.trained import Scoring, ScoringBatch

__all__ = [
    "SIZES",
    "TextScoring",
    "perplexity",
    "text_batches",
    "text_rates",
    "text_sizes",
    "texts_at_once",
]

BLOCK = 2048  # texts from which batches of one length are taken
STEP = 4  # tokens, of the lengths that texts are padded to
TEXTS = 16  # texts in a batch
TOKENS = 16_384  # positions decoded at once: bounds the memory, whatever the number of samples
SIZES = ("tokens", "characters", "words", "unknown_words")
LARGEST_EXPONENT = math.log(sys.float_info.max)


@runtime_checkable
class TextRun(Protocol):
    """A text model that turns texts into padded ids on its device."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        ...

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        """Return padded ids (N, T): tokens and one end token a text."""
        ...


@dataclass(frozen=True)
class TextScoring(Scoring):
    """Texts to score; a text has its tokens plus one end token."""

    max_length: int

    def rates(self, log_likelihood: float) -> JsonObject:
        """Return bits per token and character, and perplexity per word, see :func:`text_rates`."""
        totals = {name: sum(values) for name, values in self.sizes.items()}
        return text_rates(totals, self.count, log_likelihood)

    def notes(self) -> list[str]:
        """Return notes on long texts and unknown words."""
        notes = []
        longer = sum(tokens > self.max_length for tokens in self.sizes["tokens"])
        if longer:
            notes.append(
                f"{longer} of {self.count} texts have more than the model's "
                f"max_length={self.max_length} tokens, on which it was not trained"
            )
        unknown = sum(self.sizes["unknown_words"])
        if unknown:
            notes.append(
                f"bits_per_char is None: {unknown} words are unknown, and a code for <unk> does "
                "not name their characters"
            )
        return notes


def text_batches(
    run: TextRun, texts: Sequence[str], latents: int, count: int | None = None
) -> Iterator[ScoringBatch]:
    """Yield the texts in batches of one padded length, those of a block together.

    A text is padded to the next multiple of four tokens, whatever texts are beside it, so that its
    sums have the same terms and round alike. As many texts are in a batch as fit into memory with
    ``latents`` latents each, in :mod:`groups <univae.row_groups>`; of long texts one alone.
    ``texts`` may be some of ``count`` texts.
    """
    count = len(texts) if count is None else count
    for start in range(0, len(texts), BLOCK):
        ids = run.token_ids(texts[start : start + BLOCK])
        lengths = (ids != PAD).sum(1).cpu()
        padded = (lengths + STEP - 1) // STEP * STEP
        for length in padded.unique().tolist():
            rows = (padded == length).nonzero().squeeze(1)
            size = in_whole_groups(texts_at_once(latents, length), count)
            for some in rows.split(size):
                x = nn.functional.pad(ids[some.to(ids.device)], (0, STEP), value=PAD)[:, :length]
                if size > 1:
                    x = with_whole_groups(x)
                numbers = [start + row for row in some.tolist()]
                yield ScoringBatch(numbers, x, max(1, TOKENS // x.numel()))


def texts_at_once(latents: int, length: int) -> int:
    """Return how many texts of ``length`` tokens fit into memory, with ``latents`` latents each."""
    return min(TEXTS, max(1, TOKENS // (latents * length)))


def text_sizes(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of :data:`SIZES` of every text; its end token is one of its tokens."""
    return {
        "tokens": [len(tokens) + 1 for tokens in tokenizer.encode_batch(texts)],
        "characters": [len(text) for text in texts],
        "words": [len(text.split()) for text in texts],
        "unknown_words": [tokenizer.unknown(text) for text in texts],
    }


def text_rates(sizes: Mapping[str, int], count: int, log_likelihood: float) -> JsonObject:
    """Return bits per token and character and perplexity per word; None where not known.

    Characters are without line ends, and unknown where a code stands for <unk>; a text has one end
    more than its words.

    Args:
        sizes: the sums of :data:`SIZES` over all texts.
        count: the number of texts.
        log_likelihood: their mean in nats, NaN where it is unknown.
    """
    if not math.isfinite(log_likelihood):
        return {"bits_per_token": None, "bits_per_char": None, "perplexity_per_word": None}
    nats = -log_likelihood * count
    bits = nats / math.log(2)
    per_char = None
    if not sizes["unknown_words"] and sizes["characters"]:
        per_char = bits / sizes["characters"]
    return {
        "bits_per_token": bits / sizes["tokens"],
        "bits_per_char": per_char,
        "perplexity_per_word": perplexity(nats, sizes["words"] + count),
    }


def perplexity(nll_nats: float, units: int | float) -> float | None:
    r"""Return :math:`\exp(\text{NLL} / n)` over n words or tokens, an end per text included.

    None where the NLL is not finite, or the power overflows a float (709.78 nats a unit).

    >>> round(perplexity(326.7, 79.8673), 2)  # Yahoo: mean nats and words of a text, with its end
    59.77
    """
    if not math.isfinite(nll_nats) or nll_nats / units > LARGEST_EXPONENT:
        return None
    return math.exp(nll_nats / units)
