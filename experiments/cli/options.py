"""Configurations filled from command-line options.

tyro parses: fields are options, ``tyro.conf.Positional`` fields are arguments, the comments beside
fields are their help, and the parts of a configuration are the groups of the help. This module adds
presets, and the defaults of a resumed run.
"""

import argparse
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar, get_args, get_origin

import tyro
from tyro import _errors as parse_errors

from experiments.cli.messages import error_message
from experiments.data.sources import names_code
from experiments.training.configuration import compose, options_of, parts_of
from univae.checkpoint import JsonObject, JsonValue
from univae.errors import InputError
from univae.rules import broken
from univae.run_folder import RunFolder

__all__ = ["parse", "spelling", "stored"]

Config = TypeVar("Config")

# Options that may name Python code. A run folder may come from anywhere, so code that its
# config.json names is not run.
CODE = ("features",)

DAMAGED = "the run folder is damaged or of another version"


def parse(
    config_type: type[Config],
    argv: Sequence[str],
    presets: Mapping[str, JsonObject],
    name: str,
) -> Config:
    """Return a ``config_type`` filled from the arguments of a command.

    An option has the value of the first of these that holds one: the arguments, ``--preset``, the
    run in ``--out`` with ``--resume``, the default of the field. ``name`` is the command, for the
    usage line.

    Raises:
        InputError: an option does not exist, is missing, cannot be read or breaks its rule.
    """
    defaults, arguments = _defaults(config_type, argv, presets)

    def raise_error(event: parse_errors.ParseErrorEvent) -> NoReturn:
        raise InputError(error_message(event, _spellings(config_type, presets)))

    with parse_errors.on_parse_error(raise_error):
        return tyro.cli(
            config_type,
            args=arguments,
            default=_unchecked(config_type, defaults),
            description=_description(config_type, presets),
            prog=name or None,
            config=(tyro.conf.OmitArgPrefixes,),
        )


def stored(config_type: type[Config], run: RunFolder, **changes: object) -> Config:
    """Return the ``config_type`` that a run was started with, with ``changes``.

    Raises:
        InputError: a stored value has another type than its field, or breaks its rule; a required
            one is missing.
    """
    values = _saved(config_type, run) | changes
    options = options_of(config_type)
    missing = []
    for name, option in options.items():
        if option.default is dataclasses.MISSING and name not in values:
            missing.append(name)
    if missing:
        file = run.path / "config.json"
        raise InputError(f"{file}: lacks {', '.join(missing)}; {DAMAGED}")
    return compose(config_type, values)


def _defaults(
    config_type: type, argv: Sequence[str], presets: Mapping[str, JsonObject]
) -> tuple[JsonObject, list[str]]:
    """Return the defaults from ``--resume`` and ``--preset``, and the arguments left to parse."""
    arguments = list(argv)
    defaults = _stored_options(config_type, arguments)
    if presets:
        preset, arguments = _extract(arguments, "--preset")
        if preset is not None:
            defaults |= _preset(config_type, presets, preset)
    return defaults, arguments


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
        namespace, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError:
        raise InputError(f"{option} needs a value") from None
    return namespace.value, rest


def _stored_options(config_type: type, argv: Sequence[str]) -> JsonObject:
    """Return the options of the run that ``--resume`` continues; none without ``--resume``."""
    options = options_of(config_type)
    is_resumed = "--resume" in argv and options.keys() >= {"out", "resume"}
    if not is_resumed:
        return {}
    out = _extract(argv, "--out")[0] or options["out"].default
    if out is dataclasses.MISSING:
        return {}  # parsing will fail: --out is required
    values = _saved(config_type, RunFolder.open(Path(str(out))))
    for name in CODE:
        if names_code(values.get(name)):
            del values[name]
    return values


def _saved(config_type: type, run: RunFolder) -> JsonObject:
    """Return the values of ``config.json`` that are options of ``config_type``, each checked."""
    options = options_of(config_type)
    values: JsonObject = {}
    for name, value in run.config.items():
        if name not in options:
            continue
        hint = _without_annotations(options[name].hint)
        if value is None and type(None) not in get_args(hint):
            continue
        words = broken(options[name].owner, name, value)
        if words:
            file = run.path / "config.json"
            raise InputError(f"{file}: {name} must be {words}; {DAMAGED}")
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
    """Return an instance with ``values`` and defaults, without calling the constructor.

    The constructor checks combinations of options, which are complete only after parsing.
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


def _spellings(config_type: type, presets: Mapping[str, object]) -> set[str]:
    """Return all options of a command as they are typed."""
    spellings = {"--help"}
    if presets:
        spellings.add("--preset")
    positional = get_args(tyro.conf.Positional[int])[1]
    for name, option in options_of(config_type).items():
        if positional in get_args(option.hint):
            continue
        typed = spelling(config_type, name)
        spellings.add(f"--{typed}")
        if option.hint is bool:
            spellings.add(f"--no-{typed}")
    return spellings


def spelling(config_type: type, name: str) -> str:
    """Return an option as it is typed, without dashes; ``name`` is its field, if it has one."""
    option = options_of(config_type).get(name)
    explicit = None if option is None else _explicit_name(option.hint)
    return explicit or name.replace("_", "-")


def _without_annotations(hint: object) -> object:
    """Return a type without its annotations."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _explicit_name(hint: object) -> str | None:
    """Return the option of a field whose name would be a keyword of Python, such as ``from``."""
    names = (getattr(marker, "name", None) for marker in get_args(hint)[1:])
    return next((name for name in names if isinstance(name, str)), None)
