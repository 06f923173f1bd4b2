"""Trained models: what :func:`univae.load` returns for every kind of run folder.

A kind is a subclass of :class:`Trained` that says which command trains its runs and reads one from
a folder. It is found by its name in the entry points of the group ``univae.kinds``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from univae.checkpoint import JsonObject
from univae.checksums import WEIGHTS, read_unchanged
from univae.command_package import load_point
from univae.devices import pick_device
from univae.entry_points import FUNCTIONS, KINDS, points
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["WEIGHTS", "Scoring", "ScoringBatch", "Trained"]

MILLION = 1e6
# Why a kind lacks a method, where the kind itself does not say it.
LACKS = {"impute": "only a table with named columns has missing cells"}

Run = TypeVar("Run", bound="Trained")
KindSpecific: TypeAlias = Any  # what differs from kind to kind of run: arguments and results


class ScoringBatch(NamedTuple):
    """Some of the data to score, as many as fit into memory at once."""

    rows: list[int]  # their numbers among all data
    # the input of the model; where it has more rows, the last are copies that fill the batch
    x: Tensor
    chunk: int | None  # latents of each that are decoded at once; None: the estimator's choice


@dataclass(frozen=True)
class Scoring:
    """Data to score by their likelihood, with the sizes that rates need."""

    count: int
    batches: Iterator[ScoringBatch]
    sizes: Mapping[str, list[int]]  # numbers of tokens, words, ... of every datum
    unit: str  # what a datum is: text, image, row

    def rates(self, log_likelihood: float) -> JsonObject:
        """Return bits per unit from the mean log-likelihood in nats, None where not known."""
        return {}

    def notes(self) -> list[str]:
        """Return what was assumed, and why a rate is not known, a line each."""
        return []


class Trained(ABC):
    """A trained model on its device, with the run folder it was read from.

    ``checkpoint`` is the name of the checkpoint, ``best`` or ``last``. Every kind has the methods
    ``sample``, ``encode``, ``reconstruct``, ``interpolate``, ``edit``, ``impute`` and ``score``;
    those that a kind of model cannot have raise :class:`univae.errors.InputError` with the reason.
    They take lists, NumPy arrays and pandas objects, and return lists, NumPy arrays and, of tables
    with named columns, data frames, without gradients.
    """

    kind: ClassVar[str]  # the command that trains such runs: ``command`` in config.json
    description: ClassVar[str]  # what such a run is of, with its article, for messages
    lacks: ClassVar[Mapping[str, str]] = {}  # why a kind has no such method, by its name

    def __init__(self, folder: RunFolder, device: torch.device, checkpoint: str) -> None:
        self.folder = folder
        self.device = device
        self.checkpoint = checkpoint
        self._saved_step = folder.step(checkpoint)

    @classmethod
    def open(
        cls: type[Run], path: str | Path, device: str = "auto", checkpoint: str = "best"
    ) -> Run:
        """Open a run folder of this kind.

        Args:
            path: the run folder.
            device: ``auto`` (the GPU if there is one) or the name of a device.
            checkpoint: ``best`` or ``last``.

        Raises:
            InputError: the run is of another kind, or a file is missing, damaged or not as it was
                when the checkpoint was saved.
        """
        folder = RunFolder.open(path)
        if not cls.opens(folder):
            raise cls.wrong_kind(path)
        chosen = pick_device(device)
        return read_unchanged(
            lambda: [folder.checkpoint(checkpoint)],
            folder.path,
            lambda: cls.read(RunFolder.open(folder.path), chosen, checkpoint),
        )

    @classmethod
    def opens(cls, folder: RunFolder) -> bool:
        """Return whether a run folder is of this kind."""
        return folder.kind == cls.kind

    @classmethod
    @abstractmethod
    def read(cls: type[Run], folder: RunFolder, device: torch.device, checkpoint: str) -> Run:
        """Read the model, and what using it takes, from a run folder of this kind."""

    @classmethod
    def wrong_kind(cls, path: str | Path) -> InputError:
        """Return the error for a run folder of another kind."""
        return InputError(
            f"{path} is not the run of {cls.description}; give the --out of {cls.kind}"
        )

    def __repr__(self) -> str:
        """Return class, folder, number of parameters, step and checkpoint in one line."""
        modules = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        count = sum(p.numel() for module in modules for p in module.parameters())
        size = f"{count / MILLION:.1f} M" if count >= MILLION / 10 else f"{count:,}"
        parts = [repr(str(self.path)), f"{size} parameters"]
        if self._saved_step is not None:
            parts.append(f"step {self._saved_step}")
        return f"{type(self).__name__}({', '.join([*parts, self.checkpoint])})"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def weights(self) -> Path:
        """The file that the model's weights were read from."""
        return self.folder.checkpoint(self.checkpoint) / WEIGHTS

    @property
    def config(self) -> JsonObject:
        """The configuration that the run was trained with, ``config.json``."""
        return self.folder.config

    @property
    def notes(self) -> list[str]:
        """What was assumed when the folder was opened, a line each."""
        return self.folder.notes

    # Uses of a model. A kind overrides those that it has.

    def sample(self, *args: KindSpecific, **options: KindSpecific) -> KindSpecific:
        """Draw from the model, in the units of its data."""
        raise self.refusal("sample")

    def encode(self, *args: KindSpecific, **options: KindSpecific) -> KindSpecific:
        """Return the latents or vectors of data."""
        raise self.refusal("encode")

    def reconstruct(self, *args: KindSpecific, **options: KindSpecific) -> KindSpecific:
        """Return data, encoded and decoded."""
        raise self.refusal("reconstruct")

    def interpolate(self, *args: KindSpecific, **options: KindSpecific) -> KindSpecific:
        """Return data on the way between two."""
        raise self.refusal("interpolate")

    def edit(self, *args: KindSpecific, **options: KindSpecific) -> KindSpecific:
        """Return data with some latent layers drawn anew."""
        raise self.refusal("edit")

    def impute(self, *args: KindSpecific, **options: KindSpecific) -> KindSpecific:
        """Return a table with its missing cells filled."""
        raise self.refusal("impute")

    def scoring(self, data: KindSpecific, latents: int) -> Scoring:
        """Return the data as batches to score, with ``latents`` latents a datum in memory."""
        raise self.refusal("score")

    def score(
        self, data: KindSpecific, *args: KindSpecific, **options: KindSpecific
    ) -> KindSpecific:
        """Estimate the log-likelihood of every datum: ``density.score(self, data, ...)``.

        Returns:
            density.Scores, see :func:`density.score` for the other arguments.
        """
        return points(FUNCTIONS)["score"].load()(self, data, *args, **options)

    def push(
        self,
        name: str,
        *,
        private: bool = False,
        license: str = "",
        message: str = "",
        keep_card: bool = False,
    ) -> str:
        """Publish the run on the Hugging Face hub, as ``univae push`` does; return its address.

        ``univae.load(name)`` opens it on another machine.

        Args:
            name: the repository, ``org/name``; it is created where it is missing.
            private: only its owner can read a new repository.
            license: of the weights, for the model card: ``mit``, ``cc-by-4.0``, ...
            message: of the commit.
            keep_card: leave the repository's README.md as it is.

        Raises:
            InputError: an export cannot replace a run of this kind; or the hub refuses it.
        """
        push_run = load_point(points(FUNCTIONS)["push"])
        return str(
            push_run(
                self.path,
                name,
                private=private,
                license=license,
                message=message,
                keep_card=keep_card,
            )
        )

    def refusal(self, name: str) -> InputError:
        """Return the error for a method that this kind does not have, with the kinds that do."""
        method = "scoring" if name == "score" else name
        able = []
        for kind, point in points(KINDS).items():
            trained = point.load()
            if getattr(trained, method) is not getattr(Trained, method):
                able.append(kind)
        reason = self.lacks.get(name) or LACKS.get(name, f"{self.description} has no {name}")
        return InputError(
            f"{name}: {reason}; it works on runs of {', '.join(able)}; got {self.path}"
        )
