"""How far the weights of several processes are from those of one.

Every training takes the same steps on one, two and four processes, which share its micro-batches;
then it is continued, by as many processes or by others. The result is the largest difference of a
weight from that of one process, beside the largest change of a weight by the second half of
training.

``python -m experiments.studies.processes --out runs/processes --results
experiments/results/processes.json``
"""

import argparse
import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from experiments import train_density, train_gan, train_similar, train_text
from experiments.benchmarks.harness import report
from experiments.training.distributed import join
from univae.checkpoint import JsonObject

__all__ = ["CONTINUATIONS", "KINDS", "TRAININGS", "Half", "Training", "differences", "together"]

MICRO_BATCHES = 4  # of a step, over all processes
STEPS = (3, 6)  # of both halves of a training
COMMON: JsonObject = {"validate_every": 0, "log_every": 1, "threads": 1, "seed": 3}
# statistics of a normalisation, which every process has of its own micro-batches
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
WORDS = ("red", "green", "blue", "small", "large", "round", "dog", "cat", "house", "tree")
SHAPE: JsonObject = {
    "width": 16,
    "heads": 2,
    "layers": 2,
    "max_length": 12,
    "tokenizer": "words",
    "vocab_size": 60,
}

# Numbers of processes of the first and of the second half of a training.
CONTINUATIONS: tuple[tuple[int, int], ...] = ((2, 2), (4, 4), (2, 1), (1, 2), (2, 4))


@dataclass(frozen=True)
class Training:
    """A training command on a small data set."""

    config: type[Any]
    train: Callable[[Any], object]
    write: Callable[[Path], None]  # writes the data
    suffix: str  # of their file
    data: str  # the option that names it
    options: JsonObject
    shared: str = "accumulate"  # the option that divides a step among processes

    def on(self, processes: int) -> JsonObject:
        """Return the options of a number of processes, which take the same steps."""
        each = self.options.get(self.shared, MICRO_BATCHES) // processes
        return {**COMMON, **self.options, self.shared: each}


def _sentences(count: int) -> list[str]:
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, draw.integers(3, 9))) for _ in range(count)]


def _write_texts(path: Path) -> None:
    path.write_text("\n".join(_sentences(300)) + "\n")


def _write_pairs(path: Path) -> None:
    halves = zip(_sentences(300), reversed(_sentences(300)), strict=True)
    path.write_text("".join(json.dumps(list(pair)) + "\n" for pair in halves))


def _write_rows(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.random.default_rng(0).normal(size=(300, 4)))


TRAININGS: Mapping[str, Training] = {
    "text": Training(
        train_text.Config,
        train_text.train,
        _write_texts,
        ".txt",
        "text",
        {
            **SHAPE,
            "latent_layers": 1,
            "latent_width": 4,
            "batch_tokens": 64,
            "validation_texts": 8,
            "validation_samples": 2,
        },
    ),
    "density": Training(
        train_density.Config,
        train_density.train,
        _write_rows,
        ".npy",
        "data",
        {
            "ema": 0.5,  # the weights that are compared are their average
            "latents": (3,),
            "hidden": (16,),
            "batch_size": 8,
            "validation_data": 20,
            "validation_samples": 2,
        },
    ),
    "gan": Training(
        train_gan.Config,
        train_gan.train,
        _write_rows,
        ".npy",
        "data",
        {
            "latent": 4,
            "hidden": (16,),
            "batch_size": 32,
            "validation_data": 20,
            "ema_images": 0.0,
        },
        shared="batch_size",
    ),
    "similar": Training(
        train_similar.Config,
        train_similar.train,
        _write_pairs,
        ".jsonl",
        "pairs",
        {**SHAPE, "batch_size": 8, "validation_pairs": 8},
    ),
}


# How weights and moments lie on several processes: the options that say so.
KINDS: Mapping[str, JsonObject] = {"copies": {}, "divided": {"shard": True}}


def together(processes: int, function: Callable[[], object]) -> None:
    """Call a function in processes that train together: in forks, or in this one.

    Raises:
        RuntimeError: one of them failed.
    """
    if processes == 1:
        function()
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    context = get_context("fork")
    started = []
    for rank in range(processes):
        variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = context.Process(target=_joined, args=(function, variables))
        process.start()
        started.append(process)
    for process in started:
        process.join()
    codes = [process.exitcode for process in started]
    if any(codes):
        raise RuntimeError(f"{processes} processes ended with the exit codes {codes}")


