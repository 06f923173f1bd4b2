"""The help of a command read from its configuration: types, comments beside fields, defaults.

The comment beside or above a field is the help of its option; ``Annotated[..., Doc(...)]`` replaces
it. A part of the configuration is a group, its docstring the description.
"""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from typing_extensions import Doc
from tyro._docstrings import get_field_docstring

from experiments.cli.help_pages import Group, HelpOption, Page
from experiments.cli.spellings import is_hidden, is_positional, spelling, without_annotations
from experiments.training.configuration import Option, options_of, parts_of
from univae.checkpoint import JsonObject

__all__ = ["help_text", "page_of"]

TITLE = "options"  # of a configuration's own fields

# Type -> metavariable.
METAVARIABLES: dict[object, str] = {int: "INT", float: "FLOAT", str: "STR"}


def page_of(config_type: type, presets: Mapping[str, JsonObject]) -> Page:
    """Return the help of a command.

    Args:
        config_type: the configuration of the command.
        presets: its values of options by the name of the preset.
    """
    groups = []
    by_owner = _by_group(config_type)
    for title, options in by_owner.items():
        lines = [_help_option(config_type, option) for option in options]
        lines.sort(key=_order)
        if presets and title == TITLE:
            lines.append(_preset_option(presets))
        part = parts_of(config_type).get(title)
        description = "" if part is None else _first_paragraph(part)
        groups.append(Group(title=title, description=description, options=lines))
    description = inspect.cleandoc(config_type.__doc__ or "")
    texts = {name: _values_text(values) for name, values in presets.items()}
    return Page(description=description, groups=groups, presets=texts)


def help_text(option: Option) -> str:
    """Return the help of an option: the annotated one, or the comment beside the field."""
    texts = [mark.documentation for mark in get_args(option.hint)[1:] if isinstance(mark, Doc)]
    text = texts[0] if texts else get_field_docstring(option.owner, option.name, ()) or ""
    return " ".join(text.split())


def _by_group(config_type: type) -> dict[str, list[Option]]:
    """Return the visible options of the configuration itself, then those of each part."""
    titles = {part: title for title, part in parts_of(config_type).items()}
    groups: dict[str, list[Option]] = {TITLE: []}
    groups |= {title: [] for title in parts_of(config_type)}
    for option in options_of(config_type).values():
        if not is_hidden(option):
            groups[titles.get(option.owner, TITLE)].append(option)
    return {title: options for title, options in groups.items() if options}


def _help_option(config_type: type, option: Option) -> HelpOption:
    name = spelling(config_type, option.name)
    positional = is_positional(option)
    kind = without_annotations(option.hint)
    if positional:
        several = " ..." if get_origin(kind) in (tuple, list) else ""
        usage = name.upper() + several
    elif kind is bool:
        usage = f"--{name}, --no-{name}" if option.default else f"--{name}"
    else:
        usage = f"--{name} {_metavariable(kind)}"
    required = option.default is dataclasses.MISSING
    return HelpOption(
        name=name.replace("-", "_"),
        usage=usage,
        help=help_text(option),
        default="" if required else _default_text(option.default),
        required=required,
        positional=positional,
    )


def _order(option: HelpOption) -> tuple[bool, bool]:
    """Return the key that sorts arguments first, then required options."""
    return not option.positional, not option.required


def _preset_option(presets: Mapping[str, JsonObject]) -> HelpOption:
    return HelpOption(
        name="preset",
        usage=f"--preset {{{','.join(presets)}}}",
        help="a set of options to start from; other options on the command line change it",
        default="none",
        required=False,
        positional=False,
    )


def _metavariable(kind: object) -> str:
    """Return the values of a type in a usage line."""
    origin = get_origin(kind)
    if origin is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    if origin in (tuple, list):
        return f"{_metavariable(get_args(kind)[0])} ..."
    if origin in (Union, UnionType):
        kinds = [argument for argument in get_args(kind) if argument is not NoneType]
        return "|".join(map(_metavariable, kinds))
    return METAVARIABLES.get(kind, getattr(kind, "__name__", "VALUE").upper())


def _default_text(value: object) -> str:
    if value is None or value == ():
        return "none"
    if value == "":
        return "empty"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value)


def _values_text(values: Mapping[str, object]) -> str:
    return ", ".join(_value_words(values))


def _value_words(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        text = value
        if isinstance(value, Sequence) and not isinstance(value, str):
            text = " ".join(map(str, value))
        yield f"--{name.replace('_', '-')} {text}"


def _first_paragraph(kind: type) -> str:
    text = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split())
