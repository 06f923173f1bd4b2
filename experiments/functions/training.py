"""Training commands as functions: options by name, data by path or in memory, the run returned."""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
import torch

from experiments.cli.commands import COMMANDS
from experiments.cli.options import parse
from experiments.cli.spellings import spelling, without_annotations
from experiments.data.own_folders import is_own
from experiments.functions.memory import ROWS, SIMILAR, TEXTS, Format, write_once
from experiments.training.configuration import options_of
from experiments.training.new_folder import (
    IN_MEMORY_DATA,
    is_startable,
    new_folders,
    remove_empty,
    require_new_folder,
)
from univae.checkpoint import JsonObject, remove_folder, to_json
from univae.errors import InputError
from univae.kinds import load
from univae.trained import Trained

__all__ = ["DENSITY", "GAN", "SIMILAR_TEXTS", "TEXT", "Trainer"]

Value: TypeAlias = Any  # of an option

NOT_A_VALUE = re.compile(r"-[^0-9.]")  # what the beginning of an option looks like
REPORT_FOLDERS = ("plots", "samples")


@dataclass(frozen=True)
class Trainer:
    """A training command as a function."""

    command: str
    option: str  # that names the training data
    form: Format  # of training and validation data in memory

    def __call__(
        self,
        data: Value,
        out: str | Path,
        *,
        preset: str | None = None,
        progress: bool = True,
        report: bool = True,
        options: Mapping[str, Value],
    ) -> Trained:
        """Train, and return the run; see :func:`univae.train_text`.

        PyTorch's random generator and number of threads are the same before and after.
        """
        if not isinstance(out, str | os.PathLike) or not str(out):
            got = "" if out is None or out == "" else f"; got {type(out).__name__} {out!r}"
            raise InputError(f"{self.name}: out is required: the run folder to write{got}")
        if self.option in options and data is not None:
            raise InputError(f"{self.name}: the data are given twice; leave {self.option} out")
        values = {**options, "out": Path(out)}
        if data is not None:
            values[self.option] = data
        if preset is not None:
            values["preset"] = preset
        silence = (
            contextlib.nullcontext() if progress else contextlib.redirect_stderr(io.StringIO())
        )
        with silence, _settings_kept(), _or_nothing(Path(out)):
            self._run(values, report)
            return load(out, device=str(options.get("device", "auto")))

    @property
    def name(self) -> str:
        """The name of the function, for messages."""
        return self.command.replace("-", "_")

    @property
    def defaults(self) -> JsonObject:
        """The options with a default, as they are in ``config.json``."""
        options = options_of(self._module.Config)
        values = {name: option.default for name, option in options.items()}
        return to_json({name: value for name, value in values.items() if value is not MISSING})

    @property
    def presets(self) -> Mapping[str, JsonObject]:
        """The options that each preset sets."""
        return self._module.PRESETS

    def spelled(self, name: str) -> str:
        """Return an option as it is typed on the command line."""
        return f"--{spelling(self._module.Config, name)}"

    @property
    def _module(self) -> Value:
        return import_module(COMMANDS[self.command][0])

    def _run(self, values: Mapping[str, Value], report: bool) -> None:
        module = self._module
        named = self._with_files(values)
        try:
            arguments = _arguments(module.Config, named)
            config = parse(module.Config, arguments, module.PRESETS, f"univae {self.command}")
        except SystemExit as end:  # the help of the command was asked for, and printed
            raise InputError(f"{self.name}: give the options of a training, not of help") from end
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error
        if report:
            module.main(config)
        else:
            module.train(config)
            for name in REPORT_FOLDERS:
                remove_empty([values["out"] / name])

    def _with_files(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return options with the names of files in place of data in memory."""
        named = dict(values)
        out = values["out"]
        for name in (self.option, "validation"):
            value = named.get(name)
            if value is None or not self.form.in_memory(value):
                continue
            if not (values.get("resume") and (out / "config.json").exists()):
                require_new_folder(out)
            path = (out / IN_MEMORY_DATA / f"{name}{self.form.suffix(value)}").absolute()
            if is_startable(out):  # where a folder of that name is of a start that was killed
                path.unlink(missing_ok=True)
            write_once(value, path, self.form)
            named[name] = path
        return named


def _arguments(config_type: type, values: Mapping[str, Value]) -> list[str]:
    """Return options as they are typed; those that are None are left out.

    Raises:
        InputError: an option that needs a value has none, or a value cannot be typed.
    """
    arguments = []
    for name, value in values.items():
        option = spelling(config_type, name)
        kinds = _kinds(config_type, name)
        if isinstance(value, bool | np.bool_):
            if kinds and bool not in kinds:
                raise InputError(f"{name} needs a value; got {name}={value}")
            arguments.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
            arguments += _sequence(name, option, [str(item) for item in value])
        elif isinstance(value, float) and value.is_integer() and int in kinds:
            arguments.append(f"--{option}={int(value)}")
        elif value is not None:
            arguments.append(f"--{option}={value}")
    return arguments


def _kinds(config_type: type, name: str) -> tuple[object, ...]:
    """Return the types that an option takes; none of an option that does not exist."""
    option = options_of(config_type).get(name)
    if option is None:
        return ()
    hint = without_annotations(option.hint)
    return (hint, *get_args(hint))


def _sequence(name: str, option: str, items: list[str]) -> list[str]:
    """Return the arguments of an option with several values.

    Raises:
        InputError: a value but the first begins with a dash, and would be read as an option.
    """
    for item in items[1:]:
        if NOT_A_VALUE.match(item):
            raise InputError(f"{name}: only the first value can begin with a dash; got {item!r}")
    if items and NOT_A_VALUE.match(items[0]):
        return [f"--{option}={items[0]}", *items[1:]]
    return [f"--{option}", *items]


@contextlib.contextmanager
def _settings_kept() -> Iterator[None]:
    """Restore PyTorch's generator when the block ends; its number of threads training restores.

    Gradients are taken inside, also where the caller has turned them off.
    """
    with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        yield


@contextlib.contextmanager
def _or_nothing(out: Path) -> Iterator[None]:
    """Remove data that the block wrote for a run which did not start, with its new folders."""
    created = new_folders(out)
    data = out / IN_MEMORY_DATA
    was_there = data.exists()
    try:
        yield
    except BaseException:
        if not (out / "config.json").exists():
            if not was_there and is_own(data):
                remove_folder(data)
            remove_empty(created)
        raise


TEXT = Trainer("train-text", "text", TEXTS)
DENSITY = Trainer("train-density", "data", ROWS)
GAN = Trainer("train-gan", "data", ROWS)
SIMILAR_TEXTS = Trainer("train-similar", "pairs", SIMILAR)
