"""A trained text model and its tokenizer, opened from a run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.data.text_notes import longer_notes, unknown_notes
from experiments.training.distributed import pick_device
from experiments.training.run_folder import Run, shape_of
from experiments.training.run_tokenizer import open_tokenizer
from univae.checkpoint import load_weights
from univae.errors import InputError
from univae.text.tokenizers import Tokenizer, pad
from univae.vae.model import UniVAE, UniVAEConfig

__all__ = ["TextRun", "model_config"]


class TextRun:
    """What the commands that use a text model share."""

    def __init__(self, path: Path, device: str = "auto", checkpoint: str = "best") -> None:
        self.run = Run.open(path)
        if self.run.config.get("command") != "train-text":
            raise InputError(f"{path} is not the run of a text model; give the --out of train-text")
        self.tokenizer: Tokenizer = open_tokenizer(self.run)
        self.device = pick_device(device)
        self.model = UniVAE(model_config(self.run.config, self.tokenizer.vocab_size))
        load_weights(self.model, self.run.checkpoint(checkpoint) / "model.safetensors")
        self.model.to(self.device).eval()

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts to padded ids (B, T), one end token each, on the model's device."""
        return pad(self.tokenizer.encode_batch(texts)).to(self.device)

    def decode(self, ids: Tensor) -> list[str]:
        """Ids to texts, each up to its end token."""
        return [self.tokenizer.decode(row) for row in ids]

    def notes(self, source: str, texts: Sequence[str], written: bool = False) -> list[str]:
        """Say how many of ``texts`` are longer than the model's, and how many words are unknown.

        ``written``: what is decoded from them has at most ``max_length`` tokens.
        """
        longest = self.model.config.max_length - 1  # the end token takes one place
        longer = sum(len(ids) > longest for ids in self.tokenizer.encode_batch(texts))
        unknown = sum(map(self.tokenizer.unknown, texts))
        words = sum(len(text.split()) for text in texts)

        return [
            *longer_notes(
                source, longer, len(texts), self.model.config.max_length, written=written
            ),
            *unknown_notes(source, unknown, words),
        ]


def model_config(config: Mapping[str, Any], vocab_size: int) -> UniVAEConfig:
    """The model's shape out of a run's configuration; the tokenizer says how many ids there are."""
    return shape_of(UniVAEConfig, config, vocab_size)
