"""A trained text model and its tokenizer, opened from a run folder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.distributed import pick_device
from experiments.run import Run, shape_of
from univae.checkpoint import load_weights, read_json
from univae.corpus import read_lines
from univae.errors import InputError
from univae.text import Tokenizer, pad, tokenizer_from_json
from univae.vae import UniVAE, UniVAEConfig

__all__ = ["BUILT_IN", "TextRun", "model_config", "texts_of"]

BUILT_IN = "python-docs"


class TextRun:
    """What the commands that use a text model share."""

    def __init__(self, path: Path, device: str = "auto", checkpoint: str = "best") -> None:
        self.run = Run.open(path)
        if self.run.config.get("command") != "train-text":
            raise InputError(f"{path} is not the run of a text model; give the --out of train-text")
        self.tokenizer: Tokenizer = tokenizer_from_json(read_json(path / "tokenizer.json"))
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


def model_config(config: Mapping[str, Any], vocab_size: int) -> UniVAEConfig:
    """The model's shape out of a run's configuration; the tokenizer says how many ids there are."""
    return shape_of(UniVAEConfig, config, vocab_size)


def texts_of(data: str, limit: int = 0) -> Iterator[str]:
    """The texts of a file, one a line, or of the built-in corpus; at most ``limit`` of them, if it is not 0."""
    texts: Iterable[str]
    if data == BUILT_IN:
        from experiments.python_docs import sentences

        texts = sentences()
    else:
        texts = read_lines(Path(data))
    return islice(texts, limit or None)
