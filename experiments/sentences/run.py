"""A trained RoFormer-Sim and its tokenizer, opened from a run folder, and what one does with them."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.data.text_notes import Tally, cut_notes, unknown_notes
from experiments.sentences.tokenizer import SimilarText
from experiments.training.distributed import pick_device
from experiments.training.run_folder import Run, shape_of
from experiments.training.run_tokenizer import open_tokenizer
from univae.checkpoint import load_weights
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.text.tokenizers import pad

__all__ = ["COMMAND", "SimilarRun", "encode_rows", "similar_config"]

COMMAND = "train-similar"
ROWS = 128  # texts encoded at once
DRAWS = 800  # texts written at once
READ_AHEAD = 64 * ROWS  # texts sorted by length together
Found = list[tuple[str, float]]


class SimilarRun:
    """What the commands that use a sentence model share."""

    def __init__(self, path: Path, device: str = "auto", checkpoint: str = "best") -> None:
        self.run = Run.open(path)
        if self.run.config.get("command") != COMMAND:
            raise InputError(
                f"{path} is not the run of a sentence model; give the --out of {COMMAND}"
            )
        tokenizer = open_tokenizer(self.run)
        config = similar_config(self.run.config, tokenizer.vocab_size)
        lowercase = self.run.config.get("lowercase", False)
        if not isinstance(lowercase, bool):
            got = f"got {str(lowercase)[:60]!r}"
            raise InputError(f"{path / 'config.json'}: lowercase must be true or false; {got}")
        self.text = SimilarText(tokenizer, config.max_length, lowercase)
        self.device = pick_device(device)
        self.model = RoFormerSim(config)
        self.weights = self.run.checkpoint(checkpoint) / "model.safetensors"
        load_weights(self.model, self.weights)
        self.model.to(self.device).eval()

    def vectors(self, texts: Sequence[str], tally: Tally | None = None) -> np.ndarray:
        """The texts' vectors (N, width), float32; ``tally`` counts texts, and those cut."""
        blocks = list(self.blocks(texts, tally))
        return np.concatenate(blocks or [np.zeros((0, self.model.config.width), np.float32)])

    def blocks(self, texts: Iterable[str], tally: Tally | None = None) -> Iterator[np.ndarray]:
        """The texts' vectors in order, some at a time.

        Memory does not grow with the number of texts.
        """
        remaining = iter(texts)
        text = self.text.counting(tally)
        while part := list(islice(remaining, READ_AHEAD)):
            yield encode_rows(self.model, text.encode_batch(part))

    def notes(self, source: str, tally: Tally) -> list[str]:
        """Say how many texts of ``source`` were cut, and how many of their words are unknown."""
        cut = cut_notes(source, tally, self.text.max_length)
        return [*cut, *unknown_notes(source, tally.unknown_words, tally.words)]

    def similar(
        self,
        texts: Sequence[str],
        count: int,
        samples: int = 100,
        sampling: Sampling | None = None,
        keep: Sequence[str] = (),
        mask: Sequence[str] = (),
        diversity: float = 0.0,
    ) -> list[Found]:
        """Generate texts similar to each and ranks them: at most ``count``, with their cosine.

        ``mask``: words of the source that the generator does not see. ``keep``: words that every
        result has.
        """
        sampling = sampling or Sampling(top_p=0.95)
        ids = self.text.batch(texts)
        hidden = torch.zeros_like(ids, dtype=torch.bool)
        for row, text in enumerate(ids.tolist()):
            for word in mask:
                places = self.text.contains(text, word)
                if not places:
                    raise InputError(f"mask: the text has no word {word!r}; got {texts[row]!r}")
                hidden[row, places] = True

        def key(tokens: Sequence[int]) -> Hashable | None:
            text = self.text.decode(tokens)
            again = self.text.encode_batch([text])[0] if keep else []
            return text if all(self.text.contains(again, word) for word in keep) else None

        ids = ids.to(self.device)
        hidden = hidden.to(self.device)
        options: dict[str, Any] = {
            "samples": samples,
            "sampling": sampling,
            "diversity": diversity,
            "key": key,
        }
        found = list[Found]()
        together = max(1, DRAWS // samples)
        for start in range(0, len(ids), together):
            part = slice(start, start + together)
            for ranked in self.model.generate(ids[part], count, hidden=hidden[part], **options):
                texts = [self.text.decode(row) for row in ranked.ids]
                found.append(list(zip(texts, ranked.scores.tolist(), strict=True)))
        return found


@torch.inference_mode()
def encode_rows(model: RoFormerSim, encoded: Sequence[Sequence[int]]) -> np.ndarray:
    """Vectors (N, width), float32, of texts given as tokens, in their order.

    Like lengths are encoded together.
    """
    device = next(model.parameters()).device
    vectors = np.empty((len(encoded), model.config.width), np.float32)
    order = np.argsort([len(ids) for ids in encoded], kind="stable")
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        padded = pad([encoded[i] for i in rows]).to(device)
        vectors[rows] = model.encode(padded).float().cpu().numpy()
    return vectors


def similar_config(config: Mapping[str, Any], vocab_size: int) -> RoFormerSimConfig:
    """The model's shape out of a run's configuration; the tokenizer says how many ids there are."""
    return shape_of(RoFormerSimConfig, config, vocab_size)
