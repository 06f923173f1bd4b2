"""The calibration as the last phase of a training command."""

from collections.abc import Callable
from typing import Any, cast

from experiments.calibration.options import Calibration
from experiments.calibration.run import calibrate
from experiments.calibration.task import VaeTask
from experiments.training.distributed import World
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.step import Steps
from univae.checkpoint import JsonObject, read_json
from univae.run_folder import LAST

__all__ = ["calibration_phase"]

SECONDS_PER_MINUTE = 60.0
VALIDATIONS = 3  # the time of one before, one after, and of steps worth taking between them


def calibration_phase(
    run: Run, options: Calibration, settings: Settings
) -> Callable[[Steps, World], JsonObject] | None:
    """Return the phase after the training of ``run``, or None where no step of it fits in.

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
        reserve = read_json(run.path / "checkpoints" / LAST / "state.json")["reserve"]
        seconds = SECONDS_PER_MINUTE * plan.settings.minutes
        if plan.settings.minutes and seconds < VALIDATIONS * reserve:
            return {"notes": [_too_short(run, seconds, reserve)]}
        return calibrate(run, cast("VaeTask[Any]", steps.task), plan, world)

    return phase


def _too_short(run: Run, seconds: float, reserve: float) -> str:
    return (
        f"not calibrated: {seconds:.1f} s of the time are for it, and a validation takes "
        f"{reserve:.1f} s; run univae calibrate {run.path}"
    )
