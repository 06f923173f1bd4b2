"""The tokenizer of a run folder, see :mod:`univae.text.run_tokenizer`."""

from univae.text.run_tokenizer import open_tokenizer, tokenizer_record

__all__ = ["open_tokenizer", "tokenizer_record"]