def _joined(function: Callable[[], object], variables: Mapping[str, str]) -> None:
    os.environ.update(variables)
    with join("cpu"):
        function()


def differences(
    names: Sequence[str],
    folder: Path,
    continuations: Sequence[tuple[int, int]] = CONTINUATIONS,
    **options: object,
) -> dict[str, JsonObject]:
    """Train in two halves on numbers of processes; compare the weights with those of one.

    Args:
        names: rows of :data:`TRAININGS`.
        folder: for data and runs; a new folder.
        continuations: the processes of the first and of the second half.
        options: of the trainings on several processes, beside their own.

    Returns:
        by name and by continuation, as ``2 -> 1``, the largest difference of a weight; ``moved`` is
        the largest change of a weight of one process by the second half.
    """
    one = [Half(name, folder / name / "one", 1, ()) for name in names]
    for half in one:
        half.out.parent.mkdir(parents=True)
        half.write_data()
    train_halves(one)
    whole = [half.continued_by(1) for half in one]
    train_halves(whole)

    given = tuple(options.items())
    counts = dict.fromkeys(first for first, _ in continuations)
    begun = [Half(name, folder / name / str(n), n, given) for n in counts for name in names]
    train_halves(begun)
    ended = []
    for half in begun:
        seconds = [second for first, second in continuations if first == half.begun_by]
        ended += [half.continued_by(second) for second in seconds]
    train_halves(ended)

    table: dict[str, JsonObject] = {}
    for before, after in zip(one, whole, strict=True):
        table[before.name] = {"moved": before.distance(after)}
        for half in ended:
            if half.name == before.name:
                key = f"{half.begun_by} -> {half.processes}"
                table[before.name][key] = half.distance(after)
    return table


@dataclass(frozen=True)
class Half:
    """A run of the first half of a training, or a copy of one that others continue."""

    name: str
    out: Path
    begun_by: int  # processes
    given: tuple[tuple[str, object], ...]  # options beside those of the training
    continued: int = 0  # processes of the second half; 0: this is the first

    @property
    def processes(self) -> int:
        """The processes that train this half."""
        return self.continued or self.begun_by

    def continued_by(self, processes: int) -> "Half":
        """Return a copy of this run, which these processes continue."""
        out = self.out.with_name(f"{self.out.name} then {processes}")
        shutil.copytree(self.out, out)
        return replace(self, out=out, continued=processes)

    def write_data(self) -> None:
        """Write the data beside the run."""
        TRAININGS[self.name].write(self.data)

    @property
    def data(self) -> Path:
        """The file of the data."""
        return self.out.parent / f"data{TRAININGS[self.name].suffix}"

    def train(self) -> None:
        """Train this half in this process, which is one of :attr:`processes`."""
        training = TRAININGS[self.name]
        options = {
            **training.on(self.begun_by),
            training.data: (self.data,) if training.data == "pairs" else str(self.data),
            **dict(self.given),
            "out": self.out,
            "steps": STEPS[bool(self.continued)],
            "resume": bool(self.continued),
        }
        training.train(training.config.of(**options))

    def distance(self, other: "Half") -> float:
        """Return the largest difference of a weight from that of another run."""
        return _largest(load_file(_weights(self.out)), load_file(_weights(other.out)))


def train_halves(halves: Sequence[Half]) -> None:
    """Train all halves, those of one number of processes one after the other."""
    for processes in dict.fromkeys(half.processes for half in halves):
        mine = [half for half in halves if half.processes == processes]
        together(processes, partial(_train_each, mine))


def _train_each(halves: Sequence[Half]) -> None:
    for half in halves:
        half.train()


def _weights(run: Path) -> Path:
    return run / "checkpoints" / "last" / "model.safetensors"


def _largest(x: Mapping[str, torch.Tensor], y: Mapping[str, torch.Tensor]) -> float:
    """Return the largest difference of two models' weights."""
    names = [name for name in x if not name.endswith(STATISTICS)]
    return max(float((x[name] - y[name]).abs().max()) for name in names)


def main() -> None:
    """Write the table of differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    table: JsonObject = {}
    for kind, options in KINDS.items():
        table[kind] = differences(tuple(TRAININGS), arguments.out / kind, **options)
    report("processes", table, arguments.results, kind="study")


if __name__ == "__main__":
    main()
