"""``univae calibrate``: fit a trained VAE as it is used, its posterior alone or all of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from typing_extensions import Doc

from density.trained import TrainedDensity
from experiments import train_density, train_text
from experiments.calibration.options import plan
from experiments.calibration.parts import PARTS, PartName
from experiments.calibration.run import FOLDER, calibrate, forget
from experiments.calibration.task import VaeTask
from experiments.cli.commands import run
from experiments.evaluation.latent_model import of_training
from experiments.kinds import row_of_kind
from experiments.reports.page import write as write_report
from experiments.training.distributed import join
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, at_least, check
from univae.vae.trained import TrainedText

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fits a trained VAE without dropout, blanked words and floors of the KL, on its own data.

    Estimates of likelihoods then need fewer samples, and files get smaller. Where the held-out
    bound does not rise, the run stays as it is.
    """

    run: tyro.conf.Positional[Path]  # the run folder, of train-text or train-density
    data: str = ""  # training data of the run where they have moved; empty: as in its config.json
    steps: int = 300  # number of optimizer steps
    part: Annotated[PartName, Doc(choices_help("weights that are fitted", PARTS))] = "posterior"
    overwrite: bool = False  # calibrate anew, from the weights before an earlier calibration
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {"steps": at_least(1)}

    def __post_init__(self) -> None:
        check(self)


# The task that a run of each kind was trained on, and its settings.
TASKS: Mapping[type, Callable[[Path, str], tuple[VaeTask[Any], Settings]]] = {
    TrainedDensity: train_density.stored_task,
    TrainedText: train_text.stored_task,
}


def main(config: Config) -> JsonObject:
    """Return the metrics before and after; continue a calibration that was interrupted."""
    stored_task = row_of_kind(config.run, TASKS)
    folder = Run.open(config.run)
    done = config.run / FOLDER / "DONE"
    if done.exists() and not config.overwrite:
        raise InputError(
            f"calibrate: {config.run} has been calibrated; give --overwrite to do it again"
        )
    task, settings = stored_task(config.run, config.data)
    settings = replace(settings, device=config.device)
    with join(config.device) as world, folder.locked():
        if config.overwrite:
            forget(folder, world)
        result = calibrate(folder, task, plan(settings, config.part, config.steps), world)
        if world.first:
            result["report"] = str(write_report(config.run))
    return of_training({"run": str(config.run), **result})


if __name__ == "__main__":
    run(Config, main)
