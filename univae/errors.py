"""The exception for invalid input: data, files and options that break a stated rule."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Invalid input or configuration.

    The message names the option or the file, the rule, the value, and a correction. A command
    prints the message as one line on stderr and exits with code 2; a caller of the library can
    catch it as a :class:`ValueError`.
    """
