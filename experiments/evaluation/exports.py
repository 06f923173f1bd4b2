"""The files of a run that using its model needs: those of ``univae export`` and ``univae push``."""

from collections.abc import Callable, Mapping
from pathlib import Path

from univae.checksums import read_unchanged
from univae.exported import exported_files
from univae.run_folder import BEST, LAST, RunFolder

__all__ = ["write_files"]


def write_files(
    folder: RunFolder, write: Callable[[Mapping[str, Path]], object]
) -> dict[str, Path]:
    """Call ``write`` with the files of a run's export by their names in it, and return them.

    They hold the weights of the best validation, those of the last step where no validation was
    finite, and those from before a calibration, which files compressed before it need.

    Args:
        folder: the run.
        write: copies the files; called again where a training replaced them meanwhile.

    Raises:
        InputError: a file has changed since its checkpoint was saved.
    """
    names = [BEST if folder.has_checkpoint(BEST) else LAST, *folder.uncalibrated()]

    def checkpoints() -> dict[str, Path]:
        return {name: folder.checkpoint(name) for name in names}

    def written() -> dict[str, Path]:
        files = exported_files(folder.path, checkpoints())
        write(files)
        return files

    return read_unchanged(lambda: [*checkpoints().values()], folder.path, written)
