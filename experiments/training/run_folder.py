"""The run folder as training writes it, in files that any program can read.

=====================  ======================================================================
``config.json``        the complete configuration, defaults included
``data.json``          source, fingerprint, count and notes of the training and validation
                       data, by the option that names them (``data``, ``validation``); and of
                       the weights that training started from (``from``)
``model.json``         the configuration of the model, where it depends on the data
``environment.json``   versions, processor, threads, device, git commit, command line; one
                       more entry per resume; the ``lengths`` of a run that was given more
                       steps or minutes
``metrics.jsonl``      one JSON object a line: ``kind``, ``step`` and numbers
``events/``            the same for TensorBoard, with ``--track tensorboard``
``checkpoints/last``   ``model.safetensors``, ``state.json``, ``optimizer.pt``, and their
                       ``checksums.json``; always whole
``checkpoints/best``   the same, of the validation with the smallest selection
``samples``, ``plots`` what the command writes while it trains
``DONE``               the result, once training is complete
``ERROR.json``         why training failed, until it is resumed
``.starting_run``      only while the run starts, or a start that failed is removed
=====================  ======================================================================

Under ``torchrun`` only the first process writes; the methods of the others do nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.data.notes import print_notes
from experiments.training.comparison import (
    require_same_data,
    require_same_model,
    require_same_options,
)
from experiments.training.environment import RESUMED, environment, stored_environment
from experiments.training.folder_lock import hold_lock
from experiments.training.metrics_file import TIMING, MetricsFile
from experiments.training.new_folder import (
    new_folders,
    remove_empty,
    remove_leftovers,
    remove_start,
    require_new_folder,
    starting,
)
from experiments.training.processes import is_first_process
from experiments.training.stopping import Interrupted, TrainingFailed
from experiments.training.task import Shown
from experiments.training.tracking import NoTracker, Tracker, TrackerName, tracking
from univae.checkpoint import (
    existing_folder,
    replacing_folder,
    to_json,
    write_json,
)
from univae.checksums import write_checksums
from univae.run_folder import RunFolder

__all__ = ["TIMING", "Run", "begin_run", "or_nothing"]


RESUME = "--resume"  # the option


class Run(RunFolder):
    """A run folder that training writes; start one with :meth:`create`, read one with :meth:`open`.

    Attributes:
        writes: whether this process writes, as the first process does.
        has_trained: whether a training step was started, or a state saved, since it was opened.
        created: the run folder and its parents, as far as its start created them.
    """

    def __init__(self, path: str | Path, config: Mapping[str, object]) -> None:
        super().__init__(path, config)
        self.writes = is_first_process()
        self.has_trained = False
        self.created: list[Path] = []
        self._has_lock = False
        self._tracker: Tracker = NoTracker()
        self._metrics = MetricsFile(self.path / "metrics.jsonl")

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, object]) -> "Run":
        """Start a run in a new or empty folder; with ``config["resume"]``, open the one there.

        A run that is to be resumed is only read: :meth:`record_resume` writes, once its checkpoint
        is loaded.

        Raises:
            InputError: the folder holds a run or other files; or the resumed run does not exist,
                has other options, or is being trained by another process.
        """
        run = cls(path, to_json(config))
        if not run.writes:
            return run
        if run.config.get("resume"):
            run._check_resumable()
        else:
            run._start()
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process train in this folder while the block runs.

        Only the first process of a run takes the lock. A block within another one of the same
        object keeps the lock of the outer one. On a file system without locks nothing is excluded.

        Raises:
            InputError: another process holds the lock; the message names it.
        """
        if not self.writes or self._has_lock:
            yield
            return
        with hold_lock(self.path):
            self._has_lock = True
            try:
                yield
            finally:
                self._has_lock = False

    def record_resume(self) -> None:
        """Add the environment of a resumed run to ``environment.json``; remove ``ERROR.json``."""
        if not self.writes:
            return
        self._create_subfolders()
        first = stored_environment(self.path)
        resumed = [*first.pop(RESUMED, []), environment(self.config)]
        write_json(self.path / "environment.json", first | {RESUMED: resumed})
        (self.path / "ERROR.json").unlink(missing_ok=True)
        remove_leftovers(self.path)

    @contextmanager
    def tracked(self, name: TrackerName, step: int) -> Iterator[None]:
        """Show the rows that the block logs, after ``step`` steps, in the tracker of this name.

        The rows of ``step`` itself, which a checkpoint stored, are shown again.
        """
        if not self.writes:
            yield
            return
        stored = (row for row in self.each_row() if row["step"] >= step)  # read if they are shown
        try:
            with tracking(name, self.path, step, stored) as self._tracker:
                yield
        finally:
            self._tracker = NoTracker()

    def log(self, kind: str, step: int, **numbers: object) -> None:
        """Append one row to ``metrics.jsonl``, and show it where the run is tracked."""
        if not self.writes:
            return
        self._metrics.append({"kind": kind, "step": step, **numbers})
        self._tracker.row(kind, step, numbers)

    @property
    def shows_models(self) -> bool:
        """Whether the tracker shows more of a model than its numbers."""
        return self._tracker.shows_models

    def show(self, step: int, shown: Shown) -> None:
        """Show what a validation shows beside its numbers, where the run is tracked."""
        self._tracker.show(step, shown)

    def count_rows(self) -> int:
        """Return the number of rows of metrics, which every checkpoint stores."""
        return self._metrics.count

    def truncate_rows(self, count: int) -> None:
        """Remove all rows of metrics after the first ``count``, which a checkpoint stored."""
        if self.writes:
            self._metrics.truncate(count)

    @contextmanager
    def saving(self, name: str) -> Iterator[Path]:
        """Yield an empty folder that becomes ``checkpoints/name`` when the block ends.

        The checksums of what the block wrote are added.
        """
        self._metrics.sync()  # the checkpoint stores the number of rows
        with replacing_folder(self.path / "checkpoints" / name) as folder:
            yield folder
            write_checksums(folder, self.path)

    def checkpoint(self, name: str = "best") -> Path:
        """Return the folder of a checkpoint, and print a note where ``last`` replaces ``best``."""
        printed = len(self.notes)
        folder = super().checkpoint(name)
        print_notes(self.notes[printed:])
        return folder

    def record_data(self, record: Mapping[str, Mapping[str, object]]) -> None:
        """Write ``data.json``; of a resumed run, compare the data with it.

        Args:
            record: maps the option that names some data to at least ``source``, ``fingerprint``
                and ``count``.

        Raises:
            InputError: the data of a resumed run are others; see :func:`require_same_data`.
        """
        path = self.path / "data.json"
        if not self.config.get("resume"):
            if self.writes:
                write_json(path, record)
            return
        require_same_data(self, record)
        untrained = existing_folder(self.path / "checkpoints" / "last") is None
        if not path.exists() and untrained and self.writes:  # stopped while its data were prepared
            write_json(path, record)

    def record_model(self, config: Mapping[str, object]) -> None:
        """Write ``model.json``; of a resumed run, compare the model with it.

        Raises:
            InputError: the model of a resumed run has another configuration.
        """
        path = self.path / "model.json"
        if self.config.get("resume") and path.exists():
            require_same_model(self, config)
        elif self.writes:
            write_json(path, config)

    def finish(self, result: Mapping[str, object]) -> None:
        """Write the result to ``DONE``: training is complete."""
        if self.writes:
            write_json(self.path / "DONE", result)

    def fail(self, report: Mapping[str, object]) -> None:
        """Write why training failed to ``ERROR.json``, where the folder can still be written."""
        if self.writes:
            with suppress(OSError):
                write_json(self.path / "ERROR.json", report)

    def _start(self) -> None:
        require_new_folder(self.path)
        self.created = new_folders(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self.locked():
                require_new_folder(self.path)  # another process may have come this far
                with starting(self.path):
                    # first: with this file the folder can be resumed
                    write_json(self.path / "config.json", self.config)
                    write_json(self.path / "environment.json", environment(self.config))
                    self._create_subfolders()
        except BaseException:
            remove_empty(self.created)
            raise

    def _check_resumable(self) -> None:
        require_same_options(RunFolder.open(self.path), self.config)
        with self.locked():
            pass  # raises where another process trains in the folder

    def _create_subfolders(self) -> None:
        for name in ("samples", "plots"):
            self.subfolder(name)
        (self.path / "checkpoints").mkdir(exist_ok=True)  # may be a link to a larger disk


def begin_run(
    out: Path,
    config: Mapping[str, object],
    data: Mapping[str, Mapping[str, object]],
    model: Mapping[str, object],
) -> Run:
    """Return the run ``out``, new or resumed, whose data and model are recorded in it.

    Raises:
        InputError: the folder cannot be used; or a resumed run has other options, data or another
            model. A refusal leaves the folder as it was.
    """
    if config["resume"]:
        stored = RunFolder.open(out)
        require_same_options(stored, to_json(config))
        require_same_data(stored, data)
        require_same_model(stored, model)
    run = Run.create(out, config)
    with or_nothing(run):
        run.record_data(data)
        run.record_model(model)
    return run


@contextmanager
def or_nothing(run: Run) -> Iterator[None]:
    """Hold the lock of ``run``; remove its files if the block fails before the first step.

    The folder is removed too, with its parents, unless it was there before the run.

    The folder of an interrupted or failed training stays, because its message refers to files in
    it. So does that of a resumed run, and one in which another process trains.
    """
    with run.locked():
        try:
            yield
        except Interrupted as error:
            if RESUME in str(error):
                raise
            when = "" if run.has_trained else " before the first step"
            raise Interrupted(f"interrupted{when}; continue with {RESUME}") from error
        except TrainingFailed:
            raise
        except BaseException:
            if run.writes and not run.has_trained and not run.config.get("resume"):
                remove_start(run.path, run.created)
            raise
