"""The length of a training, and what changes in its run folder where a run is to train on.

A run that is resumed with a larger number of steps, or more minutes, trains on from its last
checkpoint. Everything that follows the fraction of training that is done (the learning rate, the
annealing of the KL) follows it as for the new length from there on: a warm-up that lies behind is
not repeated, and the rate steps to the value that the schedule of the new length has at that step.
The same two lengths give the same weights, bit for bit, where steps limit training.
"""

import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.data.notes import print_notes
from experiments.training.budget import SECONDS_PER_MINUTE
from experiments.training.environment import LENGTHS, stored_environment
from univae.checkpoint import (
    JsonObject,
    existing_folder,
    read_json,
    remove_folder,
    replacing_folder,
    write_json,
)
from univae.errors import InputError
from univae.run_folder import BEST, CALIBRATION, LAST, UNCALIBRATED, RunFolder

__all__ = ["LENGTH", "Length", "is_longer", "length_notes", "train_on"]

LENGTH = ("steps", "minutes", "time_limit")  # the options


class Length(NamedTuple):
    """A number of steps, or of minutes where these are not 0."""

    steps: int
    minutes: float
    time_limit: float  # most minutes for the steps; 0: no limit

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Length":
        """Return the length of a configuration; 0 where it has none."""
        return cls(
            config.get("steps", 0), config.get("minutes", 0.0), config.get("time_limit", 0.0)
        )

    @property
    def option(self) -> str:
        """The option that limits training, with its value."""
        limit = f" --time-limit {self.time_limit:g}" if self.time_limit else ""
        return f"--minutes {self.minutes:g}" if self.minutes else f"--steps {self.steps}{limit}"

    def is_less_than(self, other: "Length") -> bool:
        """Return whether it holds less than another of the same kind."""
        is_shorter = self.minutes < other.minutes or self.steps < other.steps
        is_hurried = self.time_limit > 0 and not 0 < other.time_limit <= self.time_limit
        return is_shorter or (is_hurried and self.steps == other.steps)


def is_longer(run: RunFolder, config: Mapping[str, Any]) -> bool:
    """Return whether a configuration asks for more training than a run was started with.

    Another time limit asks for none once all steps are trained.

    Raises:
        InputError: it asks for less; or for other steps, which do not count where minutes limit
            training; or the run has used up its time limit.
    """
    before = Length.of(run.config)
    after = Length.of(config)
    if before == after:
        return False
    if before.minutes and after.minutes and before.steps != after.steps:
        raise InputError(
            f"--steps {after.steps} has no effect, because --minutes {after.minutes:g} limits the "
            f"training of {run.path}; leave it out, or give --minutes 0 too"
        )
    calibration = float(config.get(CALIBRATION, 0.0))
    is_timed = after.minutes > 0
    if is_timed != (before.minutes > 0):
        _require_more_than_trained(run, after, calibration)
    elif after.is_less_than(before):
        raise InputError(
            f"{after.option} is less than {run.path} was started with, {before.option}, of which "
            f"it has trained {_trained(run).amount(timed=is_timed)}; give more, or leave it out"
        )
    if before.steps == after.steps and not is_timed and not before.minutes:
        steps = after.steps - int(calibration * after.steps)
        if _trained(run).steps >= steps:
            return False
    if after.time_limit:
        _require_time_left(run, after, calibration)
    return True


def train_on(run: RunFolder, config: Mapping[str, Any], step: int) -> None:
    """Record a new length of training, from ``step`` on, in the folder of a run.

    The result of the training so far is removed; a calibration is undone, because training goes on
    from the weights before it.

    Args:
        run: the run as it was started.
        config: the configuration with the new length.
        step: the last step of training so far.
    """
    before = Length.of(run.config)
    after = Length.of(config)
    _undo_calibration(run)
    (run.path / "DONE").unlink(missing_ok=True)

    environment = stored_environment(run.path)
    lengths = environment.get(LENGTHS, [{"after_step": 0, **before._asdict()}])
    lengths.append({"after_step": step, **after._asdict()})
    write_json(run.path / "environment.json", {**environment, LENGTHS: lengths})
    write_json(run.path / "config.json", {**run.config, **after._asdict()})
    print_notes(length_notes(run)[-1:])


def length_notes(run: RunFolder) -> list[str]:
    """Return a note for every time that a run was given more steps or minutes."""
    notes = []
    for entry in stored_environment(run.path).get(LENGTHS, [])[1:]:
        option = Length.of(entry).option
        notes.append(
            f"trained on after step {entry['after_step']} with {option}: from there the learning "
            "rate and the annealing follow the schedule of that length"
        )
    return notes


class _Trained(NamedTuple):
    """The steps and the minutes that a run has trained."""

    steps: int
    minutes: float
    reserve: float  # minutes that its last validation will take

    def amount(self, *, timed: bool) -> str:
        return f"{self.minutes:.3g} minutes" if timed else f"{self.steps} steps"


def _trained(run: RunFolder) -> _Trained:
    folder = existing_folder(run.path / "checkpoints" / LAST)
    if folder is None:
        return _Trained(0, 0.0, 0.0)
    state: JsonObject = read_json(folder / "state.json")
    seconds = (state.get("seconds", 0.0), state.get("reserve", 0.0))
    return _Trained(state.get("step", 0), *(number / SECONDS_PER_MINUTE for number in seconds))


def _require_more_than_trained(run: RunFolder, length: Length, calibration: float) -> None:
    """Raise InputError where a run has trained as long; ``calibration`` is its share of training.

    The run was started with the other of --steps and --minutes, so only what it did is comparable.
    """
    trained = _trained(run)
    share = 1.0 - calibration
    is_timed = length.minutes > 0
    if is_timed and share * length.minutes > trained.minutes:
        return
    if not is_timed and share * length.steps > trained.steps:
        return
    raise InputError(
        f"{length.option} is no more than {run.path} has trained, "
        f"{trained.amount(timed=is_timed)}; give more"
    )


def _require_time_left(run: RunFolder, length: Length, calibration: float) -> None:
    """Raise InputError where a run has used up its share of a time limit."""
    trained = _trained(run)
    minutes = max(0.0, (1.0 - calibration) * length.time_limit - trained.reserve)
    if trained.steps and minutes <= trained.minutes:
        raise InputError(
            f"{length.option} leaves {minutes:.3g} minutes to training, and {run.path} has "
            f"trained {trained.minutes:.3g}; give a longer --time-limit"
        )


def _undo_calibration(run: RunFolder) -> None:
    """Make the best checkpoint that of training again, and remove what a calibration left."""
    replaced = run.uncalibrated()
    checkpoints = run.path / "checkpoints"
    if replaced:
        with replacing_folder(checkpoints / BEST) as folder:
            shutil.copytree(checkpoints / UNCALIBRATED, folder, dirs_exist_ok=True)
        print_notes([f"{run.path}: its calibration is undone, for training goes on before it"])
    remove_folder(run.calibration.path)
    (run.path / "samples" / f"{CALIBRATION}.json").unlink(missing_ok=True)
    for name in replaced:
        remove_folder(checkpoints / name)
