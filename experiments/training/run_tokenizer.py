"""The tokenizer of a run folder, and what ``data.json`` says of it."""

import json
from hashlib import blake2b
from typing import Any

from experiments.training.run_folder import Run
from univae.checkpoint import read_json
from univae.errors import InputError
from univae.text.tokenizers import Tokenizer, tokenizer_from_json

__all__ = ["open_tokenizer", "tokenizer_record"]


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
