"""Feature spaces for distances between sets of images, each with a name that goes beside every number.

``auto``: a small classifier trained here on the data's own labels, in a run folder of its own, and
named after its weights, ``digits-cnn-1f2e3d4c``; for data without labels, fixed random
convolutions; for tables, the data as they are; for images whose channels are images of a built-in
set, the classifier of that set, channel by channel. A folder: the classifier another run trained.
``package.module:name``: any module of yours from images (N, C, H, W) in [-1, 1] to features (N, D),
Inception say.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.data.arrays import Data
from experiments.data.readers import read
from experiments.data.sources import names_code
from experiments.gans.scaling import seen
from experiments.training.distributed import join
from experiments.training.loop import fit_task
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from univae.checkpoint import load_weights, read_json, write_json
from univae.errors import InputError
from univae.rules import SIZE, at_least, check_values, reading

__all__ = ["Classifier", "Space", "class_labels", "feature_space"]

WIDTH = 16
FEATURES = 64
HELD_OUT = 0.1  # of the data, to tell the accuracy
_SETTINGS: dict[str, Any] = {"lr": 2e-3, "seed": 0, "validate_every": 0, "checkpoint_every": 0}


@dataclass(frozen=True)
class Space:
    """A named map from data, scaled as a GAN sees them, to features.

    And to class scores where it is a classifier.
    """

    name: str
    map: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None
    accuracy: float | None = None  # of the classifier on data it was not trained on

    @torch.no_grad()
    def features(self, x: Tensor, rows: int = 200) -> Tensor:
        """Features (N, D) of data (N, ...)."""
        return torch.cat([self.map(part).flatten(1).float() for part in x.split(rows)])

    @torch.no_grad()
    def classes(self, x: Tensor, rows: int = 200) -> Tensor | None:
        """The likeliest class of each datum, from a classifier."""
        if self.classify is None:
            return None
        return torch.cat([self.classify(part).argmax(1) for part in x.split(rows)])


class Classifier(nn.Module):
    """Convolutions of stride 2, ReLU, global pooling of a last layer of 64 features, and classes.

    No norms.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.config = {"channels": channels, "classes": classes}
        check_values(
            "Classifier", dict.fromkeys(("channels", "classes"), at_least(1, SIZE)), self.config
        )
        widths = (channels, WIDTH, 2 * WIDTH, FEATURES)
        pairs = zip(widths, widths[1:], (1, 2, 2), strict=False)
        self.body = nn.Sequential(
            *[p for a, b, s in pairs for p in (nn.Conv2d(a, b, 3, s, 1), nn.ReLU())]
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.last = nn.Linear(4 * FEATURES, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.body(x)).flatten(1)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def feature_space(
    data: Data,
    where: Path,
    choice: str = "auto",
    steps: int = 400,
    threads: int = 0,
    device: str = "auto",
) -> Space:
    """Return the space that ``choice`` names; a classifier of ``data`` is trained once and stays in ``where``.

    Under ``torchrun`` all processes must call it at the same place, within one
    :func:`experiments.training.distributed.join`.
    """
    if names_code(choice):
        return _imported(choice)
    if data.channels_of:
        return _by_channel(
            feature_space(read(data.channels_of), where, choice, steps, threads, device)
        )
    if choice != "auto":
        return _opened(Path(choice), data)
    if len(data.shape) != 3:
        return Space("data", lambda x: x)
    if class_labels(data) is None:
        return _random(data.shape[0])
    with join(device) as world:
        # Decided by one process: another may look only after the first has begun to write.
        begun, done = world.first_decides(
            [(where / name).exists() for name in ("config.json", "DONE")]
        )
        if not done:
            _train(
                data,
                where,
                Settings(steps=steps, threads=threads, device=device, resume=begun, **_SETTINGS),
            )
        world.wait()  # only the first process writes the weights that all read now
    return _opened(where, data)


def class_labels(data: Data) -> Tensor | None:
    """Labels 0, 1, ...

    of data that have two or more; ``None`` for none, or for those of a regression.
    """
    if data.labels is None or data.labels.dtype.kind not in "bui":
        return None
    labels = torch.as_tensor(np.asarray(data.labels).astype(np.int64))
    return (
        labels
        if labels.min() >= 0 and 2 <= labels.unique().numel() == int(labels.max()) + 1
        else None
    )


class _Task:
    def __init__(self, module: Classifier, data: Data, labels: Tensor) -> None:
        self.module = module
        self.data = data
        self.labels = labels
        order = np.random.default_rng(0).permutation(len(data))
        held_out = max(1, int(HELD_OUT * len(data)))
        self.held_out = order[: min(held_out, 5000)]
        self.train = order[held_out:]

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        order = np.random.default_rng([1, epoch]).permutation(self.train)
        return [order[i : i + 128] for i in range(0, len(order), 128)]

    def load(self, item: np.ndarray) -> tuple[Tensor, Tensor]:
        return seen(self.data, item), self.labels[item]

    def weight(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[0])

    def loss(
        self, batch: tuple[Tensor, Tensor], progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x, y = batch
        return F.cross_entropy(self.module(x + 0.05 * torch.randn_like(x)), y, reduction="sum"), {}

    def validate(self, progress: Progress) -> dict[str, Any]:
        x, y = self.load(self.held_out)
        scores = torch.cat(
            [self.module(part.to(next(self.module.parameters()).device)) for part in x.split(500)]
        ).cpu()
        accuracy = (scores.argmax(1) == y).double().mean().item()
        return {"selection": F.cross_entropy(scores, y).item(), "accuracy": accuracy}


def _train(data: Data, where: Path, settings: Settings) -> None:
    labels = class_labels(data)
    assert labels is not None
    run = Run.create(
        where, dataclasses.asdict(settings) | {"command": "features", "data": data.name}
    )
    reseed(0, "features")
    model = Classifier(data.shape[0], int(labels.max()) + 1)
    if run.writes:
        write_json(where / "model.json", {**model.config, "data": data.name})
    fit_task(_Task(model, data, labels), settings, run)


def _opened(where: Path, data: Data) -> Space:
    described = read_json(where / "model.json")
    run = Run.open(where)
    if run.config.get("command") != "features":
        raise InputError(
            f"features: {where} holds no classifier; give the features/ folder of a run of train-gan"
        )
    with reading(where / "model.json"):
        name = described.pop("data")
        model = Classifier(**described)
    weights = run.checkpoint("best") / "model.safetensors"
    load_weights(model, weights)
    if described["channels"] != data.shape[0]:
        raise InputError(
            f"features: {where} takes {described['channels']} channels, {data.name} has {data.shape[0]}"
        )
    digest = blake2b(weights.read_bytes(), digest_size=4).hexdigest()
    accuracy = run.rows("validation")[-1].get("accuracy")
    return Space(f"{name}-cnn-{digest}", model.eval().features, model, accuracy)


def _by_channel(one: Space) -> Space:
    """Features of the channels, side by side.

    A class for every combination of theirs, the first channel's leading.
    """

    def each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x.flatten(0, 1)[:, None]).unflatten(0, x.shape[:2])

    def classify(x: Tensor) -> Tensor:
        assert one.classify is not None
        first, *others = each(one.classify, x).log_softmax(2).unbind(1)
        for other in others:
            first = (first[:, :, None] + other[:, None, :]).flatten(1)
        return first

    features = Space(f"{one.name}-by-channel", lambda x: each(one.map, x).flatten(1))
    return dataclasses.replace(
        features, classify=classify if one.classify else None, accuracy=one.accuracy
    )


def _random(channels: int) -> Space:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(channels, 2).eval()
    return Space(f"random-cnn-{FEATURES}", model.features)


def _imported(choice: str) -> Space:
    module, _, name = choice.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise InputError(
            f"features: {choice} is no package.module:name; give the name of a module and of what it holds"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"features: {choice} cannot be imported ({error}); give package.module:name"
        ) from error
    try:
        model = found() if isinstance(found, type) else found
    except TypeError as error:
        raise InputError(
            f"features: {choice} cannot be built without arguments ({error}); give a module"
        ) from error
    if not callable(model):
        raise InputError(
            f"features: {choice} is a {type(model).__name__}; give a map from images to features"
        )
    return Space(choice, model.eval() if isinstance(model, nn.Module) else model)
