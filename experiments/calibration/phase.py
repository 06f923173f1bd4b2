"""The calibration as the last phase of a training command."""

import shutil
from collections.abc import Callable
from typing import Any, cast

from experiments.calibration.options import Calibration
from experiments.calibration.run import calibrate, stored_result
from experiments.calibration.task import VaeTask
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.step import Steps
from experiments.training.stopping import TrainingFailed
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["calibration_phase"]


def calibration_phase(
    run: Run, options: Calibration, settings: Settings
) -> Callable[[Steps, World], JsonObject] | None:
    """Return the phase after the training of ``run``, or None where no step of it fits in.

    A phase that cannot run, or fails, leaves the training as it is, with a note in the result.

    Args:
        run: the run.
        options: the share of the calibration.
        settings: those of training and calibration together.
    """
    plan = options.plan(settings)
    if plan is None:
        return None

    def phase(steps: Steps, world: World) -> JsonObject:
        world.wait()  # barrier: the first process may still be saving its last checkpoint
        if isinstance(steps, GradientSteps):
            steps.release()
        if steps.sharded:
            return {"notes": [f"not calibrated, with --shard; run univae calibrate {run.path}"]}
        stored = stored_result(run)
        if stored is not None:
            return stored
        try:
            return calibrate(run, cast("VaeTask[Any]", steps.task), plan, world)
        except (InputError, TrainingFailed) as error:
            if run.writes and isinstance(error, InputError):  # no step was taken
                shutil.rmtree(run.calibration.path, ignore_errors=True)
            reason = str(error).split(";")[0]
            return {"notes": [f"not calibrated: {reason}; run univae calibrate {run.path}"]}

    return phase
