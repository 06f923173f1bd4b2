"""How the options of a configuration are typed."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args, get_origin

import tyro

from experiments.training.configuration import Option, options_of

__all__ = ["is_hidden", "is_positional", "spelling", "spellings", "without_annotations"]

POSITIONAL = get_args(tyro.conf.Positional[int])[1]

# Options of every command.
GLOBAL = ("--help", "--help-all", "--quiet")


def spellings(config_type: type, presets: Mapping[str, object]) -> set[str]:
    """Return all options of a command as they are typed, and its arguments in capitals."""
    names = set(GLOBAL)
    if presets:
        names.add("--preset")
    for name, option in options_of(config_type).items():
        if is_hidden(option):
            continue
        if is_positional(option):
            names.add(option.name.upper())
            continue
        typed = spelling(config_type, name)
        names.add(f"--{typed}")
        if option.hint is bool:
            names.add(f"--no-{typed}")
    return names


def spelling(config_type: type, name: str) -> str:
    """Return an option as it is typed, without dashes; ``name`` is its field, if it has one."""
    option = options_of(config_type).get(name)
    explicit = None if option is None else _explicit_name(option.hint)
    return explicit or name.replace("_", "-")


def is_positional(option: Option) -> bool:
    """Return whether an option is an argument, given by its position."""
    return POSITIONAL in get_args(option.hint)


def is_hidden(option: Option) -> bool:
    """Return whether an option has a single value, so that nobody needs to give it."""
    kind = without_annotations(option.hint)
    return get_origin(kind) is Literal and len(get_args(kind)) == 1


def without_annotations(hint: object) -> object:
    """Return a type without its annotations."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _explicit_name(hint: object) -> str | None:
    """Return the option of a field whose name would be a keyword of Python, such as ``from``."""
    names = (getattr(marker, "name", None) for marker in get_args(hint)[1:])
    return next((name for name in names if isinstance(name, str)), None)
