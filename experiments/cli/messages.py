"""One-line messages for options that cannot be parsed, with the nearest options that exist."""

import difflib
from collections.abc import Collection, Sequence

from tyro import _errors as parse_errors
from tyro._arguments import ArgumentDefinition

from experiments.cli.aliases import hint
from univae.errors import InputError

__all__ = ["error_message", "require_no_named_argument"]

SIMILARITY = 0.6  # least similarity of a spelling that is proposed for another
PROPOSALS = 3  # spellings that a message proposes, at most

NOTHING = "{None}|"  # what the metavariable of an option without a default begins with

# Metavariable -> the values in words.
NUMBERS = {"INT": "a whole number", "FLOAT": "a number"}


def error_message(event: parse_errors.ParseErrorEvent, spellings: Collection[str]) -> str:
    """Return the message of a parsing error, without the name of the command.

    Args:
        event: the error.
        spellings: every option of the command, and its arguments in capitals.
    """
    if isinstance(event, parse_errors.UnrecognizedArgs):
        return _unknown(event.tokens, spellings)
    if isinstance(event, parse_errors.MissingArgs):
        return _missing(event, spellings)
    if isinstance(event, parse_errors.InvalidChoice):
        choices = ", ".join(event.choices)
        return f"{_usage(event.argument)[0]} must be one of {choices}; got {event.value}"
    if isinstance(event, parse_errors.BadValue):
        return f"{_usage(event.argument)[0]} needs a value; see --help"
    if isinstance(event, parse_errors.InstantiationFailure):
        return _unreadable(event)
    return f"the options cannot be read ({type(event).__name__}); see --help"


def require_no_named_argument(argv: Sequence[str], spellings: Collection[str]) -> None:
    """Check that no argument of the command is given as an option, as in ``--run FOLDER``.

    Raises:
        InputError: one is.
    """
    for word in argv:
        option = word.partition("=")[0]
        name = option.removeprefix("--").upper()
        if option.startswith("--") and option not in spellings and name in spellings:
            raise InputError(f"{name} is an argument: give it without {option}; see --help")


def _unreadable(event: parse_errors.InstantiationFailure) -> str:
    """Return the message of a value that has another type than its option."""
    if event.argument is None:
        return event.message
    option = _usage(event.argument)[0]
    metavariable = str(event.argument.lowered.metavar).removeprefix(NOTHING)
    value = event.message.rpartition(": ")[2]
    if metavariable not in NUMBERS:
        return f"{option}: {event.message}"
    return f"{option} must be {NUMBERS[metavariable]}; got {value}"


def _missing(event: parse_errors.MissingArgs, spellings: Collection[str]) -> str:
    if event.unrecognized_tokens:
        return _unknown(event.unrecognized_tokens, spellings)
    names = [" ".join(_usage(missing.arg)) for missing in event.missing_arguments]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} required; see --help"


def _usage(argument: ArgumentDefinition) -> tuple[str, ...]:
    """Return the option and its metavariable; of a positional argument its name in capitals."""
    if argument.is_positional():
        return (argument.field.intern_name.upper(),)
    return (argument.lowered.name_or_flags[-1], str(argument.lowered.metavar))


def _unknown(tokens: Sequence[str], spellings: Collection[str]) -> str:
    options = [token for token in tokens if token.startswith("--")]
    if not options:
        return f"there is no argument {tokens[0]}; see --help"
    name = options[0].partition("=")[0]
    advice = hint(name, spellings)
    if advice:
        return f"there is no option {name}: {advice}"
    similar = difflib.get_close_matches(
        name.replace("_", "-"), sorted(spellings), n=PROPOSALS, cutoff=SIMILARITY
    )
    nearest = f"; did you mean {' or '.join(similar)}?" if similar else ""
    return f"there is no option {name}{nearest}; see --help-all"
