"""The steps of every training command: prepare, fit, write samples and the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from experiments.data.notes import with_notes
from experiments.data.text_notes import notes_of
from experiments.training.distributed import World, join
from experiments.training.length import length_notes
from experiments.training.loop import fit
from experiments.training.run_folder import Run, or_nothing
from experiments.training.settings import Settings
from experiments.training.step import Steps
from experiments.training.stopping import Interrupted, StopRequest
from experiments.training.streams import lasting_streams
from experiments.training.threads import threads_of_run
from univae.checkpoint import JsonObject

__all__ = ["Corpora", "Prepare", "Training", "prepare_corpora", "train"]


@dataclass(frozen=True)
class Training:
    """A prepared training, whose run folder holds what it reads, before its first step."""

    run: Run
    settings: Settings
    steps: Callable[[World], Steps]  # builds the model and its training steps
    # numbers on the data, for the result
    counts: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()  # on the data, for the result
    # a further phase, from the trained steps: returns what it adds to the result
    after_training: Callable[[Steps, World], JsonObject] | None = None


# Checks options and data, starts or opens the run folder, and writes what training reads. Called on
# every process; an InputError leaves the folder as it was.
Prepare: TypeAlias = Callable[[World], Training]


@runtime_checkable
class Corpora(Protocol):
    """The token ids of a run, which are written into its folder once."""

    @property
    def out(self) -> Path:
        """The run folder."""
        ...

    def prepare(self, options: JsonObject, world: World) -> Run | None:
        """Start or continue the run in the first process, and return it.

        Every process calls this; the others may help, and return None. ``options`` are the content
        of ``config.json``.
        """
        ...

    def counts(self, run: Run) -> JsonObject:
        """Return numbers on the texts, for the result."""
        ...


def prepare_corpora(
    corpora: Corpora,
    options: JsonObject,
    settings: Settings,
    steps: Callable[[World], Steps],
    world: World,
) -> Training:
    """Tokenise the texts, and return the prepared training.

    Args:
        corpora: the texts.
        options: the content of ``config.json``.
        settings: length, optimizer and device of the training.
        steps: builds the model and its training steps.
        world: the processes.
    """
    prepared = corpora.prepare(options, world)
    world.wait()
    run = prepared or Run.create(corpora.out, options)
    return Training(run, settings, steps, corpora.counts(run), notes_of(run.data_record()))


def train(
    out: Path,
    settings: Settings,
    prepare: Prepare,
    report: Callable[[], Path] | None = None,
) -> JsonObject:
    """Train; then, in the first process, write samples and the report.

    A new run folder is removed where training fails before its first step.

    Args:
        out: the run folder.
        settings: length, optimizer and device of the training.
        prepare: see :data:`Prepare`.
        report: writes samples and a report of the trained run, and returns the report's path.

    Returns:
        the result of :func:`experiments.training.loop.fit`, with counts and notes on the data.

    Raises:
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP; a step was finished and saved.
        TrainingFailed: a loss or its gradient is not finite.
    """
    # Whatever is no training step is interrupted at once; fit() lets a step end.
    resumed = out if settings.resume else None
    with (
        lasting_streams(),
        StopRequest(at_once=True),
        join(settings.device) as world,
        threads_of_run(settings.threads, resumed, world),
    ):
        result = _fitted(prepare(world), world)
        if report is not None and world.first:
            result["report"] = str(_reported(report))
        return result


def _reported(report: Callable[[], Path]) -> Path:
    try:
        return report()
    except Interrupted as error:
        raise Interrupted(
            "interrupted while samples and report were written; --resume writes them"
        ) from error


def _fitted(training: Training, world: World) -> JsonObject:
    # A function, so that DistributedDataParallel is freed before the process group is destroyed.
    run = training.run
    with or_nothing(run):
        steps = training.steps(world)
        result = fit(steps, training.settings, run)
        found = list(result.get("notes", []))
        if training.after_training is not None:
            added = training.after_training(steps, world)
            found += [note for note in added.get("notes", []) if note not in found]
            result |= added
        notes = [*training.notes, *length_notes(run), *found]
        source = run.config.get("from_run") or run.config.get("init_from")
        origin = {"trained_from": source}
        result = with_notes({**training.counts, **result, **origin}, notes)
        run.finish(result)
    return result
