"""Configurations filled from command-line options.

tyro parses: fields are options, ``tyro.conf.Positional`` fields are arguments. This module adds
presets, the spellings of other programs, and the defaults of a resumed run.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar, get_args

import tyro
from tyro import _errors as parse_errors

from experiments.cli.aliases import translate
from experiments.cli.messages import error_message, require_no_named_argument
from experiments.cli.spellings import spellings, without_annotations
from experiments.data.notes import print_notes
from experiments.data.sources import names_code
from experiments.training.configuration import (
    Configuration,
    compose,
    from_json,
    options_of,
    parts_of,
)
from experiments.training.new_folder import is_startable
from experiments.training.origin import inherited_options, require_inherited
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.exported import require_folder
from univae.rules import broken
from univae.run_folder import RunFolder

__all__ = ["parse", "stored"]

Config = TypeVar("Config")

# Options that may name Python code. A run folder may come from anywhere, so code that its
# config.json names is not run.
CODE = ("features",)

RESUME = "--resume"
DAMAGED = "the run folder is damaged or of another version"


def parse(
    config_type: type[Config],
    argv: Sequence[str],
    presets: Mapping[str, JsonObject],
    name: str,
) -> Config:
    """Return a ``config_type`` filled from the arguments of a command.

    An option has the value of the first of these that holds one: the arguments, the run of
    ``--from`` where it is inherited, ``--preset``, the run in ``--out`` with ``--resume``, the
    default of the field. Where ``--out`` is new or empty, ``--resume`` is left out, with a note:
    one command starts a run and starts it again. ``name`` is the command.

    Raises:
        InputError: an option does not exist, is missing, cannot be read or breaks its rule.
    """
    names = spellings(config_type, presets)
    require_no_named_argument(argv, names)
    argv = _started_or_resumed(config_type, translate(argv, names))
    defaults, arguments = _defaults(config_type, argv, presets)

    def raise_error(event: parse_errors.ParseErrorEvent) -> NoReturn:
        raise InputError(error_message(event, names))

    with parse_errors.on_parse_error(raise_error):
        config = tyro.cli(
            config_type,
            args=arguments,
            default=_unchecked(config_type, defaults),
            prog=name or None,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    source = _origin(config_type, argv)
    if source is not None and isinstance(config, Configuration):
        require_inherited(config, _inherited(type(config), source), config.INHERITED)
    return config


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
    source = _origin(config_type, argv)
    if source is not None:
        defaults |= _inherited(config_type, source)
    return defaults | _published(config_type, argv), arguments


def _started_or_resumed(config_type: type, argv: Sequence[str]) -> list[str]:
    """Return the arguments without ``--resume`` where there is nothing to resume yet."""
    out = _resumed_folder(config_type, argv)
    if out is None or not is_startable(out):
        return list(argv)
    print_notes([f"{out} holds no run yet: {RESUME} starts one"])
    return [word for word in argv if word != RESUME]


def _origin(config_type: type, argv: Sequence[str]) -> Path | None:
    """Return the run of ``--from``, for a command that has the option and starts a new run."""
    if not issubclass(config_type, Configuration) or not config_type.INHERITED.fixed:
        return None
    source = None if RESUME in argv else _extract(argv, "--from")[0]
    return None if source in (None, "None") else Path(source)


def _inherited(config_type: type[Configuration], source: Path) -> JsonObject:
    """Return the values of the options that a run inherits from that of ``--from``."""
    run = RunFolder.open(source)
    return inherited_options(config_type, run, config_type.INHERITED)


def _published(config_type: type, argv: Sequence[str]) -> JsonObject:
    """Return the options that the checkpoint of ``--init-from`` fixes, for a new run."""
    if RESUME in argv or "init_from" not in options_of(config_type):
        return {}
    name = _extract(argv, "--init-from")[0]
    if name in (None, "None"):
        return {}
    from experiments.training.published import published_options

    return published_options(str(name))


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
    out = _resumed_folder(config_type, argv)
    if out is None:
        return {}
    require_folder(out, RESUME)
    resumed_options = getattr(config_type, "resumed_options", None)
    if resumed_options is not None:  # of a command of several runs, which is no kind of a run
        return dict(resumed_options(out))
    values = _saved(config_type, RunFolder.open(out))
    for name in CODE:
        if names_code(values.get(name)):
            del values[name]
    return values


def _resumed_folder(config_type: type, argv: Sequence[str]) -> Path | None:
    """Return the folder that ``--resume`` continues; None without it, or without ``--out``."""
    options = options_of(config_type)
    if RESUME not in argv or not options.keys() >= {"out", "resume"}:
        return None
    out = _extract(argv, "--out")[0] or options["out"].default
    return None if out is dataclasses.MISSING else Path(str(out))


def _saved(config_type: type, run: RunFolder) -> JsonObject:
    """Return the values of ``config.json`` that are options of ``config_type``, each checked."""
    options = options_of(config_type)
    values: JsonObject = {}
    for name, value in run.config.items():
        if name not in options:
            continue
        hint = without_annotations(options[name].hint)
        if value is None and type(None) not in get_args(hint):
            continue
        words = broken(options[name].owner, name, value)
        if words:
            file = run.path / "config.json"
            raise InputError(f"{file}: {name} must be {words}; {DAMAGED}")
        values[name] = from_json(value, hint)
    return values


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
