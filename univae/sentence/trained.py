"""A trained RoFormer-Sim: vectors of texts, and similar texts, generated and ranked."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from univae.arguments import whole_number
from univae.as_texts import Texts, as_texts
from univae.checkpoint import read_module
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.run_folder import RunFolder, model_shape
from univae.seeds import seeded
from univae.sentence.model import NUCLEUS, RoFormerSim, RoFormerSimConfig
from univae.sentence.nearest import top_k
from univae.sentence.ranking import Draws, Key
from univae.sentence.tokenizer import SimilarText
from univae.text.run_tokenizer import open_tokenizer
from univae.text.tally import Tally
from univae.text.tokenizers import Tokenizer, pad
from univae.trained import WEIGHTS, Trained

__all__ = ["Generated", "RankedTexts", "TrainedSimilar", "encode_rows", "similar_config"]

ROWS = 128  # texts encoded at once
DRAWS = 800  # texts generated at once
READ_AHEAD = 64 * ROWS  # texts sorted by length together
VALUE_WIDTH = 60  # characters of a wrong value in a message

RankedTexts = list[tuple[str, float]]  # texts and their cosine to the source, best first


class Generated(NamedTuple):
    """Ranked texts, and counts of all that were generated from the source."""

    ranked: RankedTexts
    draws: Draws


class TrainedSimilar(Trained):
    """A RoFormer-Sim, and ``text``, which turns texts into its token ids.

    Texts are a text, a list of texts, or an array, Series or DataFrame of them.
    """

    kind = "train-similar"
    description = "a sentence model"
    lacks: ClassVar[Mapping[str, str]] = {
        "sample": "a sentence model writes texts similar to a text: similar(text)",
        "reconstruct": "the vectors of a sentence model have no decoder",
        "interpolate": "the vectors of a sentence model have no decoder",
        "edit": "a sentence model has no layers of latents",
        "score": "a sentence model has no likelihood; its cosines are similarity(a, b)",
    }

    def __init__(
        self,
        folder: RunFolder,
        device: torch.device,
        checkpoint: str,
        model: RoFormerSim,
        text: SimilarText,
    ) -> None:
        super().__init__(folder, device, checkpoint)
        self.model = model
        self.text = text

    @classmethod
    def read(cls, folder: RunFolder, device: torch.device, checkpoint: str) -> "TrainedSimilar":
        """Read tokenizer, model configuration and the weights of a checkpoint."""
        tokenizer = open_tokenizer(folder)
        config = similar_config(folder.config, tokenizer.vocab_size)
        text = SimilarText(tokenizer, config.max_length, lowercase=_lowercase(folder))
        weights = folder.checkpoint(checkpoint) / WEIGHTS
        model = read_module(lambda: RoFormerSim(config), weights, folder.path / "config.json")
        return cls(folder, device, checkpoint, model.to(device).eval(), text)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without the normalisation of :attr:`text`."""
        return self.text.tokenizer

    def encode(self, texts: Texts, tally: Tally | None = None) -> np.ndarray:
        """Return the texts' vectors (N, width), float32, of length 1.

        Args:
            texts: the texts; those longer than the model's are read by their beginning.
            tally: counts the texts, those cut, and unknown words.
        """
        blocks = list(self.encode_blocks(as_texts(texts, "encode"), tally))
        return np.concatenate(blocks or [np.zeros((0, self.model.config.width), np.float32)])

    def encode_blocks(
        self, texts: Iterable[str], tally: Tally | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the texts' vectors in order, a block (rows, width) at a time.

        Memory does not grow with the number of texts. ``tally``: see :meth:`encode`.
        """
        remaining = iter(texts)
        text = self.text.counting(tally)
        while block := list(islice(remaining, READ_AHEAD)):
            yield encode_rows(self.model, text.encode_batch(block))

    def similarity(self, a: Texts, b: Texts) -> np.ndarray:
        """Return the cosine of every pair of texts, (N,) float32.

        Raises:
            InputError: there are not as many texts in ``a`` as in ``b``.
        """
        first = as_texts(a, "similarity")
        second = as_texts(b, "similarity")
        if len(first) != len(second):
            raise InputError(
                f"similarity: needs pairs of texts; got {len(first)} and {len(second)} texts"
            )
        cosines: np.ndarray = (self.encode(first) * self.encode(second)).sum(1)
        return cosines

    def search(self, corpus: Texts, queries: Texts, count: int = 10) -> list[RankedTexts]:
        """Return the ``count`` texts of a corpus that are nearest to each query, by their cosine.

        A query alone, not in a list, has a list of one result, too.

        Raises:
            InputError: ``count`` is below 1, or the corpus is empty.
        """
        count = whole_number("search", "count", count)
        texts = as_texts(corpus, "search")
        if not texts:
            raise InputError("search: the corpus is empty; give at least one text")
        vectors = torch.from_numpy(self.encode(queries))
        scores, rows = top_k(vectors, self.encode(texts), count)
        results = []
        for query_scores, query_rows in zip(scores.tolist(), rows.tolist(), strict=True):
            best = [texts[row] for row in query_rows]
            results.append(list(zip(best, query_scores, strict=True)))
        return results

    def similar(
        self,
        texts: Texts,
        count: int = 10,
        samples: int = 100,
        sampling: Sampling = NUCLEUS,
        keep: str | Sequence[str] = (),
        mask: str | Sequence[str] = (),
        diversity: float = 0.0,
        *,
        seed: int | None = None,
    ) -> list[RankedTexts]:
        """Return the ranked texts of :meth:`generate`, without the counts.

        With a ``seed`` the global generators are left as they are.
        """
        with seeded(seed, self.device):
            generated = self.generate(texts, count, samples, sampling, keep, mask, diversity)
        return [row.ranked for row in generated]

    def generate(
        self,
        texts: Texts,
        count: int,
        samples: int = 100,
        sampling: Sampling = NUCLEUS,
        keep: str | Sequence[str] = (),
        mask: str | Sequence[str] = (),
        diversity: float = 0.0,
    ) -> list[Generated]:
        """Generate texts similar to each text, rank them by their cosine, and count them.

        The result has a list of texts for each source, also for one that is not in a list.

        Args:
            texts: the source texts, or one.
            count: the largest number of results for each; fewer where draws repeat.
            samples: the number of draws that the results of a text are chosen from.
            sampling: how the next token is drawn.
            keep: words that every result has, or one.
            mask: words of the sources that the generator does not see, or one.
            diversity: in [0, 1), see :mod:`univae.sentence.ranking`.

        Raises:
            InputError: a source does not have a word of ``mask``, or a number is out of its range.
        """
        count = whole_number("similar", "count", count)
        samples = whole_number("similar", "samples", samples)
        texts = as_texts(texts, "similar")
        if not texts:
            return []
        ids = self.text.batch(texts)
        hidden = self._positions(ids, texts, as_texts(mask, "mask")).to(self.device)
        ids = ids.to(self.device)
        key = self._key(as_texts(keep, "keep"))
        results: list[Generated] = []
        chunk_size = max(1, DRAWS // samples)
        for start in range(0, len(ids), chunk_size):
            rows = slice(start, start + chunk_size)
            generated = self.model.generate(
                ids[rows],
                count,
                hidden=hidden[rows],
                samples=samples,
                sampling=sampling,
                diversity=diversity,
                key=key,
            )
            for ranked in generated:
                ranked_texts = [self.text.decode(row) for row in ranked.ids]
                pairs = list(zip(ranked_texts, ranked.scores.tolist(), strict=True))
                results.append(Generated(pairs, ranked.draws))
        return results

    def _positions(self, ids: Tensor, texts: Sequence[str], words: Sequence[str]) -> Tensor:
        """Return a mask (N, T) that is true at the tokens of ``words``."""
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for row, tokens in enumerate(ids.tolist()):
            for word in words:
                positions = self.text.contains(tokens, word)
                if not positions:
                    raise InputError(f"mask: the text has no word {word!r}; got {texts[row]!r}")
                mask[row, positions] = True
        return mask

    def _key(self, keep: Sequence[str]) -> Key:
        """Return the function that maps tokens to their text, or to None where a word is missing.

        The text is encoded again, because the generator may write a word with other tokens.
        """

        def key(tokens: Sequence[int]) -> Hashable | None:
            text = self.text.decode(tokens)
            encoded = self.text.encode_batch([text])[0] if keep else []
            return text if all(self.text.contains(encoded, word) for word in keep) else None

        return key


@torch.inference_mode()
def encode_rows(model: RoFormerSim, encoded: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the vectors (N, width), float32, of texts given as tokens, in their order.

    Texts of similar length are encoded together, which saves computing on padding.
    """
    device = next(model.parameters()).device
    vectors = np.empty((len(encoded), model.config.width), np.float32)
    order = np.argsort([len(ids) for ids in encoded], kind="stable")
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        padded = pad([encoded[i] for i in rows]).to(device)
        vectors[rows] = model.encode(padded).float().cpu().numpy()
    return vectors


def similar_config(config: Mapping[str, object], vocab_size: int) -> RoFormerSimConfig:
    """Return the model's configuration from that of a run and its tokenizer's number of ids."""
    return model_shape(RoFormerSimConfig, config, vocab_size)


def _lowercase(folder: RunFolder) -> bool:
    lowercase = folder.config.get("lowercase", False)
    if not isinstance(lowercase, bool):
        shown = repr(str(lowercase)[:VALUE_WIDTH])
        file = folder.path / "config.json"
        raise InputError(f"{file}: lowercase must be true or false; got {shown}")
    return lowercase
