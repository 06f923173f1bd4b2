"""Ids that all tokenizers share. Nothing is imported here, so that every package can name them."""

__all__ = ["END", "PAD", "RESERVED", "START"]


PAD = 0
START = 1
END = 2

RESERVED = 3  # a tokenizer's own tokens start here
