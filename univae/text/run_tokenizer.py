"""The tokenizer of a run folder, and its record in ``data.json``."""

import json
from hashlib import blake2b

from univae.checkpoint import JsonObject, read_json
from univae.errors import InputError
from univae.run_folder import RunFolder
from univae.text.tokenizers import Tokenizer, tokenizer_from_json

__all__ = ["open_tokenizer", "tokenizer_record"]

DIGEST_BYTES = 16


def open_tokenizer(folder: RunFolder) -> Tokenizer:
    """Read a run's ``tokenizer.json``.

    Raises:
        InputError: it is no tokenizer, or not the one that ``data.json`` has the fingerprint of.
    """
    path = folder.path / "tokenizer.json"
    state = read_json(path)
    try:
        tokenizer = tokenizer_from_json(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    stored = folder.data_record().get("tokenizer")
    fingerprint = tokenizer_record(tokenizer)["fingerprint"]
    if stored is not None and stored.get("fingerprint") != fingerprint:
        rule = "is not the tokenizer that the run was trained with"
        raise InputError(f"{path} {rule}; restore the file the run wrote")
    return tokenizer


def tokenizer_record(tokenizer: Tokenizer) -> JsonObject:
    """Return source, fingerprint and number of ids of a tokenizer, for ``data.json``."""
    state = json.dumps(tokenizer.to_json(), sort_keys=True).encode()
    fingerprint = blake2b(state, digest_size=DIGEST_BYTES).hexdigest()
    return {"source": "tokenizer.json", "fingerprint": fingerprint, "count": tokenizer.vocab_size}
