"""The one exception for bad input: what a person gave breaks a rule, and the message says how to mend it."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Input or configuration that breaks a rule: the message names who, the rule, the value and the way out.

    A command prints the message as one line on stderr and exits with code 2; a caller of the
    library may catch it as the :class:`ValueError` it is.
    """
