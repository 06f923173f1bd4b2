"""The options that name the training and validation texts of a text model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from typing_extensions import Doc

from experiments.data.sources import resolved
from experiments.data.texts import BUILT_IN
from univae.registry import choices_help
from univae.rules import Rule, check, within
from univae.text.tokenizers import TOKENIZERS, TokenizerName

__all__ = ["TextData"]


@dataclass(frozen=True, kw_only=True)
class TextData:
    """The texts to train on and to hold out."""

    # training texts: a UTF-8 file of one text per line, or python-docs, the sentences of Python's
    # documentation
    text: str
    validation: str = ""  # held-out texts, in the same formats; empty: a share of --text
    held_out: float = 0.05  # without --validation: share of --text that is held out
    tokenizer: Annotated[TokenizerName, Doc(choices_help("kind of tokens", TOKENIZERS))] = "bpe"

    RULES: ClassVar[Mapping[str, Rule]] = {"held_out": within("(0, 1)", "a share of the texts")}

    def __post_init__(self) -> None:
        check(self)

    def absolute(self) -> "TextData":
        """Return the same options with absolute paths."""
        text = resolved(self.text, (BUILT_IN,))
        validation = resolved(self.validation, (BUILT_IN,))
        return replace(self, text=text, validation=validation)
