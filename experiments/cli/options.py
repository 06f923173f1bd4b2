"""A frozen dataclass filled from command-line options, with errors of one line.

The parsing is tyro's: fields are options, ``tyro.conf.Positional`` fields are arguments, the
comments beside the fields are the help. This module adds presets, the configuration of a resumed
run, and the nearest names to a misspelt option. A configuration is flat: fields it shares with
others come by inheritance.
"""

import contextlib
import dataclasses
import difflib
import inspect
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import tyro

from experiments.data.sources import names_code
from univae.errors import InputError
from univae.rules import broken
from univae.run_folder import RunFolder

__all__ = ["parse", "stored"]


# Options that may name Python code. A run folder is data: such a value is never taken from it.
CODE = ("features",)


def parse(
    config_type: type, argv: list[str], presets: Mapping[str, Mapping[str, Any]], name: str
) -> Any:
    """A ``config_type`` from options.

    Defaults are the dataclass's own; with ``--resume``, those of the run in ``--out``; then those
    of ``--preset``. An explicit option wins over all, so a resumed run sees a change only where one
    was asked for.
    """
    preset, argv = _take(argv, "--preset") if presets else (None, argv)
    _refuse_unknown(argv, _option_names(config_type) | ({"--preset"} if presets else set()))
    defaults = _resumed(config_type, argv)
    if preset is not None:
        if preset not in presets:
            raise InputError(f"--preset must be one of {', '.join(presets)}; got {preset}")
        unknown = presets[preset].keys() - {field.name for field in dataclasses.fields(config_type)}
        if unknown:
            raise InputError(
                f"preset {preset} has {', '.join(sorted(unknown))}, which is no option"
            )
        defaults |= presets[preset]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            description = _description(config_type, presets)
            default = _with_defaults(config_type, defaults)
            return tyro.cli(
                config_type, args=argv, default=default, description=description, prog=name or None
            )
    except SystemExit as stop:
        if stop.code in (0, None):  # help was asked for and given
            raise
        message = _condense(said.getvalue())
        raise InputError(message.removeprefix(f"Error parsing {config_type.__name__}: ")) from None


def stored(config_type: type, run: RunFolder, **changes: Any) -> Any:
    """Return the ``config_type`` that a run was started with, but for ``changes``.

    Raises:
        InputError: a stored value has another type than its field, or breaks its rule; a required
            one is missing.
    """
    values = _saved(config_type, run) | changes
    required = [field.name for field in dataclasses.fields(config_type) if _is_required(field)]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(
            f"{run.path / 'config.json'}: lacks {', '.join(missing)}; the run folder is damaged or of another version"
        )
    return config_type(**values)


def _take(argv: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    # The option's last value, and the arguments without it.
    value = None
    rest = []
    words = iter(argv)
    for word in words:
        if word == option:
            value = next(words, None)
            if value is None:
                raise InputError(f"{option} needs a value")
        elif word.startswith(option + "="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return value, rest


def _option_names(config_type: type) -> set[str]:
    hints = get_type_hints(config_type, include_extras=True)
    positional = get_args(tyro.conf.Positional[int])[1]
    names = {
        _spelt(field.name, hints[field.name]): hints[field.name]
        for field in dataclasses.fields(config_type)
        if positional not in get_args(hints[field.name])
    }
    switches = {f"--no-{name}" for name, hint in names.items() if hint is bool}
    return {f"--{name}" for name in names} | switches | {"--help"}


def _spelt(name: str, hint: Any) -> str:
    # A field may carry another name for its option, where its own would be a keyword.
    given = (getattr(part, "name", None) for part in get_args(hint)[1:])
    return next((other for other in given if isinstance(other, str)), name.replace("_", "-"))


def _refuse_unknown(argv: Sequence[str], names: set[str]) -> None:
    for word in argv:
        option = word.partition("=")[0].replace("_", "-")
        if re.match(r"--[^\W\d]", option) and option not in names:
            raise InputError(
                f"there is no option {word.partition('=')[0]}{_nearest(option, names)}; see --help"
            )


def _resumed(config_type: type, argv: Sequence[str]) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(config_type)}
    if "--resume" not in argv or not {"out", "resume"} <= fields.keys():
        return {}
    out = _take(argv, "--out")[0] or fields["out"].default
    if out is dataclasses.MISSING:
        return {}  # tyro will ask for it
    saved = _saved(config_type, RunFolder.open(Path(out)))
    return {
        name: value for name, value in saved.items() if name not in CODE or not names_code(value)
    }


def _saved(config_type: type, run: RunFolder) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(config_type)}
    hints = get_type_hints(config_type)
    values: dict[str, Any] = {}
    for name, value in run.config.items():
        if name not in names or (value is None and type(None) not in get_args(hints[name])):
            continue
        if words := broken(config_type, name, value):
            raise InputError(
                f"{run.path / 'config.json'}: {name} must be {words}; the run folder is damaged or of another version"
            )
        values[name] = _typed(value, hints[name])
    return values


def _is_required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _typed(value: Any, hint: Any) -> Any:
    # JSON has no paths and no tuples.
    if isinstance(value, list):
        inner = next(iter(get_args(hint)), None)
        return (
            tuple(_typed(item, inner) for item in value) if get_origin(hint) is not list else value
        )
    return Path(value) if isinstance(value, str) and Path in (hint, *get_args(hint)) else value


def _with_defaults(config_type: type, defaults: Mapping[str, Any]) -> Any:
    # Not by the constructor: it may check its arguments, and the required ones are not known yet.
    instance: Any = object.__new__(config_type)
    for field in dataclasses.fields(config_type):
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        own = tyro.MISSING if value is dataclasses.MISSING else value
        object.__setattr__(instance, field.name, defaults.get(field.name, own))
    return instance


def _description(config_type: type, presets: Mapping[str, Mapping[str, Any]]) -> str:
    text = inspect.cleandoc(config_type.__doc__ or "")
    if presets:
        lines = (
            f"  {name}: {', '.join(f'{k} {v}' for k, v in values.items())}"
            for name, values in presets.items()
        )
        text += (
            "\n\n--preset NAME starts from one of these, and explicit options win:\n"
            + "\n".join(lines)
        )
    return text


def _condense(text: str) -> str:
    # A box of a title, a rule, the message, a rule and a hint: the message alone, on one line.
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip(" │╭╮╰╯├┤─") for line in text.splitlines()]
    message: list[str] = []
    for line in lines[1:]:
        if line.strip("-"):
            message.append(line)
        elif message:
            break
    return " ".join(" ".join(message).split()) or "these options cannot be read; see --help"


def _nearest(word: str, known: set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""
