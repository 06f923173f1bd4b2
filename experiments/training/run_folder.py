"""The run folder: the files of a training run, which any program can read.

=====================  ===========================================================================
``config.json``        the complete configuration, defaults included
``data.json``          source, fingerprint, count and notes of the training and held-out sets
``environment.json``   versions, processor, threads, device, commit, command line; of resumes too
``metrics.jsonl``      one JSON object a line: ``kind``, ``step`` and numbers
``checkpoints/last``   ``model.safetensors``, ``state.json``, ``optimizer.pt``; always whole
``checkpoints/best``   the same, where the validation's selection was smallest
``samples``, ``plots`` what the command writes while it trains
``DONE``               the result, once training is complete
``ERROR.json``         the error of a training that failed, until it is resumed
=====================  ===========================================================================

Under ``torchrun`` only the first process writes; the methods of the others do nothing.
"""

import json
import os
import platform
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments.data.notes import print_notes
from experiments.training.environment import environment
from experiments.training.folder_lock import LOCK, is_leftover, take_lock
from experiments.training.processes import is_first_process
from experiments.training.stopping import Interrupted, TrainingFailed
from univae.checkpoint import (
    existing_folder,
    is_temporary,
    read_json,
    replacing_folder,
    sync,
    to_json,
    write_json,
    write_text_atomic,
)
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["TIMING", "UNCOMPARED", "Run", "begin_run", "or_nothing"]

# Fields of metrics that differ between two runs of one configuration on one machine.
TIMING = ("seconds", "tokens_per_second")

# Options a resumed run may change: a folder may have moved, and how often one saves leaves the
# result alone. The number of threads is no such option: sums are split among threads, and another
# split rounds differently.
UNCOMPARED = ("out", "resume", "checkpoint_every")

# Options that name data. They are not compared where ``data.json`` holds the fingerprints: files
# may move.
SOURCES = ("data", "text", "pairs", "validation", "teacher")


def begin_run(
    out: Path,
    config: Mapping[str, object],
    data: Mapping[str, Mapping[str, object]],
    model: Mapping[str, object],
) -> "Run":
    """Return the run ``out``, new or resumed, whose data and model are recorded in it.

    A resumed run is compared with all three before anything is written, so that a refusal leaves it
    as it was.
    """
    if config["resume"]:
        before = Run(out, to_json(config))
        before.check_options()
        before.compare_data(data)
        before.compare_model(model)
    run = Run.create(out, config)
    with or_nothing(run):
        run.record_data(data)
        run.record_model(model)
    return run


