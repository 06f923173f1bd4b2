"""The calibration of a trained run: a training of its own in ``calibration/`` of the run folder.

It starts from the best checkpoint. Where it raises the bound of the held-out data, its weights
become the best checkpoint, and those before are kept as ``checkpoints/uncalibrated``.
"""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from experiments.calibration.options import Plan
from experiments.calibration.parts import PARTS
from experiments.calibration.report import COMPARED, item
from experiments.calibration.task import CalibrationTask, VaeTask
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.loop import fit
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from univae.checkpoint import (
    JsonObject,
    load_weights,
    read_json,
    save_weights,
    write_json,
)
from univae.run_folder import BEST, LAST, UNCALIBRATED, RunFolder

__all__ = ["FOLDER", "calibrate", "forget"]

FOLDER = "calibration"  # in the run folder
WEIGHTS = "model.safetensors"


def calibrate(run: Run, task: VaeTask[Any], plan: Plan, world: World) -> JsonObject:
    """Fit a trained run as it is used; continue where an earlier call was interrupted.

    The module of ``task`` ends with the weights of the best checkpoint.

    Args:
        run: the trained run, whose lock is held.
        task: the task that it was trained on.
        plan: what is fitted, how long, and at which learning rate.
        world: the processes.

    Returns:
        ``calibration``: its steps, whether its weights are ``kept``, and metrics before and after;
        and, where they are kept, the metrics of the run.
    """
    base = run.checkpoint(UNCALIBRATED if run.has_checkpoint(UNCALIBRATED) else BEST)
    task.module.to(world.device)
    load_weights(task.module, base / WEIGHTS)
    calibration = CalibrationTask(task, PARTS[plan.part])
    settings = replace(plan.settings, resume=_is_begun(run, world))
    inner = _inner_run(run, plan.part, settings)
    world.wait()
    result = fit(GradientSteps(calibration, settings, world), settings, inner, validates_first=True)
    inner.finish(result)

    best = inner.path / "checkpoints" / BEST
    load_weights(calibration.module, best / WEIGHTS)
    kept = read_json(best / "state.json")["step"] > 0
    result = _result(inner, result, plan.part, kept=kept)
    if world.first:
        if kept:
            _publish(run, base, task.module)
        write_json(run.subfolder("samples") / f"{FOLDER}.json", item(result[FOLDER]))
    world.wait()  # barrier: the others read the weights next
    return result


def forget(run: Run, world: World) -> None:
    """Delete an earlier calibration; the weights before it become the best checkpoint again."""
    if world.first:
        if run.has_checkpoint(UNCALIBRATED):
            with run.saving(BEST) as folder:
                shutil.copytree(run.checkpoint(UNCALIBRATED), folder, dirs_exist_ok=True)
        shutil.rmtree(run.path / FOLDER, ignore_errors=True)
    world.wait()


def _is_begun(run: Run, world: World) -> bool:
    """Return whether a calibration has saved a checkpoint to continue from."""
    inner = RunFolder(run.path / FOLDER, {})
    return world.first_decides([inner.has_checkpoint(LAST)])[0]


def _inner_run(run: Run, part: str, settings: Settings) -> Run:
    """Return the run of the calibration, new or resumed, inside the folder of ``run``."""
    path = run.path / FOLDER
    if run.writes and not settings.resume:
        shutil.rmtree(path, ignore_errors=True)
    return Run.create(path, {"command": "calibrate", "calibrate": part, **asdict(settings)})


def _publish(run: Run, base: Path, module: nn.Module) -> None:
    """Make the module's weights the best checkpoint; keep that from before as ``uncalibrated``."""
    if base.name != UNCALIBRATED:
        with run.saving(UNCALIBRATED) as folder:
            shutil.copytree(base, folder, dirs_exist_ok=True)
    with run.saving(BEST) as folder:
        shutil.copy(base / "state.json", folder)
        save_weights(module, folder / WEIGHTS)


def _result(inner: Run, result: JsonObject, part: str, *, kept: bool) -> JsonObject:
    rows = inner.rows("validation")
    before = rows[0] if rows else {}
    summary: JsonObject = {
        "fitted": part,
        "steps": result["steps"],
        "seconds": result["seconds"],
        "kept": kept,
        "before": {name: before.get(name) for name in COMPARED},
        "after": {name: result.get(name) for name in COMPARED},
    }
    own = ("steps", "seconds", "selection")
    metrics = {name: value for name, value in result.items() if name not in own}
    notes = {"notes": result["notes"]} if "notes" in result else {}
    return {**(metrics if kept else notes), FOLDER: summary}
