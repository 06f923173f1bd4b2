"""Training runs of a study: some at a time, each in its own folder and in a fresh process."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from tqdm import tqdm

from experiments.training.configuration import compose, flatten
from univae.checkpoint import JsonObject, read_json

__all__ = ["Job", "Results", "failures", "finished", "run_all", "spread"]

FAILED = "failed"  # the key of a result whose run failed

# what the DONE of every run holds, by its job's name; {"failed": reason} of one that failed
Results: TypeAlias = Mapping[str, JsonObject]


@runtime_checkable
class StudyConfig(Protocol):
    """The configuration of a run, a dataclass with the fields ``threads`` and ``resume``."""

    @property
    def out(self) -> Path:
        """The folder of the run."""
        ...


Config = TypeVar("Config", bound=StudyConfig)


@dataclass(frozen=True)
class Job(Generic[Config]):
    """A run of a study: its configuration, and the function that trains by it.

    ``train(config)`` must leave ``DONE`` in ``config.out``.
    """

    name: str
    train: Callable[[Config], object]
    config: Config


def run_all(jobs: Sequence[Job[Config]], at_once: int) -> dict[str, JsonObject]:
    """Return what the ``DONE`` of every job holds, by name; a folder that has one is not run again.

    Each job runs in a fresh process with the threads that its configuration names, so that the
    numbers of a study do not depend on how many run at once; an interrupted run is continued. A run
    that fails, by diverging say, is reported as ``{"failed": reason}``.
    """
    context = get_context("spawn")
    with ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool:
        results = tqdm(pool.map(_run, jobs), total=len(jobs), unit="runs", smoothing=0)
        return {job.name: result for job, result in zip(jobs, results, strict=True)}


def finished(results: Results) -> dict[str, JsonObject]:
    """Return the results of the runs that did not fail."""
    return {name: result for name, result in results.items() if FAILED not in result}


def failures(results: Results) -> dict[str, str]:
    """Return the reason of every run that failed."""
    return {name: result[FAILED] for name, result in results.items() if FAILED in result}


def spread(values: Iterable[float]) -> JsonObject:
    """Return the mean, the standard deviation over seeds, and the values themselves."""
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": deviation, "each": values}


def _run(job: Job[Config]) -> JsonObject:
    done = job.config.out / "DONE"
    if not done.exists():
        options = flatten(job.config)
        torch.set_num_threads(options["threads"] or torch.get_num_threads())
        options["resume"] = (job.config.out / "config.json").exists()
        try:
            job.train(compose(type(job.config), options))
        except Exception as error:
            return {FAILED: f"{type(error).__name__}: {error}"}
    result: JsonObject = read_json(done)
    return result
