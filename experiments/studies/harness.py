"""Training runs of a study: several at once, each in a separate folder and process."""

import json
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import torch
from scipy.special import stdtrit
from tqdm import tqdm

from experiments.studies.reuse import record_options, require_same_options, stored_options
from experiments.training.configuration import compose, flatten
from univae.checkpoint import JsonObject, read_json
from univae.errors import InputError

__all__ = [
    "Job",
    "Results",
    "failures",
    "finished",
    "paired",
    "run_all",
    "run_here",
    "setting",
    "spread",
]

FAILED = "failed"  # the key of the reason in the result of a failed run

# The content of each run's DONE by the name of its job; {"failed": reason} for a failed run.
Results: TypeAlias = Mapping[str, JsonObject]


@dataclass(frozen=True)
class Job:
    """A run of a study: a configuration, and the function that trains with it.

    ``train(config)`` must write ``DONE`` in ``config.out``.
    """

    name: str
    train: Callable[[Any], object]  # of the type of ``config``, which depends on the study
    config: Any


def run_all(jobs: Sequence[Job], at_once: int) -> dict[str, JsonObject]:
    """Run all jobs, ``at_once`` at a time; return the content of their ``DONE`` by name.

    A folder with ``DONE`` is not run again, and an interrupted run is continued. Each job runs in a
    new process with the threads of its configuration, so that results do not depend on ``at_once``.
    A run that fails, for instance by diverging, has the result ``{"failed": reason}``.

    Raises:
        InputError: a run was finished with other options than its job's; none is started then.
    """
    _require_reusable(jobs)
    with ThreadPoolExecutor(at_once) as pool:
        results = tqdm(pool.map(_run_alone, jobs), total=len(jobs), unit="runs", smoothing=0)
        return {job.name: result for job, result in zip(jobs, results, strict=True)}


def run_here(jobs: Sequence[Job]) -> dict[str, JsonObject]:
    """Run all jobs in this process, one after the other; return as :func:`run_all` does.

    For runs that take less time than a process takes to start.

    Raises:
        InputError: a run was finished with other options than its job's; none is started then.
    """
    _require_reusable(jobs)
    threads = torch.get_num_threads()
    try:
        return {job.name: _run(job) for job in tqdm(jobs, unit="runs", smoothing=0)}
    finally:
        torch.set_num_threads(threads)


def finished(results: Results) -> dict[str, JsonObject]:
    """Return the results of the runs that did not fail."""
    return {name: result for name, result in results.items() if FAILED not in result}


def failures(results: Results) -> dict[str, str]:
    """Return the reason of every run that failed."""
    return {name: result[FAILED] for name, result in results.items() if FAILED in result}


def setting(text: str, options: Collection[str], command: str) -> tuple[str, object]:
    """Return the name and the value of OPTION=VALUE, a value of JSON or else a word.

    Raises:
        InputError: the text has another form, or ``options``, those of ``command``, lack the name.
    """
    name, equals, value = text.partition("=")
    if not equals or name not in options:
        raise InputError(f"--set takes OPTION=VALUE with options of {command}; got {text}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def spread(values: Iterable[float]) -> JsonObject:
    """Return the mean, the standard deviation over seeds, and the values themselves."""
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": deviation, "each": values}


def paired(differences: Iterable[float]) -> JsonObject:
    """Return the :func:`spread` of differences over seeds, and ``interval``.

    That is Student's 95% interval of their mean, with n - 1 degrees of freedom; None for one seed.
    """
    result = spread(differences)
    count = len(result["each"])
    result["interval"] = None
    if count > 1:
        half_width = stdtrit(count - 1, 0.975) * result["sd"] / count**0.5
        result["interval"] = [result["mean"] - half_width, result["mean"] + half_width]
    return result


def _require_reusable(jobs: Sequence[Job]) -> None:
    for job in jobs:
        folder = Path(job.config.out)
        if (folder / "DONE").exists():
            require_same_options(folder, stored_options(folder), flatten(job.config))


def _run_alone(job: Job) -> JsonObject:
    """Run a job in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_run, job).result()


def _run(job: Job) -> JsonObject:
    done = Path(job.config.out) / "DONE"
    if not done.exists():
        options = flatten(job.config)
        torch.set_num_threads(options["threads"] or torch.get_num_threads())
        options["resume"] = (Path(job.config.out) / "config.json").exists()
        try:
            job.train(compose(type(job.config), options))
        except Exception as error:
            return {FAILED: f"{type(error).__name__}: {error}"}
        record_options(done.parent, flatten(job.config))
    result: JsonObject = read_json(done)
    return result
