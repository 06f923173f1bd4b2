"""``univae calibrate``: fit a trained VAE as it is used, its posterior alone or all of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

import tyro
from typing_extensions import Doc

from density.trained import TrainedDensity
from experiments import train_density, train_text
from experiments.calibration.fits import FITS, FitName
from experiments.calibration.options import plan
from experiments.calibration.run import calibrate, stored_result
from experiments.calibration.task import VaeTask
from experiments.cli.commands import run
from experiments.evaluation.latent_model import of_training
from experiments.kinds import row_of_kind
from experiments.reports.page import write as write_report
from experiments.training.distributed import World, join
from experiments.training.new_folder import remove_leftovers
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.stopping import Interrupted, TrainingFailed
from experiments.training.threads import threads_of_run
from univae.checkpoint import JsonObject, read_json, remove_folder
from univae.errors import InputError
from univae.exported import require_folder
from univae.registry import choices_help
from univae.rules import Rule, at_least, check
from univae.run_folder import LAST
from univae.vae.trained import TrainedText

__all__ = ["Config", "main"]

# Returns the task that a run was trained on, and its settings, from its folder and moved data.
StoredTask: TypeAlias = Callable[[Path, str], tuple[VaeTask[Any], Settings]]

TASKS: Mapping[type, StoredTask] = {
    TrainedDensity: train_density.stored_task,
    TrainedText: train_text.stored_task,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fits a trained VAE without dropout, blanked words and floors of the KL, on its own data.

    Where the held-out bound does not rise, the run stays as it is; where it does, the weights from
    before are kept as checkpoints/uncalibrated.
    """

    run: tyro.conf.Positional[Path]  # the run folder, of train-text or train-density
    data: str = ""  # training data of the run where they have moved; empty: as in its config.json
    steps: int = 300  # number of optimizer steps
    fit: Annotated[FitName, Doc(choices_help("weights that are fitted", FITS))] = "posterior"
    again: bool = False  # calibrate a run that has been calibrated, from its present weights
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {"steps": at_least(1)}

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the metrics before and after; continue a calibration that was interrupted."""
    require_folder(config.run, "calibrate")
    stored_task = row_of_kind(config.run, TASKS, "calibrate")
    folder = Run.open(config.run)
    with (
        join(config.device) as world,
        folder.locked(),
        threads_of_run(0, config.run, world),
    ):
        if world.first:
            remove_leftovers(folder.path)
        _require_ready(folder, config)
        task, settings = _in_turn(world, lambda: _read(stored_task, config))
        settings = replace(settings, device=config.device)
        try:
            result = calibrate(folder, task, plan(settings, config.fit, config.steps), world)
        except Interrupted as error:
            raise Interrupted("interrupted; the same command continues the calibration") from error
        except TrainingFailed as error:
            reason = str(error).split(";")[0]
            raise TrainingFailed(f"{reason}; {config.run} is as it was before") from error
        if world.first:
            _update(folder, result)
            result["report"] = str(write_report(config.run))
    return of_training({"run": str(config.run), **result})


def _require_ready(folder: Run, config: Config) -> None:
    """Check that the training is complete, and what became of an earlier calibration.

    With ``--again`` an unfinished one is deleted.
    """
    if not folder.has_checkpoint(LAST):
        raise InputError(
            f"{folder.path} holds weights without the state of a training; "
            "train on with --from, which calibrates"
        )
    state = read_json(folder.checkpoint(LAST) / "state.json")
    if not state["complete"]:
        raise InputError(
            f"the training of {folder.path} is not complete; finish it with --resume, then "
            "calibrate it"
        )
    if config.again:
        if folder.writes and stored_result(folder) is None:
            remove_folder(folder.calibration.path)
        return
    if stored_result(folder) is not None:
        raise InputError(f"{folder.path} has been calibrated; --again does it once more")
    if folder.calibration.has_checkpoint(LAST):
        begun = read_json(folder.calibration.path / "config.json")
        if (begun["fit"], begun["steps"]) != (config.fit, config.steps):
            raise InputError(
                f"{folder.path} has an unfinished calibration; --steps {begun['steps']} "
                f"--fit {begun['fit']} continues it, --again begins anew; "
                f"got --steps {config.steps} --fit {config.fit}"
            )


def _in_turn(
    world: World, read: Callable[[], tuple[VaeTask[Any], Settings]]
) -> tuple[VaeTask[Any], Settings]:
    """Return what ``read`` returns, in the first process before the others."""
    first = read() if world.first else None
    world.wait()
    return first or read()


def _read(stored_task: StoredTask, config: Config) -> tuple[VaeTask[Any], Settings]:
    try:
        return stored_task(config.run, config.data)
    except InputError as error:
        if config.data:
            raise
        raise InputError(f"{error}; where its training data have moved, give --data") from error


def _update(folder: Run, result: JsonObject) -> None:
    """Add the calibration to the result in ``DONE``."""
    done = folder.path / "DONE"
    stored = read_json(done) if done.exists() else {}
    folder.finish({**stored, **result})


if __name__ == "__main__":
    run(Config, main)
