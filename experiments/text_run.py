"""A trained text model and its tokenizer, opened from a run folder."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.distributed import pick_device
from experiments.run import Run, shape_of
from experiments.text_notes import longer_notes, unknown_notes
from univae.checkpoint import load_weights, read_json
from univae.corpus import Removed, read_lines
from univae.errors import InputError
from univae.text import Tokenizer, pad, tokenizer_from_json
from univae.vae import UniVAE, UniVAEConfig

__all__ = [
    "BUILT_IN",
    "TextRun",
    "model_config",
    "open_tokenizer",
    "require_rereadable",
    "texts_of",
    "tokenizer_record",
]

BUILT_IN = "python-docs"


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
            *longer_notes(source, longer, len(texts), self.model.config.max_length, written),
            *unknown_notes(source, unknown, words),
        ]


def open_tokenizer(run: Run) -> Tokenizer:
    """Read a run's ``tokenizer.json``.

    Raises:
        InputError: it is no tokenizer, or not the one that ``data.json`` has the fingerprint of.
    """
    path = run.path / "tokenizer.json"
    state = read_json(path)
    try:
        tokenizer = tokenizer_from_json(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    stored = run.data_record().get("tokenizer")
    fingerprint = tokenizer_record(tokenizer)["fingerprint"]
    if stored is not None and stored.get("fingerprint") != fingerprint:
        rule = "is not the tokenizer that the run was trained with"
        raise InputError(f"{path} {rule}; restore the file the run wrote")
    return tokenizer


def tokenizer_record(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what ``data.json`` holds of a run's tokenizer."""
    state = json.dumps(tokenizer.to_json(), sort_keys=True).encode()
    fingerprint = blake2b(state, digest_size=16).hexdigest()
    return {"source": "tokenizer.json", "fingerprint": fingerprint, "count": tokenizer.vocab_size}


def require_rereadable(option: str, path: Path) -> None:
    """Raise InputError for a pipe or a device, which a second reading would find empty."""
    if path.exists() and not path.is_dir() and not path.is_file():
        rule = "is not a file that can be read twice"
        raise InputError(f"{option} {path} {rule}; write the texts to a file first")


def model_config(config: Mapping[str, Any], vocab_size: int) -> UniVAEConfig:
    """The model's shape out of a run's configuration; the tokenizer says how many ids there are."""
    return shape_of(UniVAEConfig, config, vocab_size)


def texts_of(data: str, limit: int = 0, removed: Removed | None = None) -> Iterator[str]:
    """The texts of a file, one a line, or of the built-in corpus; at most ``limit`` of them, if it is not 0.

    ``removed`` counts blank lines and what else is left out of the lines read.
    """
    texts: Iterable[str]
    if data == BUILT_IN:
        from experiments.python_docs import sentences

        texts = sentences()
    else:
        texts = read_lines(Path(data), removed)
    return islice(texts, limit or None)
