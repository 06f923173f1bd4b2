"""The exception for invalid input: data, files and options that break a stated rule."""

from collections.abc import Iterable

__all__ = ["InputError", "brief_list"]

LISTED = 8  # names in a message


class InputError(ValueError):
    """Invalid input or configuration.

    The message names the option or the file, the rule, the value, and a correction. A command
    prints the message as one line on stderr and exits with code 2; a caller of the library can
    catch it as a :class:`ValueError`.
    """


def brief_list(names: Iterable[object], most: int = LISTED) -> str:
    """Return names for a message: the first ``most``, with commas between them, then ``...``.

    >>> brief_list("abc"), brief_list("abc", most=2)
    ('a, b, c', 'a, b, ...')
    """
    words = [str(name) for name in names]
    return ", ".join((*words[:most], "...") if len(words) > most else words)
