"""``univae train-density``: a VAE on images or a table."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from density.model import detached
from experiments.cli import run
from experiments.data import Data, read
from experiments.density_task import DensityTask, ImageObjective
from experiments.distributed import join
from experiments.image_presets import PRESETS
from experiments.image_run import ImageRun, ImageShape, build, fixed, model_config
from experiments.image_samples import write_samples
from experiments.loop import fit
from experiments.measure import of_training
from experiments.report import write as write_report
from experiments.run import Run, or_nothing
from experiments.settings import Settings
from experiments.task import reseed
from univae.checkpoint import write_json
from univae.corpus import split
from univae.errors import InputError
from univae.rules import Rule, within

__all__ = ["PRESETS", "Config", "main", "train"]

CALIBRATED = 10_000  # data whose marginals the output starts at


@dataclass(frozen=True, kw_only=True)
class Config(Settings, ImageObjective, ImageShape):
    """Trains a VAE on a folder, .zip, .npz, .npy or IDX(.gz) of images or tables, or on a built-in set."""

    data: str  # a file, a folder, or a built-in name: digits, glyphs, wine ...
    out: Path  # the run folder
    validation: str = ""  # held-out data; empty: a share of --data
    held_out: float = 0.1  # that share
    command: Literal["train-density"] = "train-density"  # what made the run folder; leave it

    RULES: ClassVar[Mapping[str, Rule]] = {
        "held_out": within("(0, 1)", "a share of the data"),
    }

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        ImageObjective.__post_init__(self)


def main(config: Config) -> dict[str, Any]:
    """Trains, then writes samples and the report; the JSON names likelihood, bound, KL per layer, and active units."""
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        write_samples(ImageRun(config.out, config.device), held_out_data(config))
        result["report"] = str(write_report(config.out))
    return of_training(result)


def train(config: Config) -> dict[str, Any]:
    """What :func:`experiments.loop.fit` returns."""
    data = read(config.data)
    described = model_config(config, data, config.binarisation != "none")
    rows, others = _split(config, data)
    if config.binarisation in ("static", "threshold"):
        data = fixed(data, config.binarisation, config.seed)
    with join(config.device) as world:
        reseed(config.seed, "weights")
        model = build(described)
        start = data.batch(rows[:CALIBRATED])
        model.calibrate(start / (data.levels - 1) if config.binarisation == "dynamic" and data.levels else start)
        if config.objective in ("dreg", "stl"):
            detached(model.posterior(start[:1]))  # refuses a posterior that it cannot detach, with nothing written yet
        folder = Run.create(config.out, dataclasses.asdict(config))
        with or_nothing(folder):
            if world.first:
                write_json(config.out / "model.json", model.config)
            task = DensityTask(model, config, config.seed, (data, rows), others)
            return fit(task, config, folder)


def held_out_data(config: Config) -> torch.Tensor:
    """The data that validations look at."""
    return _split(config, read(config.data))[1]


def _split(config: Config, data: Data) -> tuple[np.ndarray, torch.Tensor]:
    """Indices to train on, and the data of a validation."""
    if config.validation:
        other = read(config.validation)
        rows, chosen = np.arange(len(data)), np.arange(len(other))
    else:
        other = data
        rows, chosen = split(len(data), config.held_out, config.seed)
    if other.shape != data.shape:
        raise InputError(f"--validation {config.validation}: a datum is {other.shape}, --data has {data.shape}")
    if len(chosen) < 2:
        source = f"--validation {config.validation}" if config.validation else f"--held-out {config.held_out:g}"
        raise InputError(f"2 held-out data are needed; {len(other)} data with {source} give {len(chosen)}; give more")
    picked = np.random.default_rng(config.seed).permutation(chosen)[: config.validation_data]
    return rows, fixed(other, config.binarisation, config.seed).batch(picked)


if __name__ == "__main__":
    run(Config, main)
