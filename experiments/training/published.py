"""``--init-from``: training that starts from published weights, a checkpoint of transformers.

The checkpoint fixes the shape of the layers, the tokenizer and its vocabulary. A run keeps them in
its folder, so that it is resumed without the checkpoint. ``data.json`` has the fingerprint of the
weights under ``from``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from experiments.data.notes import print_notes
from experiments.data.sources import resolved
from experiments.training.configuration import Configuration, options_of
from experiments.training.origin import (
    DIGEST_BYTES,
    Origin,
    fingerprint_file,
    has_weights,
    origin_record,
    weights_record,
)
from univae.checkpoint import JsonObject, to_json
from univae.errors import InputError
from univae.rules import check
from univae.run_folder import RunFolder
from univae.text.run_tokenizer import open_tokenizer
from univae.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from univae.huggingface import Checkpoint
    from univae.sentence.model import RoFormerSim
    from univae.vae.model import UniVAE

__all__ = ["TextOrigin", "adopt", "published_options"]

Config = TypeVar("Config", bound=Configuration)

OPTION = "--init-from"


@dataclass(frozen=True, kw_only=True)
class TextOrigin(Origin):
    """The weights that training on texts starts from."""

    # folder of a checkpoint of transformers (RoFormer, BERT or GPT-2), or its name on the hub:
    # start from its layers, with its tokenizer
    init_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self)

    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer of the weights, or None where training starts from random ones."""
        if self.init_from is not None:
            return self.checkpoint().tokenizer
        return None if self.from_run is None else open_tokenizer(RunFolder.open(self.from_run))

    def record(self, out: Path, *, resumed: bool) -> dict[str, JsonObject]:
        """Return the entry of ``data.json`` with the fingerprint of the weights, if any."""
        if self.init_from is None:
            return origin_record(self.from_run, out, resumed=resumed)
        return weights_record(
            self.init_from,
            out,
            lambda: _fingerprint(self.checkpoint().weights_files()),
            resumed=resumed,
        )

    def load(self, model: "RoFormerSim | UniVAE", out: Path, *, resumed: bool) -> list[str]:
        """Copy the published weights into a new model; return and print notes on them.

        Nothing is done without ``init_from``, and where a resumed run has weights of its own.
        """
        if self.init_from is None or has_weights(out, resumed=resumed):
            return []
        notes = self.checkpoint().load(model)
        print_notes(notes)
        return notes

    def checkpoint(self) -> "Checkpoint":
        """Return the checkpoint of ``init_from``."""
        assert self.init_from is not None
        return _open(self.init_from)


def adopt(config: Config) -> Config:
    """Return a configuration with an absolute ``init_from`` and the options of the checkpoint.

    An option that has its default takes the value of the checkpoint. A resumed run has them in its
    ``config.json``.

    Raises:
        InputError: the checkpoint is missing, or cannot be read; ``--from`` is given too; or an
            option of the shape has a value that is neither the checkpoint's nor the default.
    """
    values = config.flat()
    name = values["init_from"]
    if has_weights(values["out"], resumed=values["resume"]):
        _require_stored(values["out"], name)
        return config
    if name is None:
        return config
    if values["from_run"] is not None:
        raise InputError(f"{OPTION} {name}: training starts from one set of weights; omit --from")
    fixed = published_options(name)
    options = options_of(type(config))
    initial = {key: fixed[key] for key in fixed if values[key] == options[key].default}
    location = resolved(name) if Path(name).exists() else name
    config = config.change(init_from=location, **initial)
    values = config.flat()
    for key, value in fixed.items():
        if values[key] != value:
            raise InputError(
                f"{key}={to_json(values[key])}: {OPTION} {name} has {key}={to_json(value)}; "
                "leave it out"
            )
    return config


def published_options(name: str) -> JsonObject:
    """Return the options that a checkpoint fixes, tokenizer and vocabulary included."""
    checkpoint = _open(name)
    tokenizer = checkpoint.tokenizer
    return {
        **checkpoint.options,
        "tokenizer": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
    }


def _require_stored(out: Path, name: str | None) -> None:
    """Raise InputError where a resumed run was started from another checkpoint, or from none."""
    stored = RunFolder.open(out).config.get("init_from")
    if name in (None, stored) or (stored and Path(resolved(str(name))) == Path(stored)):
        return
    raise InputError(
        f"{OPTION} {name}: {out} was started with {stored or 'none'}; leave it out, or start a new "
        "run with another --out"
    )


@cache
def _open(name: str) -> "Checkpoint":
    from univae.huggingface import Checkpoint

    return Checkpoint.open(name)


def _fingerprint(files: Iterable[Path]) -> str:
    """Return a fingerprint of the bytes of several files."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for path in files:
        digest.update(fingerprint_file(path).encode())
    return digest.hexdigest()
