"""Token ids that all tokenizers share. This module imports nothing, so any package may use it."""

__all__ = ["END", "PAD", "RESERVED", "START"]


PAD = 0
START = 1
END = 2

RESERVED = 3  # number of special ids, and so the first regular id
