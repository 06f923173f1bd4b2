"""Special token ids, tokenizers, corpora on disk, and noise for denoising."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "END",
    "KINDS",
    "PAD",
    "START",
    "TOKENIZERS",
    "VOCABULARY",
    "Tokenizer",
    "pad",
    "require_vocabulary",
    "tokenizer_from_json",
    "train_tokenizer",
]

if TYPE_CHECKING:
    from univae.text.special import END, PAD, START
    from univae.text.tokenizers import (
        KINDS,
        TOKENIZERS,
        VOCABULARY,
        Tokenizer,
        pad,
        require_vocabulary,
        tokenizer_from_json,
        train_tokenizer,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "special": ["END", "PAD", "START"],
            "tokenizers": [
                "KINDS",
                "TOKENIZERS",
                "VOCABULARY",
                "Tokenizer",
                "pad",
                "require_vocabulary",
                "tokenizer_from_json",
                "train_tokenizer",
            ],
        },
    )