class Run(RunFolder):
    """A run folder; make one with :meth:`create`, read one with :meth:`open`."""

    def __init__(self, path: str | Path, config: Mapping[str, object]) -> None:
        super().__init__(path, config)
        self.writes = is_first_process()
        self._locked = False  # whether this object holds the lock of the folder
        # whether a training step was started, or a state saved, since the run was opened
        self.begun = False
        self._metrics = self.path / "metrics.jsonl"

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, object]) -> "Run":
        """Start a run in a new or empty folder; with ``config["resume"]``, open the run in it.

        A run that is opened to be resumed is only read here: :meth:`resumed` writes, once its
        checkpoint is loaded.
        """
        run = cls(path, to_json(config))
        if not run.writes:
            return run
        if run.config.get("resume"):
            run._check_resumed()
        else:
            run._start()
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder, so that no other process trains in it.

        The kernel frees the lock of a process that dies. Only the first process of a run takes it,
        and once: a block within another one of this object has it already. A file system without
        locks is trusted to have one user.

        Raises:
            InputError: another process holds the lock; it is named.
        """
        if not self.writes or self._locked:
            yield
            return
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            take_lock(descriptor, self.path)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
            self._locked = True
            yield
        finally:
            self._locked = False
            os.close(descriptor)

    def resumed(self) -> None:
        """Add this process to ``environment.json``, and remove ``ERROR.json``."""
        if not self.writes:
            return
        self._make_folders()
        path = self.path / "environment.json"
        first = read_json(path) if path.exists() else {}
        again = [*first.pop("resumed", []), environment(self.config)]
        write_json(path, first | {"resumed": again})
        (self.path / "ERROR.json").unlink(missing_ok=True)
        self._sweep()

    def check_options(self) -> None:
        """Raise :class:`InputError` where this run was started with other options.

        Write nothing.
        """
        before = Run.open(self.path)
        uncompared = UNCOMPARED + (SOURCES if before.data_record() else ())
        if changes := _changes(before.config, self.config, uncompared):
            raise InputError(
                f"{self.path} was started with another configuration: {', '.join(changes)}; "
                "leave these options as they were, or start a new run with another --out"
            )

    def log(self, kind: str, step: int, **numbers: object) -> None:
        """Append one row to ``metrics.jsonl``."""
        if self.writes:
            row = json.dumps(
                to_json({"kind": kind, "step": step, **numbers}),
                ensure_ascii=False,
                allow_nan=False,
            )
            with self._metrics.open("a", encoding="utf-8", newline="\n") as file:
                file.write(row + "\n")

    def count_rows(self) -> int:
        """Return the number of rows, which a checkpoint stores."""
        return len(self.metric_lines())

    def keep_rows(self, count: int) -> None:
        """Drop all rows after the first ``count``, which the checkpoint was saved with."""
        if self.writes and self._metrics.exists():
            write_text_atomic(
                self._metrics, "".join(line + "\n" for line in self.metric_lines()[:count])
            )

    @contextmanager
    def saving(self, name: str) -> Iterator[Path]:
        """Yield an empty folder to write a checkpoint into.

        It becomes ``checkpoints/name`` when the block ends.
        """
        if self._metrics.exists():
            sync(self._metrics)  # a checkpoint counts its rows
        with replacing_folder(self.path / "checkpoints" / name) as folder:
            yield folder

    def checkpoint(self, name: str = "best") -> Path:
        """Return the folder of a checkpoint, and print a note where ``last`` replaces ``best``."""
        earlier = len(self.notes)
        folder = super().checkpoint(name)
        print_notes(self.notes[earlier:])
        return folder

    def record_data(self, record: Mapping[str, Mapping[str, object]]) -> None:
        """Write ``data.json``; on a resumed run, refuse other data than it was started with.

        ``record`` maps a role (an option's name) to at least ``source``, ``fingerprint`` and
        ``count``. A run without ``data.json``, written by version 0.1.0, is not checked.

        Raises:
            InputError: a fingerprint of a resumed run differs, or a role is new or gone.
        """
        path = self.path / "data.json"
        if not self.config.get("resume"):
            if self.writes:
                write_json(path, record)
            return
        self.compare_data(record)
        untrained = existing_folder(self.path / "checkpoints" / "last") is None
        if not path.exists() and untrained and self.writes:  # stopped while its data were prepared
            write_json(path, record)

    def compare_data(self, record: Mapping[str, Mapping[str, object]]) -> None:
        """Raise :class:`InputError` where ``data.json`` holds the fingerprints of other data."""
        before = self.data_record()
        if not before:
            return
        for role in dict.fromkeys((*before, *record)):
            old = before.get(role, {})
            new = to_json(record.get(role, {}))
            if old.get("fingerprint") == new.get("fingerprint"):
                continue
            change = (
                f"{role} {old.get('source')}: {old.get('count', 0)} then, {new.get('count', 0)} now"
            )
            raise InputError(
                f"{self.path} was started with other data, which have changed since ({change}); "
                "restore them, or start a new run with another --out"
            )

    def record_model(self, config: Mapping[str, object]) -> None:
        """Write ``model.json``; on a resumed run write nothing and refuse another model.

        Raises:
            InputError: the resumed run's model has another configuration.
        """
        path = self.path / "model.json"
        if self.config.get("resume") and path.exists():
            self.compare_model(config)
        elif self.writes:
            write_json(path, config)

    def compare_model(self, config: Mapping[str, object]) -> None:
        """Raise :class:`InputError` where ``model.json`` describes another model."""
        path = self.path / "model.json"
        changes = _changes(read_json(path), to_json(config), ()) if path.exists() else []
        if changes:
            raise InputError(
                f"{self.path} holds another model: {', '.join(changes)}; restore the data and the "
                "options it was started with, or start a new run with another --out"
            )

    def finish(self, result: Mapping[str, object]) -> None:
        """Mark the run complete."""
        if self.writes:
            write_json(self.path / "DONE", result)

    def fail(self, report: Mapping[str, object]) -> None:
        """Write ``ERROR.json``."""
        if self.writes:
            write_json(self.path / "ERROR.json", report)

    def _start(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; give a new folder with --out")
        if (self.path / "config.json").exists():
            raise InputError(
                f"{self.path} already holds a run; continue it with --resume, or give another --out"
            )
        if self.path.exists() and any(not is_leftover(path) for path in self.path.iterdir()):
            raise InputError(
                f"{self.path} holds other files; give a new or empty folder with --out"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():  # of two that start at once, one gets the folder
            if (self.path / "config.json").exists():
                raise InputError(f"{self.path} already holds a run; give another --out")
            self._sweep()
            # first: with it the folder can be resumed
            write_json(self.path / "config.json", self.config)
            write_json(self.path / "environment.json", environment(self.config))
            self._make_folders()

    def _check_resumed(self) -> None:
        self.check_options()
        with self.locked():
            pass  # refuses a run that another process trains

    def _make_folders(self) -> None:
        for name in ("samples", "plots"):
            self.subfolder(name)
        (self.path / "checkpoints").mkdir(exist_ok=True)  # may be a link to a larger disk

    def _sweep(self) -> None:
        """Delete what a killed process was writing; only for the process that holds the lock."""
        for path in self.path.rglob(".*.new"):
            if is_temporary(path) and path.is_file():
                path.unlink(missing_ok=True)


@contextmanager
def or_nothing(run: Run) -> Iterator[None]:
    """Hold the lock of ``run``; remove its new folder if the block fails before the first step.

    Interrupted and failed trainings are kept: their messages speak of what is in the folder. A
    resumed run is kept, and so is a folder in which another process trains.
    """
    with run.locked():
        try:
            yield
        except (Interrupted, TrainingFailed):
            raise
        except BaseException:
            if run.writes and not run.begun and not run.config.get("resume"):
                shutil.rmtree(run.path, ignore_errors=True)
            raise


def _changes(
    old: Mapping[str, object],
    new: Mapping[str, object],
    uncompared: Collection[str],
    prefix: str = "",
) -> list[str]:
    changes = []
    for key in dict.fromkeys((*old, *new)):
        a = old.get(key)
        b = new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changes += _changes(a, b, uncompared, f"{prefix}{key}.")
        elif a != b and prefix + key not in uncompared:
            before = json.dumps(a, ensure_ascii=False)
            after = json.dumps(b, ensure_ascii=False)
            changes.append(f"{prefix}{key}: {before} -> {after}")
    return changes
