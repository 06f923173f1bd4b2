"""How studies run here: many training runs, some at a time, each in its own folder and never twice."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from experiments.training.configuration import compose, flatten
from univae.checkpoint import read_json

__all__ = ["Job", "run_all", "spread"]


@dataclass(frozen=True)
class Job:
    """A run of a study: its folder, and what fills it.

    ``train(config)`` must leave ``DONE`` in ``config.out``.
    """

    name: str
    train: Callable[[Any], Any]
    config: Any


def run_all(jobs: Sequence[Job], at_once: int) -> dict[str, dict[str, Any]]:
    """What every job's ``DONE`` says, by name; a folder that has one is not run again.

    Each runs in a fresh process with the threads its configuration names, so that the figures of a
    study do not depend on how many run at once; an interrupted run is continued. A run that fails,
    by diverging say, is reported as ``{"failed": reason}``.
    """
    with ProcessPoolExecutor(
        at_once, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        found = tqdm(pool.map(_run, jobs), total=len(jobs), unit="runs", smoothing=0)
        return {job.name: result for job, result in zip(jobs, found, strict=True)}


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds, and the values themselves."""
    values = list(values)
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "each": values,
    }


def _run(job: Job) -> Mapping[str, Any]:
    done = Path(job.config.out) / "DONE"
    if done.exists():
        return read_json(done)
    torch.set_num_threads(flatten(job.config)["threads"] or torch.get_num_threads())
    begun = (Path(job.config.out) / "config.json").exists()
    try:
        job.train(compose(type(job.config), {**flatten(job.config), "resume": begun}))
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    return read_json(done)
