"""Feature spaces, in which distances between sets of rows are measured; each has a name.

``auto``
    Labelled images: the features of a small classifier trained on the labels, stored in a run
    folder and named after its weights, ``digits-cnn-1f2e3d4c``. Images without labels: random
    convolutions with fixed weights. Tables: the columns. Images whose channels are images of a
    built-in set: the classifier of that set, channel by channel.
a folder
    The classifier in the ``features/`` folder of another run.
``package.module:name``
    A module of the user from images (N, C, H, W) in [-1, 1] to features (N, D), Inception for
    instance.
"""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.data.arrays import Data
from experiments.data.readers import read
from experiments.data.sources import names_code
from experiments.gans.classifier import (
    COMMAND,
    FEATURES,
    TRAINING,
    Classifier,
    class_labels,
    train_classifier,
)
from experiments.gans.inception import INCEPTION
from experiments.training.distributed import join
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from univae.checkpoint import JsonObject, read_json, read_module
from univae.errors import InputError
from univae.rules import reading

__all__ = [
    "AUTO",
    "Classifier",
    "Space",
    "class_labels",
    "open_feature_space",
    "train_feature_space",
]

AUTO = "auto"
# Held-out accuracy of a classifier below which distances between its features are no headline.
LEAST_ACCURACY = 0.8
# Metrics that say nothing where the features do not tell the classes apart.
DISTANCES = ("frechet_distance", "kernel_distance")
# Rows mapped to features at once: bounds the memory.
ROWS_PER_BLOCK = 200


@dataclass(frozen=True)
class Space:
    """A named map from rows in the units of the networks to features, and to class scores."""

    name: str
    map: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None
    accuracy: float | None = None  # of the classifier on held-out images

    @property
    def doubt(self) -> str:
        """Why a distance in this space is no headline, and the way out; empty where it is one."""
        if self.accuracy is None or self.accuracy >= LEAST_ACCURACY:
            return ""
        return (
            f"the classifier of {self.name} is right on {self.accuracy:.0%} of held-out images, "
            f"below {LEAST_ACCURACY:.0%}; train with more --feature-steps, give --features the "
            "features/ folder of another run, or evaluate with --features inception"
        )

    def headlines(self, metrics: JsonObject) -> JsonObject:
        """Return metrics whose distances are None where the space is in doubt."""
        return {**metrics, **dict.fromkeys(DISTANCES)} if self.doubt else metrics

    def note(self) -> JsonObject:
        """Return the reason why distances are None, by the name of its key, if they are."""
        return {"frechet_note": self.doubt} if self.doubt else {}

    @torch.no_grad()
    def features(self, x: Tensor, rows: int = ROWS_PER_BLOCK) -> Tensor:
        """Return features (N, D) of rows (N, ...)."""
        blocks = torch.split(x, rows)
        return torch.cat([self.map(block).flatten(1).float() for block in blocks])

    @torch.no_grad()
    def classes(self, x: Tensor, rows: int = ROWS_PER_BLOCK) -> Tensor | None:
        """Return the likeliest class of each row, or None without a classifier."""
        if self.classify is None:
            return None
        return torch.cat([self.classify(block).argmax(1) for block in torch.split(x, rows)])


def open_feature_space(data: Data, folder: Path, choice: str = AUTO) -> Space:
    """Return the feature space ``choice``; ``auto`` reads the classifier in ``folder``.

    Raises:
        InputError: there is no trained classifier, it takes another number of channels, or
            ``choice`` names code that is not a map from images to features.
    """
    if names_code(choice):
        return _import_space(choice)
    if choice == INCEPTION:
        raise InputError(
            f"features: {INCEPTION} is for univae evaluate RUN --features {INCEPTION}; train with "
            "another space"
        )
    if data.channels_of:
        return _by_channel(open_feature_space(read(data.channels_of), folder, choice))
    if choice != AUTO:
        return _open_classifier(Path(choice), data)
    if not data.is_images:
        return Space("data", lambda x: x)
    if class_labels(data) is None:
        return _random_space(data.shape[0])
    return _open_classifier(folder, data)


