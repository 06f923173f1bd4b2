"""Trained models: what :func:`univae.load` returns for every kind of run folder.

A kind is a subclass of :class:`Trained` that says which command trains its runs and reads one from
a folder. It is found by its name in the entry points of the group ``univae.kinds``.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, TypeVar

import torch

from univae.checkpoint import JsonObject
from univae.devices import pick_device
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["Trained"]

WEIGHTS = "model.safetensors"  # in the folder of a checkpoint

Run = TypeVar("Run", bound="Trained")


class Trained(ABC):
    """A trained model on its device, with the run folder it was read from.

    ``checkpoint`` is the name of the checkpoint, ``best`` or ``last``.
    """

    kind: ClassVar[str]  # the command that trains such runs: ``command`` in config.json
    description: ClassVar[str]  # what such a run is of, with its article, for messages

    def __init__(self, folder: RunFolder, device: torch.device, checkpoint: str) -> None:
        self.folder = folder
        self.device = device
        self.checkpoint = checkpoint

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
            InputError: the run is of another kind, or a file is missing or damaged.
        """
        folder = RunFolder.open(path)
        if not cls.opens(folder):
            raise cls.wrong_kind(path)
        return cls.read(folder, pick_device(device), checkpoint)

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
