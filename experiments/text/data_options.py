"""The options that name the training and validation texts of a text model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, TypeAlias

import tyro
from typing_extensions import Doc

from experiments.data.texts import absolute_sources, listed
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, check, within
from univae.text.tokenizers import TOKENIZERS, TokenizerName

__all__ = ["TextData"]

# One source stays a string, as in the config.json of earlier versions.
TextSources: TypeAlias = Annotated[str | tuple[str, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]


@dataclass(frozen=True, kw_only=True)
class TextData:
    """The texts to train on and to hold out."""

    # training texts: UTF-8 files of one text per line (.gz too), a folder of .txt files, .csv, .tsv
    # or .jsonl files, hub:NAME, s3://... or another store, or python-docs, the sentences of
    # Python's documentation
    text: TextSources
    # held-out texts, in the same formats; empty: a share of --text
    validation: TextSources = ""
    # with .csv, .tsv or .jsonl: name, or number from 1, of the column of texts; empty: the only one
    column: str = ""
    held_out: float = 0.05  # without --validation: share of --text that is held out
    tokenizer: Annotated[TokenizerName, Doc(choices_help("kind of tokens", TOKENIZERS))] = "bpe"

    RULES: ClassVar[Mapping[str, Rule]] = {"held_out": within("(0, 1)", "a share of the texts")}

    def __post_init__(self) -> None:
        check(self)
        if not listed(self.text):
            raise InputError("--text needs at least one file of texts; got none")

    def absolute(self) -> "TextData":
        """Return the same options with absolute paths."""
        text = absolute_sources(self.text)
        validation = absolute_sources(self.validation)
        return replace(self, text=text, validation=validation)
