"""A run folder as its readers see it: configuration, data record, metrics and checkpoints.

``config.json`` holds the complete configuration; its ``command`` is the kind of the run. The
training commands write the folder and document its files (:mod:`experiments.training.run_folder`).
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

from univae.checkpoint import JsonObject, existing_folder, read_json
from univae.errors import InputError
from univae.exported import is_export, missing_run, open_export
from univae.hub import is_hub_name, open_hub
from univae.rules import OTHER_VERSION, broken, reading
from univae.type_words import value_text

__all__ = [
    "BEST",
    "CALIBRATION",
    "IN_MEMORY_DATA",
    "LAST",
    "UNCALIBRATED",
    "RunFolder",
    "model_shape",
    "stored_value",
]

# Checkpoints: the one that training resumes from, that of the best validation, calibrated where
# that helped, and the best before its calibration.
LAST = "last"
BEST = "best"
STRETCHED = "stretched"  # entry of data.json of a run that reads longer texts than its training
TRAINED_LENGTH = "trained_length"
UNCALIBRATED = "uncalibrated"

CALIBRATION = "calibration"  # the run of a calibration, a folder in the run that it calibrates

# The folder of a run with the data that a function was given in memory, so that it can be resumed.
IN_MEMORY_DATA = "in_memory_data"

Folder = TypeVar("Folder", bound="RunFolder")
Shape = TypeVar("Shape")


class RunFolder:
    """A run folder; open one with :meth:`open`.

    ``notes`` collects, a line each, what was assumed while the folder was read.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.config = dict(config)
        self.notes: list[str] = []

    @classmethod
    def open(cls: type[Folder], path: str | Path) -> Folder:
        """Open an existing run folder, a file of ``univae export``, or a run of the hub.

        ``org/name`` and ``org/name@revision``, where there is no such path, is a repository of the
        Hugging Face hub: see :mod:`univae.hub`. The file, or the repository, is copied into the
        user's cache, where ``path`` then is.

        Raises:
            InputError: the folder is missing, or its ``config.json`` is missing or no JSON object;
                the file is damaged; the repository cannot be fetched.
        """
        path = Path(path)
        if is_export(path):
            path = open_export(path)
        elif is_hub_name(path):
            path = open_hub(path)
        config_file = path / "config.json"
        if not path.exists():
            raise missing_run(path)
        if not config_file.is_file():
            reason = "it holds no config.json" if path.is_dir() else "it is a file"
            raise InputError(
                f"{path} is not a run folder: {reason}; "
                "give the folder a training command wrote with --out"
            )
        config = read_json(config_file)
        if not isinstance(config, dict):
            raise InputError(f"{config_file}: not a JSON object; {path} is not a run folder")
        return cls(path, _with_moved_data(config, path))

    @property
    def kind(self) -> object:
        """The ``command`` that trained the run, such as ``train-text``; None if it is missing."""
        return self.config.get("command")

    def has_checkpoint(self, name: str) -> bool:
        """Return whether the run holds a checkpoint of that name."""
        return existing_folder(self.path / "checkpoints" / name) is not None

    @property
    def calibration(self) -> "RunFolder":
        """The folder of the run's calibration, which is empty or missing where there is none."""
        return RunFolder(self.path / CALIBRATION, {})

    def uncalibrated(self) -> list[str]:
        """Return the names of the checkpoints that calibrations have replaced, the oldest first."""
        folder = self.path / "checkpoints"
        names = [path.name for path in folder.glob(f"{UNCALIBRATED}*")]
        return sorted(names, key=lambda name: (len(name), name))

    def checkpoint(self, name: str = BEST) -> Path:
        """Return the folder of a checkpoint: ``best``, ``last`` or ``uncalibrated``.

        Without a ``best`` one, because no validation was finite, it is ``last``, with a note.

        Raises:
            InputError: the run holds no such checkpoint.
        """
        folder = existing_folder(self.path / "checkpoints" / name)
        if folder is None and name == BEST:
            folder = existing_folder(self.path / "checkpoints" / LAST)
            note = (
                f"{self.path} holds no checkpoint 'best', for no finite validation was saved; "
                "'last' is used"
            )
            if folder is not None and note not in self.notes:
                self.notes.append(note)
        if folder is None:
            raise InputError(f"{self.path} holds no checkpoint {name!r}{self._way_out()}")
        return folder

    def checkpoints(self) -> list[str]:
        """Return the names of the checkpoints that the run holds."""
        folders = (self.path / "checkpoints").glob("[!.]*")
        return sorted(path.name for path in folders if path.is_dir())

    def step(self, checkpoint: str) -> object:
        """Return the step of a checkpoint, None where it cannot be read: a kind needs it or not."""
        try:
            state = read_json(self.checkpoint(checkpoint) / "state.json")
        except InputError:
            return None
        return state.get("step") if isinstance(state, dict) else None

    def _way_out(self) -> str:
        """Return what a message on a missing checkpoint ends with."""
        names = self.checkpoints()
        if not names:
            return ": its training stopped before the first was saved"
        return f"; give one that it holds: {', '.join(names)}"

    def trained_length(self) -> int | None:
        """Return the most tokens of a training text, where ``univae stretch`` wrote the run.

        Raises:
            InputError: ``data.json`` is damaged.
        """
        length = self.data_record().get(STRETCHED, {}).get(TRAINED_LENGTH)
        if length is not None and type(length) is not int:
            path = self.path / "data.json"
            raise InputError(f"{path}: {TRAINED_LENGTH} must be a whole number; got {length!r}")
        return length

    def data_record(self) -> JsonObject:
        """Return ``data.json``; empty for a run of version 0.1.0, which has none.

        Raises:
            InputError: the folder is gone, or the file is no JSON object of objects.
        """
        path = self.path / "data.json"
        if not self.path.is_dir():
            raise InputError(f"{self.path} is not there any more; open the run where it is now")
        if not path.exists():
            return {}
        record = read_json(path)
        if not isinstance(record, dict) or not all(isinstance(e, dict) for e in record.values()):
            raise InputError(f"{path}: not a JSON object of objects; the run folder is damaged")
        return record

    def rows(self, kind: str | None = None) -> list[JsonObject]:
        """Return the rows of ``metrics.jsonl``, or those of one kind: ``train``, ``validation``.

        Raises:
            InputError: a line is no JSON object with a kind and a step.
        """
        return list(self.each_row(kind))

    def each_row(self, kind: str | None = None) -> Iterator[JsonObject]:
        """Yield the rows of ``metrics.jsonl``, or those of one kind, one at a time.

        A last line without a line end was cut off by a crash and is left out.

        Raises:
            InputError: a line is no JSON object with a kind and a step.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith("\n") or (kind is not None and _is_of_other_kind(line, kind)):
                    continue
                row = _row(line, f"{path}, line {number}")
                if kind is None or row["kind"] == kind:
                    yield row

    def subfolder(self, name: str) -> Path:
        """Return a folder inside the run for results, created if it is missing.

        Raises:
            InputError: a link has that name; following it would write outside the run folder.
        """
        folder = self.path / name
        if folder.is_symlink():
            raise InputError(
                f"{folder} is a link; results are written into the run folder itself; "
                "remove the link"
            )
        folder.mkdir(exist_ok=True)
        return folder


def model_shape(kind: Callable[..., Shape], config: Mapping[str, Any], vocab_size: int) -> Shape:
    """Return the model configuration ``kind``, a dataclass, from the configuration of a run.

    ``vocab_size`` is the number of token ids of the run's tokenizer. Fields that ``kind.NEWER``
    names, which runs of version 0.1.0 lack, have their defaults if they are missing.

    Raises:
        InputError: another field is missing, or one is of another type, or breaks its rule.
    """
    newer: frozenset[str] = getattr(kind, "NEWER", frozenset())
    names = {field.name for field in fields(cast("Any", kind))} - {"vocab_size"}
    names -= newer - config.keys()
    missing = sorted(names - config.keys())
    if missing:
        raise InputError(
            f"config.json: lacks {', '.join(missing)}; "
            "the run folder is damaged or of another version"
        )
    with reading("config.json"):
        return kind(vocab_size, **{name: config[name] for name in names})


def stored_value(folder: RunFolder, kind: type, name: str) -> object:
    """Return the value in ``config.json`` of a field of the dataclass ``kind``.

    Raises:
        InputError: it is missing, of another type than the field, or breaks the field's rule.
    """
    if name not in folder.config:
        raise InputError(f"lacks {name}")
    words = broken(kind, name, folder.config[name])
    if words:
        raise InputError(f"{name} must be {words}")
    return folder.config[name]


def _is_of_other_kind(line: str, kind: str) -> bool:
    """Return whether a row begins as those of another kind do, so that it need not be parsed."""
    return line.startswith('{"kind": "') and not line.startswith(f'{{"kind": "{kind}"')


def _row(line: str, where: str) -> JsonObject:
    """Return a row of metrics from its line; ``where`` starts the message of an error."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, or nested too deep
        row = None
    step = row.get("step") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str) or type(step) is not int:
        rule = "must be a JSON object with a kind and a step"
        raise InputError(f"{where}: {rule}; got {value_text(line)}; {OTHER_VERSION}")
    return row


def _with_moved_data(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a configuration with the files of data in memory where the run folder lies now."""
    moved = dict(config)
    for name, value in config.items():
        if isinstance(value, str):
            moved[name] = _moved(value, folder)
        elif isinstance(value, list):
            moved[name] = [
                _moved(entry, folder) if isinstance(entry, str) else entry for entry in value
            ]
    return moved


def _moved(value: str, folder: Path) -> str:
    stored = Path(value)
    if stored.parent.name != IN_MEMORY_DATA or os.path.exists(stored):
        return value
    here = folder / IN_MEMORY_DATA / stored.name
    return str(here.absolute()) if here.is_file() else value