def train_feature_space(
    data: Data,
    folder: Path,
    choice: str = AUTO,
    steps: int = 400,
    threads: int = 0,
    device: str = "auto",
) -> Space:
    """Return the feature space ``choice``; train the classifier of ``auto`` where there is none.

    Under ``torchrun`` all processes must call it at the same point, within one
    :func:`experiments.training.distributed.join`.
    """
    if data.channels_of and not names_code(choice):
        single_channel = read(data.channels_of)
        single = train_feature_space(single_channel, folder, choice, steps, threads, device)
        return _by_channel(single)
    if choice == AUTO and data.is_images and class_labels(data) is not None:
        _train_unless_done(data, folder, steps, threads, device)
    return open_feature_space(data, folder, choice)


def _train_unless_done(data: Data, folder: Path, steps: int, threads: int, device: str) -> None:
    with join(device) as world:
        # Rank 0 reads the folder for all ranks: another rank could read it after training began.
        files = [(folder / name).exists() for name in ("config.json", "DONE")]
        is_begun, is_done = world.first_decides(files)
        if not is_done:
            settings = Settings(
                steps=steps, threads=threads, device=device, resume=is_begun, **TRAINING
            )
            train_classifier(data, folder, settings)
        world.wait()  # barrier: rank 0 may still be writing the weights, which all ranks read next


def _open_classifier(folder: Path, data: Data) -> Space:
    config = read_json(folder / "model.json")
    run = Run.open(folder)
    if run.config.get("command") != COMMAND:
        raise InputError(
            f"features: {folder} has no classifier; give the features/ folder of a run of train-gan"
        )
    with reading(folder / "model.json"):
        data_name = config.pop("data")
    weights = run.checkpoint("best") / "model.safetensors"
    model = read_module(lambda: Classifier(**config), weights, folder / "model.json")
    if config["channels"] != data.shape[0]:
        raise InputError(
            f"features: {folder} takes {config['channels']} channels, {data.name} has "
            f"{data.shape[0]}; give a classifier of images with {data.shape[0]} channels"
        )

    digest = blake2b(weights.read_bytes(), digest_size=4).hexdigest()
    with reading(folder / "metrics.jsonl"):
        accuracy = run.rows("validation")[-1].get("accuracy")
    return Space(f"{data_name}-cnn-{digest}", model.eval().features, model, accuracy)


def _by_channel(single: Space) -> Space:
    """Return the space of images whose channels are images of the space ``single``.

    Features are those of all channels, concatenated. Every combination of the channels' classes is
    a class; the class of the first channel is the most significant digit of its index.
    """

    def map_channels(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        outputs = function(x.flatten(0, 1)[:, None])
        return outputs.reshape(*x.shape[:2], *outputs.shape[1:])

    def features(x: Tensor) -> Tensor:
        return map_channels(single.map, x).flatten(1)

    def classify(x: Tensor) -> Tensor:
        assert single.classify is not None
        log_probabilities = map_channels(single.classify, x).log_softmax(2)
        combined, *remaining = log_probabilities.unbind(1)
        for channel in remaining:
            combined = (combined[:, :, None] + channel[:, None, :]).flatten(1)
        return combined

    return dataclasses.replace(
        single,
        name=f"{single.name}-by-channel",
        map=features,
        classify=classify if single.classify else None,
    )


def _random_space(channels: int) -> Space:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(channels, 2).eval()
    return Space(f"random-cnn-{FEATURES}", model.features)


def _import_space(choice: str) -> Space:
    module_name, _, attribute = choice.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise InputError(
            f"features: {choice} is no package.module:name; give the name of a module and of an "
            "attribute in it"
        )
    try:
        model = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"features: {choice} cannot be imported ({error}); give package.module:name"
        ) from error
    if isinstance(model, type):
        try:
            model = model()
        except TypeError as error:
            raise InputError(
                f"features: {choice} needs arguments ({error}); name an instance, or a class "
                "without arguments"
            ) from error
    if not callable(model):
        raise InputError(
            f"features: {choice} is of type {type(model).__name__}; give a callable from images to "
            "features"
        )
    return Space(choice, model.eval() if isinstance(model, nn.Module) else model)
