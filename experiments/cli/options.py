"""A configuration filled from command-line options, with errors of one line.

The parsing is tyro's: fields are options, ``tyro.conf.Positional`` fields are arguments, the
comments beside the fields are the help, and the parts of a configuration are the groups of it. This
module adds presets, the configuration of a resumed run, and the nearest names to a misspelt option.
"""

import argparse
import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar, get_args, get_origin

import tyro
from tyro import _errors as parse_errors
from tyro._arguments import ArgumentDefinition

from experiments.data.sources import names_code
from experiments.training.configuration import compose, options_of, parts_of
from univae.checkpoint import JsonObject, JsonValue
from univae.errors import InputError
from univae.rules import broken
from univae.run_folder import RunFolder

__all__ = ["parse", "stored"]

Config = TypeVar("Config")

# Options that may name Python code. A run folder is data: such a value is never taken from it.
CODE = ("features",)

SIMILARITY = 0.6  # of two spellings, from which on one is proposed for the other


def parse(
    config_type: type[Config],
    argv: Sequence[str],
    presets: Mapping[str, JsonObject],
    name: str,
) -> Config:
    """Return a ``config_type`` filled from options.

    Defaults are those of its fields; with ``--resume``, those of the run in ``--out``; then those
    of ``--preset``. An explicit option wins over all, so that a resumed run sees a change only
    where one was asked for.

    Raises:
        InputError: an option does not exist, is missing, cannot be read or breaks its rule.
    """
    arguments = list(argv)
    defaults = _resumed(config_type, arguments)
    if presets:
        preset, arguments = _extract(arguments, "--preset")
        if preset is not None:
            defaults |= _preset(config_type, presets, preset)

    def refuse(event: parse_errors.ParseErrorEvent) -> NoReturn:
        raise InputError(_message(event, _spellings(config_type, presets)))

    with parse_errors.on_parse_error(refuse):
        return tyro.cli(
            config_type,
            args=arguments,
            default=_unchecked(config_type, defaults),
            description=_description(config_type, presets),
            prog=name or None,
            config=(tyro.conf.OmitArgPrefixes,),
        )


