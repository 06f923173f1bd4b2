"""Configurations that are composed of parts, with flat names for the options of all parts.

A command's configuration has a field for each part: the model's shape, the objective, the training.
A part is a frozen dataclass with its rules, which functions take as an argument. Names are unique
over all parts, so that options (``--lr``), presets and ``config.json`` need no prefixes:

>>> @dataclass(frozen=True, kw_only=True)
... class Model:
...     width: int = 8
>>> @dataclass(frozen=True, kw_only=True)
... class Config(Configuration):
...     out: str
...     model: Model = Model()
>>> config = Config.of(out="runs/a", width=16)
>>> config.model.width, config.flat()
(16, {'out': 'runs/a', 'width': 16})
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import check, reading
from univae.run_folder import RunFolder

__all__ = [
    "Configuration",
    "Inherited",
    "Option",
    "compose",
    "flatten",
    "from_json",
    "options_of",
    "parts_of",
    "stored_configuration",
]

Config = TypeVar("Config")
Composed = TypeVar("Composed", bound="Configuration")


class Inherited(NamedTuple):
    """Options that have the values of the run whose weights training starts from, ``--from``."""

    fixed: tuple[str, ...] = ()  # with another value the weights would not fit
    defaults: tuple[str, ...] = ()  # which another value may replace


class Option(NamedTuple):
    """A field of a configuration or of one of its parts."""

    owner: type  # the dataclass that declares it, whose rules hold for it
    name: str
    hint: object  # its type, with annotations
    default: object  # dataclasses.MISSING where it is required


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The base of configurations with parts; see the module."""

    INHERITED: ClassVar[Inherited] = Inherited()

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of(cls: type[Composed], **options: object) -> Composed:
        """Return the configuration with ``options`` by their flat names.

        Raises:
            InputError: an option does not exist, is missing, or breaks its rule.
        """
        return compose(cls, options)

    def change(self: Composed, **options: object) -> Composed:
        """Return a copy with other values of ``options``, by their flat names."""
        return compose(type(self), {**flatten(self), **options})

    def flat(self) -> JsonObject:
        """Return all values by their flat names, in the order of the fields."""
        return flatten(self)


def parts_of(config_type: type) -> Mapping[str, type]:
    """Return the fields of a dataclass that are parts, with their dataclasses."""
    return _parts(config_type)


@cache
def _parts(config_type: type) -> Mapping[str, type]:
    hints = get_type_hints(config_type)
    names = [field.name for field in dataclasses.fields(config_type)]
    return MappingProxyType(
        {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}
    )


def options_of(config_type: type) -> Mapping[str, Option]:
    """Return every option of a configuration by its flat name.

    Raises:
        TypeError: two parts have a field of one name.
    """
    return _options(config_type)


@cache
def _options(config_type: type) -> Mapping[str, Option]:
    parts = parts_of(config_type)
    options: list[Option] = []
    hints = get_type_hints(config_type, include_extras=True)
    for field in dataclasses.fields(config_type):
        default = _default(field)
        if field.name in parts:
            options += _options_of_part(parts[field.name], default)
        else:
            options.append(Option(config_type, field.name, hints[field.name], default))
    by_name = {option.name: option for option in options}
    if len(by_name) < len(options):
        raise TypeError(f"{config_type.__name__}: two parts have a field of one name")
    return MappingProxyType(by_name)


def _options_of_part(part_type: type, default_part: object) -> list[Option]:
    hints = get_type_hints(part_type, include_extras=True)
    options = []
    for field in dataclasses.fields(part_type):
        default = getattr(default_part, field.name, _default(field))
        options.append(Option(part_type, field.name, hints[field.name], default))
    return options


def flatten(config: object) -> JsonObject:
    """Return the values of a configuration and of its parts by their flat names."""
    parts = parts_of(type(config))
    values: JsonObject = {}
    for field in dataclasses.fields(type(config)):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if field.name in parts:
            values |= flatten(value)
        else:
            values[field.name] = value
    return values


def compose(config_type: type[Config], values: Mapping[str, object]) -> Config:
    """Return the configuration with ``values`` by their flat names, defaults for the others.

    Raises:
        InputError: a value has no option, a required one is missing, or one breaks its rule.
    """
    options = options_of(config_type)
    unknown = [name for name in values if name not in options]
    if unknown:
        raise InputError(f"{config_type.__name__} has no option {', '.join(unknown)}")
    required = [name for name, option in options.items() if option.default is MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(f"{config_type.__name__} needs {', '.join(missing)}")
    arguments = {}
    for name, option in options.items():
        if option.owner is config_type and name in values:
            arguments[name] = values[name]
    for name, part_type in parts_of(config_type).items():
        arguments[name] = part_type(**part_values(config_type, part_type, values))
    return config_type(**arguments)


def part_values(
    config_type: type, part_type: type, values: Mapping[str, object]
) -> dict[str, object]:
    """Return the arguments of a part: from ``values``, otherwise its defaults."""
    arguments = {}
    for name, option in options_of(config_type).items():
        if option.owner is part_type:
            arguments[name] = values.get(name, option.default)
    return arguments


def stored_configuration(config_type: type[Composed], run: RunFolder) -> Composed:
    """Return the configuration that trained ``run``, from its ``config.json``, as if resumed.

    Options that are newer than the run have their defaults; the folder may have moved.

    Raises:
        InputError: the file is of another version, or damaged.
    """
    options = options_of(config_type)
    values: JsonObject = {}
    for name, value in run.config.items():
        hint = options[name].hint if name in options else None
        values[name] = from_json(value, hint)
    with reading(run.path / "config.json"):
        return config_type.of(**{**values, "out": run.path, "resume": True})


def from_json(value: object, hint: object) -> object:
    """Return a value of JSON, which has no paths and no tuples, in the type of its field."""
    if get_origin(hint) is Annotated:
        return from_json(value, get_args(hint)[0])
    if isinstance(value, list):
        if get_origin(hint) is list:
            return value
        element = next(iter(get_args(hint)), None)
        return tuple(from_json(entry, element) for entry in value)
    if isinstance(value, str) and Path in (hint, *get_args(hint)):
        return Path(value)
    return value


def _default(field: Field[object]) -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default
