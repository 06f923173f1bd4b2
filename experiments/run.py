"""The run folder: what a training run leaves behind, in files that any program can read.

=====================  ==============================================================================
``config.json``        the complete configuration, defaults included
``data.json``          source, fingerprint, count and notes of the data trained on, by role (``data``, ``validation``)
``environment.json``   versions, processor, threads, device, git commit, command line; one more per resume
``metrics.jsonl``      one JSON object a line: ``kind``, ``step`` and numbers
``checkpoints/last``   ``model.safetensors``, ``state.json``, ``optimizer.pt``; always whole
``checkpoints/best``   the same, where the validation's selection was smallest
``samples``, ``plots`` what the command writes while it trains
``DONE``               the result, once training is complete
``ERROR.json``         why training failed, until it is resumed
=====================  ==============================================================================

Under ``torchrun`` only the first process writes; the methods of the others do nothing.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from experiments.stopping import Interrupted, TrainingFailed
from experiments.version import version
from univae.checkpoint import existing_folder, read_json, replacing_folder, to_json, write_json, write_text_atomic
from univae.errors import InputError
from univae.rules import broken, reading

__all__ = ["TIMING", "UNCOMPARED", "Run", "environment", "or_nothing", "resolved", "shape_of", "stored_value"]

Shape = TypeVar("Shape")

# Fields of metrics that differ between two runs of one configuration on one machine.
TIMING = ("seconds", "tokens_per_second")

# Options a resumed run may change: a folder may have moved, and how often one saves leaves the result alone.
# The number of threads is no such option: sums are split among threads, and another split rounds differently.
UNCOMPARED = ("out", "resume", "checkpoint_every")

# Options that name data. They are not compared where ``data.json`` holds the fingerprints: files may move.
SOURCES = ("data", "text", "pairs", "validation", "teacher")


def shape_of(kind: Callable[..., Shape], config: Mapping[str, Any], vocab_size: int) -> Shape:
    """A model's shape, a dataclass, out of a run's configuration; the tokenizer says how many ids there are."""
    names = {field.name for field in fields(cast("Any", kind))} - {"vocab_size"}
    missing = sorted(names - config.keys())
    if missing:
        raise InputError(f"config.json: lacks {', '.join(missing)}; the run folder is damaged or of another version")
    with reading("config.json"):
        return kind(vocab_size, **{name: config[name] for name in names})


def stored_value(run: "Run", kind: type, name: str) -> Any:
    """Return the value that a run's configuration has for a field of the dataclass ``kind``.

    Raises:
        InputError: there is none, or it is of another type than the field or breaks its rule.
    """
    if name not in run.config:
        raise InputError(f"lacks {name}")
    if words := broken(kind, name, run.config[name]):
        raise InputError(f"{name} must be {words}")
    return run.config[name]


class Run:
    """A run folder; make one with :meth:`create`, read one with :meth:`open`."""

    def __init__(self, path: str | Path, config: Mapping[str, Any]) -> None:
        self.path, self.config = Path(path), dict(config)
        self.writes = int(os.environ.get("RANK", "0")) == 0
        self.begun = False  # whether a training step was started, or a state saved, since the run was opened
        self._metrics = self.path / "metrics.jsonl"

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> "Run":
        """Starts a run in a new or empty folder, or continues the one there if ``config["resume"]`` is true."""
        run = cls(path, to_json(config))
        if not run.writes:
            return run
        if run.config.get("resume"):
            run._continue()
        else:
            run._start()
        for name in ("samples", "plots", "checkpoints"):
            (run.path / name).mkdir(exist_ok=True)
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Opens an existing run."""
        path = Path(path)
        if not (path / "config.json").is_file():
            what = "does not exist" if not path.exists() else "is not a run folder: it holds no config.json"
            raise InputError(f"{path} {what}; give the folder a training command wrote with --out")
        config = read_json(path / "config.json")
        if not isinstance(config, dict):
            raise InputError(f"{path / 'config.json'}: not a JSON object; {path} is not a run folder")
        return cls(path, config)

    def log(self, kind: str, step: int, **numbers: Any) -> None:
        """Appends one row to ``metrics.jsonl``."""
        if self.writes:
            row = json.dumps(to_json({"kind": kind, "step": step, **numbers}), ensure_ascii=False, allow_nan=False)
            with self._metrics.open("a", encoding="utf-8", newline="\n") as file:
                file.write(row + "\n")

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The rows logged so far, or those of one kind."""
        return [row for row in map(json.loads, self._lines()) if kind is None or row["kind"] == kind]

    def count_rows(self) -> int:
        """How many rows there are; a checkpoint remembers it."""
        return len(self._lines())

    def keep_rows(self, count: int) -> None:
        """Drops all rows but the first ``count``: what was logged after the checkpoint one resumes from."""
        if self.writes and self._metrics.exists():
            write_text_atomic(self._metrics, "".join(line + "\n" for line in self._lines()[:count]))

    @contextmanager
    def saving(self, name: str) -> Iterator[Path]:
        """Yields an empty folder to write a checkpoint into; it becomes ``checkpoints/name`` when the block ends."""
        with replacing_folder(self.path / "checkpoints" / name) as folder:
            yield folder

    def checkpoint(self, name: str = "best") -> Path:
        """The folder of a whole checkpoint."""
        folder = existing_folder(self.path / "checkpoints" / name)
        if folder is None:
            raise InputError(
                f"{self.path} holds no checkpoint {name!r}: its training stopped before the first was saved"
            )
        return folder

    def record_data(self, record: Mapping[str, Mapping[str, Any]]) -> None:
        """Write ``data.json``, or on a resumed run refuse data that are not those it was started with.

        ``record`` maps a role (an option's name) to at least ``source``, ``fingerprint`` and ``count``. A run without
        ``data.json``, written by version 0.1.0, is not checked.

        Raises:
            InputError: a fingerprint of a resumed run differs, or a role is new or gone.
        """
        path = self.path / "data.json"
        if not self.config.get("resume"):
            if self.writes:
                write_json(path, record)
            return
        if not path.exists():
            return
        before = read_json(path)
        for role in dict.fromkeys((*before, *record)):
            old = before.get(role, {})
            new = to_json(record.get(role, {}))
            if old.get("fingerprint") == new.get("fingerprint"):
                continue
            change = f"{role} {old.get('source')}: {old.get('count', 0)} then, {new.get('count', 0)} now"
            raise InputError(
                f"{self.path} was started with other data, which have changed since ({change}); "
                "restore them, or start a new run with another --out"
            )

    def data_record(self) -> dict[str, Any]:
        """Return ``data.json``; empty for a run of version 0.1.0, which has none."""
        path = self.path / "data.json"
        if not path.exists():
            return {}
        record = read_json(path)
        if not isinstance(record, dict):
            raise InputError(f"{path}: not a JSON object; the run folder is damaged")
        return record

    def finish(self, result: Mapping[str, Any]) -> None:
        """Marks the run complete."""
        if self.writes:
            write_json(self.path / "DONE", result)

    def fail(self, report: Mapping[str, Any]) -> None:
        """Leaves word of why the run failed."""
        if self.writes:
            write_json(self.path / "ERROR.json", report)

    def _start(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; give a new folder with --out")
        if (self.path / "config.json").exists():
            raise InputError(f"{self.path} already holds a run; continue it with --resume, or give another --out")
        if self.path.exists() and any(self.path.iterdir()):
            raise InputError(f"{self.path} holds other files; give a new or empty folder with --out")
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", self.config)
        write_json(self.path / "environment.json", environment(self.config))

    def _continue(self) -> None:
        before = Run.open(self.path)
        uncompared = UNCOMPARED + (SOURCES if before.data_record() else ())
        if changes := _changes(before.config, self.config, uncompared):
            raise InputError(
                f"{self.path} was started with another configuration: {', '.join(changes)}; "
                "leave these options as they were, or start a new run with another --out"
            )
        first = read_json(self.path / "environment.json") if (self.path / "environment.json").exists() else {}
        resumed = [*first.pop("resumed", []), environment(self.config)]
        write_json(self.path / "environment.json", first | {"resumed": resumed})
        (self.path / "ERROR.json").unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        # A machine that stopped while a row was written leaves its beginning: such a row is no row.
        if not self._metrics.exists():
            return []
        *lines, _unfinished = self._metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        return lines


@contextmanager
def or_nothing(run: Run) -> Iterator[None]:
    """Remove the new folder of ``run`` where the block fails before the first training step.

    Interrupted and failed trainings are kept: their messages speak of what is in the folder. A resumed run is kept.
    """
    try:
        yield
    except (Interrupted, TrainingFailed):
        raise
    except BaseException:
        if run.writes and not run.begun and not run.config.get("resume"):
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def environment(config: Mapping[str, Any]) -> dict[str, Any]:
    """What besides the configuration a result may depend on."""
    cuda = torch.cuda.is_available() and config.get("device") != "cpu"
    return {
        "univae": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": config.get("threads") or torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "git": _commit(),
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def resolved(source: str, built_in: Collection[str] = ()) -> str:
    """Return a data source as an absolute path, so that it means the same file from every folder.

    Built-in names and the empty string stay as they are.
    """
    if not source or source in built_in:
        return source
    return os.path.abspath(source)


def _changes(
    old: Mapping[str, Any], new: Mapping[str, Any], uncompared: Collection[str], prefix: str = ""
) -> list[str]:
    changes = []
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changes += _changes(a, b, uncompared, f"{prefix}{key}.")
        elif a != b and prefix + key not in uncompared:
            changes.append(f"{prefix}{key}: {json.dumps(a, ensure_ascii=False)} -> {json.dumps(b, ensure_ascii=False)}")
    return changes


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # installed somewhere inside another project's repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