def stored(config_type: type[Config], run: RunFolder, **changes: object) -> Config:
    """Return the ``config_type`` that a run was started with, but for ``changes``.

    Raises:
        InputError: a stored value has another type than its field, or breaks its rule; a required
            one is missing.
    """
    values = _saved(config_type, run) | changes
    options = options_of(config_type)
    required = [name for name, o in options.items() if o.default is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        lacks = f"lacks {', '.join(missing)}"
        file = run.path / "config.json"
        raise InputError(f"{file}: {lacks}; the run folder is damaged or of another version")
    return compose(config_type, values)


def _preset(config_type: type, presets: Mapping[str, JsonObject], name: str) -> JsonObject:
    """Return the values of a preset, all of which must be options."""
    if name not in presets:
        raise InputError(f"--preset must be one of {', '.join(presets)}; got {name}")
    unknown = presets[name].keys() - options_of(config_type).keys()
    if unknown:
        raise InputError(f"preset {name} has {', '.join(sorted(unknown))}, which is no option")
    return presets[name]


def _extract(argv: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """Return the last value of ``option`` and the arguments without it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(option, dest="value")
    try:
        known, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError:
        raise InputError(f"{option} needs a value") from None
    return known.value, rest


def _resumed(config_type: type, argv: Sequence[str]) -> JsonObject:
    """Return the options of the run that ``--resume`` continues; none where it is not given."""
    options = options_of(config_type)
    if "--resume" not in argv or not {"out", "resume"} <= options.keys():
        return {}
    out = _extract(argv, "--out")[0] or options["out"].default
    if out is dataclasses.MISSING:
        return {}  # the parser says that --out is required
    saved = _saved(config_type, RunFolder.open(Path(str(out))))
    return {
        name: value for name, value in saved.items() if name not in CODE or not names_code(value)
    }


def _saved(config_type: type, run: RunFolder) -> JsonObject:
    """Return the values of ``config.json`` that are options of ``config_type``, each checked."""
    options = options_of(config_type)
    values: JsonObject = {}
    for name, value in run.config.items():
        if name not in options:
            continue
        hint = _without_marks(options[name].hint)
        if value is None and type(None) not in get_args(hint):
            continue
        words = broken(options[name].owner, name, value)
        if words:
            file = run.path / "config.json"
            damaged = "the run folder is damaged or of another version"
            raise InputError(f"{file}: {name} must be {words}; {damaged}")
        values[name] = _typed(value, hint)
    return values


def _typed(value: JsonValue, hint: object) -> object:
    """Return a value of JSON, which has no paths and no tuples, in the type of its field."""
    if isinstance(value, list):
        if get_origin(hint) is list:
            return value
        element = next(iter(get_args(hint)), None)
        return tuple(_typed(item, element) for item in value)
    if isinstance(value, str) and Path in (hint, *get_args(hint)):
        return Path(value)
    return value


def _unchecked(config_type: type[Config], values: Mapping[str, object]) -> Config:
    """Return an instance with ``values`` and defaults for the parser to start from.

    It is made without the constructor, which checks combinations: options to come may mend those,
    and required values are not known yet.
    """
    parts = parts_of(config_type)
    filled: dict[type, dict[str, object]] = {part: {} for part in (config_type, *parts.values())}
    for name, option in options_of(config_type).items():
        default = tyro.MISSING if option.default is dataclasses.MISSING else option.default
        filled[option.owner][name] = values.get(name, default)
    for name, part in parts.items():
        filled[config_type][name] = _instance(part, filled[part])
    return _instance(config_type, filled[config_type])


def _instance(kind: type[Config], values: Mapping[str, object]) -> Config:
    instance = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


def _description(config_type: type, presets: Mapping[str, JsonObject]) -> str:
    text = inspect.cleandoc(config_type.__doc__ or "")
    if not presets:
        return text
    lines = ["", "", "--preset NAME starts from one of these, and explicit options win:"]
    for name, values in presets.items():
        lines.append(f"  {name}: {', '.join(f'{key} {value}' for key, value in values.items())}")
    return text + "\n".join(lines)


def _message(event: parse_errors.ParseErrorEvent, spellings: Iterable[str]) -> str:
    """Return what is wrong with the options in one line, without the name of the command."""
    if isinstance(event, parse_errors.UnrecognizedArgs):
        return _unknown(event.tokens, spellings)
    if isinstance(event, parse_errors.MissingArgs):
        if event.unrecognized_tokens:
            return _unknown(event.unrecognized_tokens, spellings)
        names = [" ".join(_usage(missing.arg)) for missing in event.missing_arguments]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} required; see --help"
    if isinstance(event, parse_errors.InvalidChoice):
        choices = ", ".join(event.choices)
        return f"{_usage(event.argument)[0]} must be one of {choices}; got {event.value}"
    if isinstance(event, parse_errors.BadValue):
        return f"{_usage(event.argument)[0]} needs a value; see --help"
    if isinstance(event, parse_errors.InstantiationFailure):
        if event.argument is None:
            return event.message
        return f"{_usage(event.argument)[0]}: {event.message}"
    return f"the options cannot be read ({type(event).__name__}); see --help"


def _usage(argument: ArgumentDefinition) -> tuple[str, ...]:
    """Return the option and its metavariable; of a positional argument its name in capitals."""
    if argument.is_positional():
        return (argument.field.intern_name.upper(),)
    return (argument.lowered.name_or_flags[-1], str(argument.lowered.metavar))


def _unknown(tokens: Sequence[str], spellings: Iterable[str]) -> str:
    """Return the refusal of the first option that does not exist, with the nearest ones that do."""
    options = [token for token in tokens if token.startswith("--")]
    if not options:
        return f"there is no argument {tokens[0]}; see --help"
    name = options[0].partition("=")[0]
    close = difflib.get_close_matches(
        name.replace("_", "-"), sorted(spellings), n=3, cutoff=SIMILARITY
    )
    nearest = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no option {name}{nearest}; see --help"


def _spellings(config_type: type, presets: Mapping[str, object]) -> set[str]:
    """Return every option as it is written."""
    spellings = {"--help"}
    if presets:
        spellings.add("--preset")
    positional = get_args(tyro.conf.Positional[int])[1]
    for name, option in options_of(config_type).items():
        if positional in get_args(option.hint):
            continue
        spelling = _other_name(option.hint) or name.replace("_", "-")
        spellings.add(f"--{spelling}")
        if option.hint is bool:
            spellings.add(f"--no-{spelling}")
    return spellings


def _without_marks(hint: object) -> object:
    """Return a type without what it is annotated by."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _other_name(hint: object) -> str | None:
    """Return the name that a field asks for where its own would be a keyword of Python."""
    names = (getattr(marker, "name", None) for marker in get_args(hint)[1:])
    return next((name for name in names if isinstance(name, str)), None)
