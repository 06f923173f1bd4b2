"""The calibration of a trained run: a training of its own in ``calibration/`` of the run folder.

It starts from the best checkpoint. Where it raises the bound of the held-out data, its weights
become the best checkpoint, and those before are kept as ``checkpoints/uncalibrated``; those before
a second calibration as ``uncalibrated-2``, and so on.
"""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from experiments.calibration.fits import FITS
from experiments.calibration.options import Plan
from experiments.calibration.report import COMPARED, report_item
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
    remove_folder,
    save_weights,
    write_json,
)
from univae.checksums import WEIGHTS, file_digest, require_unchanged
from univae.run_folder import BEST, CALIBRATION, LAST, UNCALIBRATED, RunFolder

__all__ = ["calibrate", "stored_result"]

NOT_METRICS = ("kind", "step", "steps", "seconds", "selection")  # keys of a validation's row


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

    Raises:
        InputError: a file has changed since the checkpoint that it starts from was saved.
    """
    world.wait()  # barrier: the first process may still be saving its last checkpoint
    base = _base(run)
    require_unchanged(base.checkpoint, run.path, to_train=True)
    resumes = base.is_begun and run.calibration.has_checkpoint(LAST)
    settings = replace(plan.settings, resume=resumes)
    world.wait()  # barrier: all have read what the first process replaces
    inner = _inner_run(run, plan, settings, base)
    task.module.to(world.device)
    load_weights(task.module, base.checkpoint / WEIGHTS)
    rows = read_json(base.checkpoint / "state.json").get("validation_rows", 0)
    calibration = CalibrationTask(task, FITS[plan.fit], rows)
    world.wait()
    fit(GradientSteps(calibration, settings, world), settings, inner, validates_first=True)

    world.wait()  # barrier: all read what the first process has saved
    result = _result(inner, plan.fit)
    kept = result[CALIBRATION]["kept"]
    load_weights(task.module, base.checkpoint / WEIGHTS)
    if kept:
        load_weights(calibration.module, inner.checkpoint(BEST) / WEIGHTS)
    world.wait()  # barrier: all have read what the first process replaces
    if world.first:
        if kept:
            require_unchanged(base.checkpoint, run.path, to_train=True)  # it is copied
            _publish(run, base.checkpoint, task.module)
        write_json(run.subfolder("samples") / f"{CALIBRATION}.json", report_item(result))
    inner.finish(result)
    world.wait()  # barrier: the others read the weights next
    return result


def stored_result(run: RunFolder) -> JsonObject | None:
    """Return the result of a finished calibration of a run, if there is one."""
    done = run.calibration.path / "DONE"
    return read_json(done) if done.exists() else None


class _Base(NamedTuple):
    """The checkpoint that a calibration starts from."""

    checkpoint: Path
    digest: str  # of its weights
    is_begun: bool  # whether the unfinished calibration in the folder started from it


def _base(run: Run) -> _Base:
    """Return the checkpoint to start from: the best, or that of a calibration cut off at its end.

    Such a one has kept the weights that it started from, but may not have replaced the best yet.
    """
    begun = _begun_digest(run)
    for name in run.uncalibrated() if begun is not None else []:
        checkpoint = run.checkpoint(name)
        if file_digest(checkpoint / WEIGHTS) == begun:
            return _Base(checkpoint, begun, is_begun=True)
    checkpoint = run.checkpoint(BEST)
    digest = file_digest(checkpoint / WEIGHTS)
    return _Base(checkpoint, digest, is_begun=digest == begun)


def _begun_digest(run: Run) -> str | None:
    """Return the digest of the weights that an unfinished calibration started from."""
    config = run.calibration.path / "config.json"
    if stored_result(run) is not None or not config.exists():
        return None
    return read_json(config).get("base")


def _inner_run(run: Run, plan: Plan, settings: Settings, base: _Base) -> Run:
    """Return the run of the calibration, new or resumed, inside the folder of ``run``."""
    path = run.calibration.path
    if run.writes and not settings.resume:
        remove_folder(path)
    options = {"command": "calibrate", "fit": plan.fit, "base": base.digest, **asdict(settings)}
    return Run.create(path, options)


def _publish(run: Run, base: Path, module: nn.Module) -> None:
    """Make the module's weights the best checkpoint; keep those from before."""
    if base.name == BEST:
        count = len(run.uncalibrated())
        name = UNCALIBRATED if count == 0 else f"{UNCALIBRATED}-{count + 1}"
        with run.saving(name) as folder:
            shutil.copytree(base, folder, dirs_exist_ok=True)
    with run.saving(BEST) as folder:
        shutil.copy(base / "state.json", folder)
        save_weights(module, folder / WEIGHTS)


def _result(inner: Run, part: str) -> JsonObject:
    """Return the result from the validations of a finished calibration.

    They are that before the first step, and the best one; without a finite one there is no best.
    """
    rows = inner.rows("validation")
    step = 0
    if inner.has_checkpoint(BEST):
        step = read_json(inner.checkpoint(BEST) / "state.json")["step"]
    state = read_json(inner.checkpoint(LAST) / "state.json")
    kept = step > 0
    after = next(row for row in rows if row["step"] == step) if kept else rows[-1]
    summary: JsonObject = {
        "fitted": part,
        "steps": state["step"],
        "seconds": round(state["seconds"], 3),
        "kept": kept,
        "before": {name: rows[0].get(name) for name in COMPARED},
        "after": {name: after.get(name) for name in COMPARED},
    }
    metrics = {name: value for name, value in after.items() if name not in NOT_METRICS}
    notes = {"notes": after["notes"]} if "notes" in after else {}
    return {**(metrics if kept else notes), CALIBRATION: summary}
