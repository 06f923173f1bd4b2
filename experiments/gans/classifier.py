"""A small image classifier, trained on the labels of a data set: the source of a feature space."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.data.arrays import Data
from experiments.gans.scaling import gan_rows
from experiments.training.loop import fit_task
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from univae.checkpoint import JsonObject, write_json
from univae.dtypes import is_integer_array
from univae.rules import SIZE, at_least, check_values

__all__ = ["COMMAND", "FEATURES", "TRAINING", "Classifier", "class_labels", "train_classifier"]

WIDTH = 16  # channels after the first convolution; doubled by the second
FEATURES = 64
STRIDES = (1, 2, 2)
POOLED_SIDE = 2
FEWEST_CLASSES = 2  # a classifier needs

COMMAND = "features"  # the ``command`` in the config.json of its run folder

# Settings of training, but for steps, threads and device.
TRAINING: JsonObject = {"lr": 2e-3, "seed": 0, "validate_every": 0, "checkpoint_every": 0}
BATCH_SIZE = 128
NOISE = 0.05  # standard deviation of the Gaussian noise added to training images
HELD_OUT_FRACTION = 0.1  # of the images, for the accuracy
MOST_HELD_OUT = 5000  # images
VALIDATION_BATCH = 500  # images


class Classifier(nn.Module):
    """Three convolutions with ReLU, pooling, a layer of 64 features, and class scores; no norms."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.config = {"channels": channels, "classes": classes}
        rule = at_least(1, SIZE)
        check_values("Classifier", {"channels": rule, "classes": rule}, self.config)
        widths = (channels, WIDTH, 2 * WIDTH, FEATURES)
        body: list[nn.Module] = []
        for (channels_in, channels_out), stride in zip(pairwise(widths), STRIDES, strict=True):
            body += [nn.Conv2d(channels_in, channels_out, 3, stride, 1), nn.ReLU()]
        self.body = nn.Sequential(*body)
        self.pool = nn.AdaptiveAvgPool2d(POOLED_SIDE)
        self.last = nn.Linear(POOLED_SIDE**2 * FEATURES, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last features (N, 64) of images (N, channels, H, W) in [-1, 1]."""
        pooled: Tensor = self.pool(self.body(x))
        features: Tensor = self.last(pooled.flatten(1))
        return features.relu()

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores (N, classes)."""
        scores: Tensor = self.head(self.features(x))
        return scores


def class_labels(data: Data) -> Tensor | None:
    """Return class labels (N,) of whole numbers 0, 1, ..., each of which occurs.

    ``None`` without labels, with real-valued labels of a regression, and with fewer than two
    classes.
    """
    if data.labels is None or not is_integer_array(data.labels):
        return None
    labels = torch.as_tensor(np.asarray(data.labels).astype(np.int64))
    classes = int(labels.max()) + 1
    has_all_classes = labels.min() >= 0 and torch.unique(labels).numel() == classes
    return labels if has_all_classes and classes >= FEWEST_CLASSES else None


def train_classifier(data: Data, folder: Path, settings: Settings) -> None:
    """Train a classifier on labelled images, in the run folder ``folder``."""
    labels = class_labels(data)
    assert labels is not None
    config = dataclasses.asdict(settings) | {"command": COMMAND, "data": data.name}
    run = Run.create(folder, config)
    reseed(0, "features")
    model = Classifier(data.shape[0], int(labels.max()) + 1)
    if run.writes:
        write_json(folder / "model.json", {**model.config, "data": data.name})
    fit_task(_ClassifierTask(model, data, labels), settings, run)


class _ClassifierTask:
    """The task of the training loop: cross-entropy on noisy images."""

    def __init__(self, module: Classifier, data: Data, labels: Tensor) -> None:
        self.module = module
        self.data = data
        self.labels = labels
        order = np.random.default_rng(0).permutation(len(data))
        held_out = max(1, int(HELD_OUT_FRACTION * len(data)))
        self.held_out = order[: min(held_out, MOST_HELD_OUT)]
        self.train = order[held_out:]

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the indices of the images of each batch, shuffled by epoch."""
        order = np.random.default_rng([1, epoch]).permutation(self.train)
        return [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]

    def load(self, item: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return images in [-1, 1] and their labels."""
        return gan_rows(self.data, item), self.labels[item]

    def weight(self, batch: tuple[Tensor, Tensor]) -> int:
        """Return the number of images in a batch."""
        return len(batch[0])

    def loss(
        self, batch: tuple[Tensor, Tensor], progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy summed over a batch, and nothing else to log."""
        x, y = batch
        noisy = x + NOISE * torch.randn_like(x)
        return F.cross_entropy(self.module(noisy), y, reduction="sum"), {}

    def validate(self, progress: Progress) -> JsonObject:
        """Return the mean cross-entropy and the accuracy on held-out images."""
        x, y = self.load(self.held_out)
        device = next(self.module.parameters()).device
        blocks = torch.split(x, VALIDATION_BATCH)
        scores = torch.cat([self.module(block.to(device)) for block in blocks]).cpu()
        accuracy = (scores.argmax(1) == y).double().mean().item()
        return {"selection": F.cross_entropy(scores, y).item(), "accuracy": accuracy}
