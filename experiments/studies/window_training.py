"""The runs of the study of windows: a small text VAE, trained with a number of micro-batches."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.studies.harness import Job
from experiments.studies.small_texts import small_text_task
from experiments.text.task import TextTask
from experiments.training.loop import fit_task
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_json

__all__ = ["BATCH", "Config", "FixedSizeTask", "fixed_batches", "job", "train"]

BATCH = 1024  # padded tokens in an update where micro-batches are cut by tokens


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A run of the study."""

    out: Path
    shared: Path  # the tokenised corpus
    batch_tokens: int = BATCH  # padded tokens in a micro-batch
    texts: int = 0  # texts in a micro-batch, instead of --batch-tokens; 0: by tokens


class FixedSizeTask(TextTask):
    """The training of a text VAE on micro-batches of a number of texts.

    Args:
        task: gives model, objective and texts.
        texts: the number of texts of a micro-batch.
    """

    def __init__(self, task: TextTask, texts: int) -> None:
        training_set = (task.corpus, task.train)
        super().__init__(task.module, task.objective, task.seed, training_set, task.held_out)
        self.texts = texts

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the indices of the texts of every batch, in an order drawn for the epoch."""
        return fixed_batches(self.train, self.texts, self.seed, epoch)


def fixed_batches(indices: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the indices in batches of ``size``, in an order drawn for the epoch.

    Those left over, fewer than ``size``, are in no batch.
    """
    order = np.random.default_rng((seed, epoch)).permutation(indices)
    count = len(order) // size
    return list(order[: count * size].reshape(count, size))


def job(out: Path, name: str, seed: int, **options: object) -> Job:
    """Return a run of one thread, with a single validation.

    Gradients are not clipped, because clipping would differ between the arms.
    """
    settings: JsonObject = {
        "clip": 0.0,
        "threads": 1,
        "device": "cpu",
        "validate_every": 0,
        "checkpoint_every": 0,
        **options,
    }
    folder = out / f"{name}-seed{seed}"
    config = Config(out=folder, shared=out / "corpus", seed=seed, **settings)
    return Job(config.out.name, train, config)


def train(config: Config) -> JsonObject:
    """Train a configuration; return the result, with the processor time."""
    start = time.process_time()
    folder = Run.create(config.out, dataclasses.asdict(config))
    reseed(config.seed, "weights")
    task = small_text_task(config.shared, config.batch_tokens, config.seed)
    if config.texts:
        task = FixedSizeTask(task, config.texts)
    result = fit_task(task, config, folder)
    result["processor_seconds"] = time.process_time() - start
    write_json(config.out / "DONE", result)
    return result
